"""Train with every loss and model in turn, for long, and show that memory, open files and threads stay flat.

    OMP_NUM_THREADS=1 python benchmarks/soak.py --minutes 30 --processes 2   # writes benchmarks/results/soak_cpu.md

Each process goes round the methods until the time is over. A turn is a whole training through BasicSR's pipeline, with
a loader process, validations and checkpoints; what the process holds is read after it. The first round is warm-up.
Of the rest a line is fitted for every method: what it has more of in the last round than in the first.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import gc
import json
import logging
import os
import shutil
import sys
import tempfile
import threading
import time
import traceback
from pathlib import Path

import kdsr
from kdsr import options

# isort: split
import cv2
import numpy as np
import torch
from basicsr.archs import build_network
from basicsr.train import train_pipeline
from basicsr.utils.logger import initialized_logger
from side_by_side import keep, machine
from stress_kill import kinds, prepare

from kdsr.data.teacher_cache import make_cache

assert kdsr.__version__  # kdsr comes first: it repairs BasicSR's import
ITERATIONS, WARM_UP, FITTED = 6, 1, 2  # a line needs two rounds
ON_IMAGES = {
    'ResponseLoss': {}, 'WaveletLoss': {}, 'DCTLoss': {}, 'FFTLoss': {}, 'CSDLoss': {'extractor': 'identity'},
}  # fmt: skip
ON_FEATURES = {
    'FitNetLoss': {}, 'AttentionTransferLoss': {}, 'FAKDLoss': {}, 'VIDLoss': {}, 'LSFDLoss': {},
    'FACDLoss': {'layer_weights': [0.6, 0.4]},
}  # fmt: skip
DCTSWIN = {
    'type': 'DCTSwin', 'upscale': 2, 'num_teachers': 2, 'embed_dim': 8, 'depths': [2], 'num_heads': 2,
    'window_size': 4, 'num_feat': 8,
}  # fmt: skip
DECODER = {'type': 'FSRCNN', 'num_feat': 8, 'num_shrink': 4, 'num_map': 1}
PRIVILEGED = {'type': 'PISRTeacher', 'upscale': 2, 'decoder': DECODER, 'num_feat': 8, 'num_shrink': 4}
KINDS = ('resident MiB', 'open files', 'threads')


def methods(folder: Path) -> dict[str, dict]:
    """Return the options of a training with every method."""
    plain, distilled = (copy.deepcopy(opt) for opt in kinds(folder).values())
    for opt in (plain, distilled):
        opt['train']['total_iter'] = ITERATIONS
        opt['datasets']['train']['num_worker_per_gpu'] = 1
    block = distilled['distillation']
    taps = {name: {'student': f'body.{i}', 'teacher': f'body.{i}'} for i, name in enumerate('fg')}
    logged = {'print_freq': 1, 'save_checkpoint_freq': 2}
    found = {'student alone': plain, 'BasicSR alone': {**plain, 'model_type': 'SRModel', 'logger': logged}}
    views = {'in': {'type': 'ZoomIn', 'count': 2}, 'out': {'type': 'ZoomOut'}}
    for loss, args in {**ON_IMAGES, **ON_FEATURES}.items():
        own = {**block, 'losses': {'l_own': {'type': loss, **args}}, 'features': taps, 'views': None}
        if loss in ON_IMAGES:
            del own['features']
        found[loss] = {**distilled, 'distillation': {k: v for k, v in own.items() if v is not None}}
    images = {k: v for k, v in found['ResponseLoss']['distillation'].items() if k != 'views'}
    found['views'] = {**distilled, 'distillation': {**images, 'views': views}}
    found['cached'] = {**distilled, 'distillation': {**images, 'cache': str(folder / 'cache.raw')}}
    two = [{**block['teachers'][0], 'name': name} for name in ('one', 'two')]
    first = {'health_check': False, 'teachers': two}
    found['aggregator'] = {
        **plain, 'model_type': 'AggregationModel', 'network_g': DCTSWIN, 'distillation': first,
    }  # fmt: skip
    aggregated = {**images, 'teachers': two, 'aggregator': {'network': DCTSWIN, 'path': str(folder / 'aggregator.pth')}}
    found['aggregated teachers'] = {**distilled, 'distillation': aggregated}
    imitation = {'type': 'L1Loss', 'loss_weight': 1e-4, 'reduction': 'mean'}
    found['privileged teacher'] = {
        **plain, 'model_type': 'PrivilegedTeacherModel', 'color': 'y', 'network_g': PRIVILEGED,
        'train': {**plain['train'], 'imitation_opt': imitation},
    }  # fmt: skip
    return copy.deepcopy(found)


def train(folder: Path, opt: dict) -> None:
    """Train in this process, with the words of its log left out."""
    shutil.rmtree(folder / 'experiments', ignore_errors=True)
    file = folder / 'run.yml'
    file.write_text(options.dump(opt))
    sys.argv = ['train.py', '-opt', str(file)]
    try:
        with open(os.devnull, 'w') as quiet, contextlib.redirect_stdout(quiet), contextlib.redirect_stderr(quiet):
            train_pipeline(str(folder))
    finally:
        initialized_logger.clear()  # the next run's log goes to its own file
        logger = logging.getLogger('basicsr')
        for handler in list(logger.handlers):
            handler.close()
            logger.removeHandler(handler)


def held() -> tuple[float, int, int]:
    """Return what this process holds: memory in MiB, open files, threads."""
    gc.collect()
    pages = int(Path('/proc/self/statm').read_text().split()[1])
    return pages * os.sysconf('SC_PAGE_SIZE') / 2**20, len(os.listdir('/proc/self/fd')), threading.active_count()


def work(folder: Path, seconds: float) -> None:
    """Go round the methods until the time is over, and note what is held after each turn."""
    folder.mkdir()
    os.chdir(folder)
    torch.manual_seed(0)
    prepare(folder)
    torch.save({'params': build_network(dict(DCTSWIN)).state_dict(), 'teachers': ['one', 'two']}, 'aggregator.pth')
    trainings, until = methods(folder), time.monotonic() + seconds
    make_cache({**trainings['cached'], 'is_train': True}, progress=False)
    with Path('held.jsonl').open('w') as notes:
        while time.monotonic() < until:
            for name, opt in trainings.items():
                train(folder, opt)
                notes.write(json.dumps([name, *held()]) + '\n')
                notes.flush()


def start(folder: Path, seconds: float) -> int:
    """Start :func:`work` in a process of its own; return its number."""
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        work(folder, seconds)
        status = 0
    except BaseException:
        traceback.print_exc()
    os._exit(status)


def growth(values: list[float]) -> float:
    """Return how much a line through the values rises from the first to the last."""
    return float(np.polyfit(np.arange(len(values)), values, 1)[0]) * (len(values) - 1) if len(values) > 1 else 0.0


def report(folders: list[Path]) -> tuple[list[str], int]:
    """Return a table of all methods, and how many trainings there were."""
    rows, count = [], 0
    per_process = []
    for folder in folders:
        notes = [json.loads(line) for line in (folder / 'held.jsonl').read_text().splitlines()]
        count += len(notes)
        per_process.append(
            {name: [n[1:] for n in notes if n[0] == name][WARM_UP:] for name in dict.fromkeys(n[0] for n in notes)}
        )
    if any(len(turns) < FITTED for process in per_process for turns in process.values()):
        raise SystemExit(f'fewer than {WARM_UP + FITTED} rounds of all methods: give it more --minutes')
    for name in per_process[0]:
        own = [process[name] for process in per_process]
        cells = []
        for kind in range(len(KINDS)):
            series = [[held[kind] for held in one] for one in own]
            worst = max((growth(one) for one in series), key=abs)
            cells.append(f'{max(map(max, series)):.0f} | {worst + 0.0:+.1f}')
        rows.append(f'| {name} | {min(map(len, own))} | {" | ".join(cells)} |')
    return rows, count


def write(folders: list[Path], minutes: float) -> None:
    """Write the result."""
    rows, count = report(folders)
    about = (
        f'{count} trainings of {ITERATIONS} iterations in {len(folders)} processes, {minutes:g} minutes and the rest '
        'of the last round. The most that a process held after a training with the method, and the rise of a line '
        f'fitted to its rounds after {WARM_UP} of warm-up, from the first to the last: the larger of the processes. '
        f'{machine()} Written by `OMP_NUM_THREADS=1 python benchmarks/soak.py --minutes {minutes:g} '
        f'--processes {len(folders)}`.'
    )
    heads = ' | '.join(f'{kind} | rise' for kind in KINDS)
    keep('soak', ['# Memory, files and threads over time', '', about, '', f'| method | rounds | {heads} |',
                  f'|---|---|{"---|" * 2 * len(KINDS)}', *rows])  # fmt: skip


def main() -> None:
    """Soak, fit, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--minutes', type=float, default=30.0)
    parser.add_argument('--processes', type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    with tempfile.TemporaryDirectory(prefix='kdsr_soak_') as temporary:
        folders = [Path(temporary) / str(i) for i in range(args.processes)]
        children = [start(folder, 60 * args.minutes) for folder in folders]
        ended = [os.waitpid(child, 0)[1] for child in children]
        if any(ended):
            raise SystemExit(f'a process did not come to its end: {ended}')
        write(folders, args.minutes)


if __name__ == '__main__':
    main()
