"""Kill kdsr's other commands at random moments, run them again, and compare with what an undisturbed command makes.

    OMP_NUM_THREADS=1 python benchmarks/stress_commands.py      # writes benchmarks/results/stress_commands_cpu.md

`kdsr prepare` (LMDBs and raw sets), `cache`, `upscale`, `export` and `compare` run in a process of their own, forked
from this one. It gets SIGKILL, SIGTERM or SIGINT after a random time, one to three times, and the same command is run
again each time. Everything must be the same in the end: images and pixels byte by byte, weights bit by bit, no
temporary file, no process that is left over. Anything else ends the script with status 1. `stress_kill.py` does the
same to trainings.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import hashlib
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import kdsr
from kdsr import options

# isort: split
import cv2
import lmdb
import numpy as np
import torch
from side_by_side import keep, machine
from stress_kill import SIGNALS, kinds, prepare, wait

from kdsr.benchmark import scoring as _scoring  # noqa: F401 - imported before forks, which then start at once
from kdsr.cli import main as kdsr_main
from kdsr.comparison import study as _study  # noqa: F401
from kdsr.data import prepare as _prepare  # noqa: F401
from kdsr.data import teacher_cache as _cache  # noqa: F401
from kdsr.deployment import upscaling as _upscaling  # noqa: F401
from kdsr.errors import report_user_errors
from kdsr.export_targets import exporting as _exporting  # noqa: F401

assert kdsr.__version__  # kdsr comes first: it repairs BasicSR's import
PATIENCE = 900  # seconds after which a command counts as stuck, on a machine that does much else
LEAST = 3  # kills of each command, however slow the machine is
GONE = 20.0  # seconds, besides the time of the command, in which its processes must have ended: one may be importing
CUTTING = ['--scale', '2', '--crop-size', '48', '--step', '24', '--workers', '2']


def make_inputs(
    folder: Path, made: str = 'made', side: int = 240, workers: int = 2
) -> dict[str, tuple[list[str], str]]:
    """Write images, weights and option files.

    Args:
        folder: Where they are written, and where the commands run.
        made: Folder that the commands make.
        side: Of the images, in pixels.
        workers: Processes of `kdsr cache`.

    Returns:
        For each command its words, and the folder that it makes.
    """
    prepare(folder)
    rng = np.random.default_rng(1)
    (folder / 'hr').mkdir()
    for i in range(8):
        image = cv2.resize(rng.integers(0, 256, (30, 30, 3), np.uint8), (side, side), interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(folder / 'hr' / f'{i:02d}.png'), image)
    _, opt = kinds(folder).values()
    cached = {**opt, 'distillation': {**opt['distillation'], 'cache': f'{made}/cache.raw'}}
    del cached['distillation']['features'], cached['distillation']['views']
    cached['distillation']['losses'] = {'l_dwt': {'type': 'WaveletLoss'}}
    sets = {'dataroot_gt': str(folder / 'hr'), 'dataroot_lq': str(folder / 'lr')}
    (folder / 'lr').mkdir()
    for path in sorted((folder / 'hr').iterdir()):
        cv2.imwrite(
            str(folder / 'lr' / path.name),
            cv2.resize(cv2.imread(str(path)), (side // 2, side // 2), interpolation=cv2.INTER_AREA),
        )
    cached['datasets'] = {'train': {**opt['datasets']['train'], **sets}}
    (folder / 'cache.yml').write_text(options.dump(cached))
    common = {k: v for k, v in opt.items() if k not in ('name', 'manual_seed', 'distillation', 'model_type')}
    study = {
        'name': 'study', 'seeds': [0], 'baseline': 'alone', 'common': common,
        'runs': {'alone': {'model_type': 'StudentModel'}},
    }  # fmt: skip
    (folder / 'study.yml').write_text(options.dump(study))
    return {
        'prepare, LMDB': (['prepare', 'hr', '--out', made, *CUTTING], made),
        'prepare, raw': (['prepare', 'hr', '--out', made, '--raw', *CUTTING], made),
        'cache': (['cache', 'cache.yml', '--workers', str(workers)], made),
        'upscale': (
            ['upscale', 'hr', '-m', 'rfdn_tiny_x2', '--out', made, '--engine', 'torch', '--skip-existing'], made,
        ),
        'export': (['export', 'rfdn_small_x2', '--out', made, '--formats', 'safetensors'], made),
        'compare': (['compare', 'study.yml', '--workers', '2', '--pictures', '0', '--out', 'report'], 'experiments'),
    }  # fmt: skip


def start(folder: Path, words: list[str], current: Path | None = None) -> int:
    """Run a command in a process group of its own, in a folder that is `current` there; return its number."""
    child = os.fork()
    if child:
        return child
    os.setpgid(0, 0)
    output = os.open(folder / 'output.txt', os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.chdir(current or folder)
    status = 0
    try:
        with report_user_errors():
            kdsr_main(words)
    except SystemExit as error:
        if isinstance(error.code, str):
            os.write(2, error.code.encode())
        status = error.code if isinstance(error.code, int) else 1 if error.code else 0
    except KeyboardInterrupt:
        status = 130
    except BaseException:
        traceback.print_exc()
        status = 99
    os._exit(status)


def wait_until_gone(group: int, seconds: float) -> bool:
    """Return whether all processes of a group have ended in time."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.02)
    return False


def finish(folder: Path, words: list[str], current: Path | None = None) -> float:
    """Run a command to its end; return the seconds it took."""
    began = time.monotonic()
    child = start(folder, words, current)
    status = wait(child, PATIENCE)
    if status != 0:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)
        raise SystemExit(f'{words} did not come to its end ({status}):\n{(folder / "output.txt").read_text()[-4000:]}')
    return time.monotonic() - began


def read_made(folder: Path) -> dict[str, str]:
    """Return a digest of everything that a command made and that must be the same."""
    found = {}
    for path in sorted(folder.rglob('*')):
        name = str(path.relative_to(folder))
        if path.suffix == '.lmdb':
            found[name] = digest(read_lmdb(path))
        elif path.suffix == '.pth':
            found[name] = digest(read_weights(path))
        elif (
            path.is_file() and path.suffix in ('.png', '.bin', '.json', '.txt', '.safetensors') and 'study' not in name
        ):
            found[name] = digest(_leave_out_times(path.read_bytes()))
        if '.partial' in path.name:
            found[f'left over: {name}'] = ''
    return found


def _leave_out_times(content: bytes) -> bytes:
    """Leave out what `kdsr cache` notes about its time; the images must be equal, the time cannot be."""
    return re.sub(rb', "(cpu_)?seconds": [0-9.]+', b'', content)


def digest(content: bytes) -> str:
    """Return a short digest."""
    return hashlib.sha256(content).hexdigest()[:16]


def read_lmdb(path: Path) -> bytes:
    """Return all keys and values of an LMDB. How it lies in the file depends on how it was written."""
    with lmdb.open(str(path), readonly=True, lock=False) as environment, environment.begin() as content:
        return b'\0'.join(b'\0'.join(pair) for pair in content.cursor())


def read_weights(path: Path) -> bytes:
    """Return all names and values of a checkpoint."""
    parts = []
    for key, weights in sorted(torch.load(path, weights_only=True).items()):
        for name, tensor in sorted(weights.items()) if isinstance(weights, dict) else ():
            parts.append(f'{key}.{name}'.encode() + tensor.numpy().tobytes())
    return b''.join(parts)


def disturb(folder: Path, words: list[str], seconds: float, times: int, tally: collections.Counter[str]) -> int:
    """Kill a command, run it again, several times over; return how often it was killed before its end."""
    kills = 0
    for _ in range(times):
        child, number = start(folder, words), random.choice(SIGNALS)
        status = wait(child, random.uniform(0.0, 1.05 * seconds))
        if status is None:
            os.kill(child, number)
            status = wait(child, PATIENCE)
            kills += 1
            tally[signal.Signals(number).name] += 1
        if status is None or not wait_until_gone(child, GONE + seconds):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child, signal.SIGKILL)
            raise SystemExit(f'{words}: processes are left {GONE + seconds:.0f} s after {signal.Signals(number).name}')
        if status == 0:
            break
        output = (folder / 'output.txt').read_text()
        if status not in (-number, 128 + number, 1) or 'Traceback' in output:
            raise SystemExit(f'after {signal.Signals(number).name}, {words} ended with {status}:\n{output[-4000:]}')
    return kills


def stress(
    folder: Path, words: list[str], made: str, enough: Callable[[int], bool]
) -> tuple[int, int, collections.Counter[str]]:
    """Disturb one command until there are kills enough.

    Returns:
        How many results were compared, how many kills there were, and how many of each signal.
    """
    places = [folder / name for name in (made, 'experiments', 'report', 'results')]

    def clear() -> None:
        for place in places:
            shutil.rmtree(place, ignore_errors=True)

    clear()
    finish(folder, words)
    clear()
    seconds, compared, kills, tally = finish(folder, words), 0, 0, collections.Counter()  # everything is in memory now
    expected = read_made(folder / made)
    while not enough(kills):
        clear()
        kills += disturb(folder, words, seconds, random.randint(1, 3), tally)
        finish(folder, words)
        found = read_made(folder / made)
        if found != expected:
            wrong = [name for name in {**expected, **found} if expected.get(name) != found.get(name)]
            raise SystemExit(f'{words}: {", ".join(wrong)} differ from the undisturbed command')
        compared += 1
    return compared, kills, tally


def main() -> None:
    """Kill, run again, compare, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--kills', type=int, default=17, help='of each command')
    parser.add_argument(
        '--minutes', type=float, default=10.0, help='for all commands together; each is killed three times at least'
    )
    parser.add_argument('--seed', type=int, default=0, help='of the moments and the signals')
    parser.add_argument('--only', nargs='+', default=[], metavar='COMMAND')
    args = parser.parse_args()
    random.seed(args.seed)
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    began, lines, total = time.monotonic(), [], 0
    with tempfile.TemporaryDirectory(prefix='kdsr_stress_') as temporary:
        folder = Path(temporary)
        commands = make_inputs(folder)
        chosen = {name: job for name, job in commands.items() if not args.only or name.split(',')[0] in args.only}
        for i, (name, (words, made)) in enumerate(chosen.items()):
            until = began + 60 * args.minutes * (i + 1) / len(chosen)
            compared, kills, tally = stress(
                folder,
                words,
                made,
                lambda kills, until=until: kills >= args.kills or (kills >= LEAST and time.monotonic() > until),
            )
            total += kills
            print(f'{name}: {kills} kills, {compared} results compared', flush=True)
            counts = ' | '.join(str(tally[s.name]) for s in dict.fromkeys(SIGNALS))
            lines.append(f'| {name} | {compared} | {counts} | none |')
    heads = ' | '.join(s.name for s in dict.fromkeys(SIGNALS))
    about = (
        f'{total} kills at random moments; the command was run again and its result compared with that of an '
        f'undisturbed one; {(time.monotonic() - began) / 60:.1f} min. {machine()} Written by `OMP_NUM_THREADS=1 python '
        f'benchmarks/stress_commands.py --kills {args.kills}`.'
    )
    head = [f'| command | compared | {heads} | differences |', '|---|---|---|---|---|---|']
    if not args.only:
        keep('stress_commands', ['# Commands killed and run again', '', about, '', *head, *lines])


if __name__ == '__main__':
    main()
    sys.stdout.flush()
