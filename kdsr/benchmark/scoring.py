"""`kdsr benchmark`: PSNR and SSIM of networks on test sets, with the protocol that the numbers depend on."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

import kdsr
from kdsr.benchmark import report
from kdsr.benchmark.protocol import Protocol, Resources
from kdsr.benchmark.results import ImageScore, SetScores, Task
from kdsr.benchmark.tasks import run_on_set
from kdsr.data.benchmark_sets import BenchmarkSet, find_sets
from kdsr.durable import write_durably
from kdsr.errors import UserError
from kdsr.foreign import parse_json
from kdsr.foreign.kinds import SET_SCORES
from kdsr.networks.candidates import Candidate, find_candidates
from kdsr.networks.experiment_candidates import find_sets_of_file
from kdsr.networks.facts import count_parameters
from kdsr.networks.onnx_network import OnnxNetwork
from kdsr.papers.rows import find_decimals
from kdsr.progress_bars import ProgressBar
from kdsr.pyiqa_facts import PYIQA
from kdsr.pyiqa_metric import prepare_metrics, read_pyiqa_version


def plan_tasks(candidates: Sequence[Candidate], folders: Sequence[str]) -> list[Task]:
    """Return the tasks: every candidate on the sets in `folders`, or on the sets of its option file.

    Args:
        candidates: What is scored.
        folders: Folders of test sets, and option files that name some; when empty, each candidate's own sets are taken.

    Raises:
        UserError: a candidate has no set, a folder has none at its scale, or images do not fit together.
    """
    found: dict[int, Sequence[BenchmarkSet]] = {}
    tasks = []
    for candidate in candidates:
        scale = candidate.scale
        if folders and scale not in found:
            found[scale] = [s for place in folders for s in _find_sets(place, scale)]
        test_sets = found[scale] if folders else candidate.sets
        if not test_sets:
            raise UserError(f'{candidate.name} x{scale} has no test sets: name their folders with --sets DIR ...')
        tasks += [Task(candidate, test_set) for test_set in test_sets]
    return tasks


def _find_sets(place: str, scale: int) -> Sequence[BenchmarkSet]:
    is_file = place.lower().endswith(('.yml', '.yaml'))
    return find_sets_of_file(place, scale) if is_file else find_sets([place], scale)


def benchmark(
    models: Sequence[str],
    sets: Sequence[str],
    out: Path,
    protocol: Protocol,
    resources: Resources,
    *,
    scales: Sequence[int] = (),
    network: str | None = None,
    iteration: str | None = None,
    teachers: bool = False,
    decimals: int | None = None,
    overrides: Sequence[str] = (),
    say: Callable[[str], None] = print,
) -> tuple[list[Task], list[SetScores]]:
    """Score models on test sets and write `benchmark.md`, `.csv` and `.json`.

    Finished results are kept in `out/finished`, under a hash of everything that they depend on. A killed run loses at
    most one set of one model. When images are to be written, every task runs again.

    Args:
        models: See :func:`find_candidates`.
        sets: Folders, see :func:`find_sets`, and option files; when empty, the sets of the option files.
        out: Folder for the results, created if missing.
        protocol: How networks are run and scored.
        resources: Device, threads and folders to use.
        scales: See :func:`find_candidates`.
        network: See :func:`find_candidates`.
        iteration: See :func:`find_candidates`.
        teachers: See :func:`find_candidates`.
        decimals: Of PSNR in the table; None takes those of the papers whose option files are scored, at least 2.
        overrides: See :func:`find_candidates`.
        say: Receives one line for each finished task.

    Returns:
        The tasks, and their results in the same order.

    Raises:
        UserError: something is missing or does not fit.
    """
    _check(protocol, resources)
    tasks = plan_tasks(find_candidates(models, scales, network, iteration, teachers, overrides), sets)
    out.mkdir(parents=True, exist_ok=True)
    results: list[SetScores] = []
    with _disable_tf32():
        for number, task in enumerate(tasks, 1):
            kept = _name_kept_file(task, protocol, resources, out)
            finished = None if resources.pictures is not None else _read_finished(task, kept)
            results.append(finished or _run(task, protocol, resources, kept))
            last = results[-1]
            others = ''.join(f' / {name} {last.mean_of(name):.4f}' for name in protocol.metrics)
            scores = f'{last.psnr:.4f} / {last.ssim:.4f}{others}'
            say(f'[{number}/{len(tasks)}] {last.model} x{last.scale}, {last.set_name}: {scores}')
            warning = report.warn_if_below_bicubic(last)
            if warning:
                say(f'WARNING: {warning}')
            network_of_task = task.candidate.network
            if network_of_task and all(later.candidate.network is not network_of_task for later in tasks[number:]):
                network_of_task.cpu()
    about = report.About(protocol, resources.device, decimals or find_decimals(models))
    write_durably(out / 'benchmark.md', report.format_markdown(results, about).encode())
    write_durably(out / 'benchmark.csv', report.format_csv(results).encode())
    write_durably(out / 'benchmark.json', report.format_json(results, about).encode())
    return tasks, results


def _check(protocol: Protocol, resources: Resources) -> None:
    if protocol.tile < 0 or protocol.border(0) < 0 or resources.workers < 0:
        raise UserError('--tile, --crop-border and --workers must be 0 or more.')
    if protocol.tile and protocol.quadrants:
        raise UserError('--quadrants and --tile are two ways to cut an image: choose one.')
    for name, problem in prepare_metrics(protocol.metrics):
        raise UserError(f'--metrics {name}: {problem}')
    if torch.device(resources.device).type == 'cuda' and not torch.cuda.is_available():
        raise UserError(f'--device {resources.device}: PyTorch finds no GPU on this machine.')


@contextlib.contextmanager
def _disable_tf32() -> Iterator[None]:
    """Switch TF32 off, a GPU's default for convolutions: it changes the third decimal of PSNR."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


def _run(task: Task, protocol: Protocol, resources: Resources, kept: Path) -> SetScores:
    """Run one task and keep its result."""
    candidate, test_set = task.candidate, task.test_set
    if resources.pictures is not None:
        folder = f'{candidate.name}_x{candidate.scale}'.replace('/', '_')
        resources = dataclasses.replace(resources, pictures=resources.pictures / folder / test_set.name)
    start = time.perf_counter()
    title = f'{candidate.name} x{candidate.scale}, {test_set.name}'
    with ProgressBar(total=len(test_set.pairs), desc=title, unit='image', leave=False) as bar:
        images = tuple(run_on_set(candidate, test_set, protocol, resources, bar))
    result = SetScores(
        model=candidate.name,
        scale=candidate.scale,
        set_name=test_set.name,
        lr_origin=test_set.lr_origin,
        crop=test_set.find_crop(),
        source=candidate.source,
        fingerprint=candidate.fingerprint,
        parameters=_count_parameters(candidate),
        luminance=candidate.luminance,
        quadrants=candidate.network is not None and protocol.in_quadrants(candidate, test_set.name),
        seconds=time.perf_counter() - start,
        images=images,
        privileged=candidate.input == 'gt',
    )
    kept.parent.mkdir(exist_ok=True)
    write_durably(kept, json.dumps(dataclasses.asdict(result)).encode())
    return result


def _count_parameters(candidate: Candidate) -> int | None:
    """Return the number of parameters; None for bicubic, and for ONNX files that do not state it."""
    if isinstance(candidate.network, OnnxNetwork):
        return candidate.network.stated_parameters
    return None if candidate.network is None else count_parameters(candidate.network)


def _name_kept_file(task: Task, protocol: Protocol, resources: Resources, out: Path) -> Path:
    """Return the file that keeps a result. Its name is a hash of everything that the numbers depend on."""
    candidate, test_set = task.candidate, task.test_set
    depends: dict[str, Any] = {
        'code': _hash_of_code(),
        'torch': torch.__version__,
        'device': torch.device(resources.device).type,
        'protocol': dataclasses.asdict(protocol),
        'network': dict(candidate.network_opt),
        'weights': candidate.fingerprint,
        'input': candidate.input,
        'quadrants': protocol.in_quadrants(candidate, test_set.name),
        'set': test_set.fingerprint(),
        'scale': candidate.scale,
    }
    if any(metric['type'] == PYIQA for metric in protocol.metrics.values()):
        depends['pyiqa'] = read_pyiqa_version()
    key = hashlib.sha256(json.dumps(depends, sort_keys=True, default=str).encode()).hexdigest()
    return out / 'finished' / f'{key[:32]}.json'


@functools.lru_cache(maxsize=1)
def _hash_of_code() -> str:
    """Return a hash of kdsr's own files, because other code may give other numbers."""
    digest = hashlib.sha256()
    for path in sorted(Path(kdsr.__file__).parent.rglob('*.py')):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _read_finished(task: Task, kept: Path) -> SetScores | None:
    """Return the result that a file keeps; None where there is none or it is damaged, so that the task runs again."""
    if not kept.is_file():
        return None
    try:
        content = parse_json(kept.read_bytes(), SET_SCORES)
        content['images'] = tuple(ImageScore(**image) for image in content['images'])
        content.update(model=task.candidate.name, set_name=task.test_set.name, source=task.candidate.source)
        return SetScores(**content)
    except (ValueError, KeyError, TypeError):
        return None
