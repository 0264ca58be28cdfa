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
from tqdm import tqdm

import kdsr
from kdsr.benchmark import report
from kdsr.benchmark.tasks import ImageScore, Place, Protocol, run_on_set
from kdsr.data.benchmark_sets import BenchmarkSet, find_sets
from kdsr.durable import write_durably
from kdsr.errors import UserError
from kdsr.networks.candidates import Candidate, find_candidates
from kdsr.networks.facts import parameters

Say = Callable[[str], None]


@dataclasses.dataclass(frozen=True)
class Result:
    """A candidate's scores on a set.

    Attributes:
        model: Name of the candidate.
        scale: S.
        set_name: Of the set.
        lr_origin: Where the LR images come from.
        source: File of the weights.
        fingerprint: Hash of that file.
        parameters: Of the network; None for bicubic.
        luminance: It is a network of one channel.
        quadrants: Tested in four quarters.
        seconds: That the set took, reading and scoring included.
        images: One by one.
    """

    model: str
    scale: int
    set_name: str
    lr_origin: str
    source: str
    fingerprint: str
    parameters: int | None
    luminance: bool
    quadrants: bool
    seconds: float
    images: tuple[ImageScore, ...]

    @property
    def psnr(self) -> float:
        """Return the mean over the images, in dB."""
        return sum(one.psnr for one in self.images) / len(self.images)

    @property
    def ssim(self) -> float:
        """Return the mean over the images."""
        return sum(one.ssim for one in self.images) / len(self.images)


@dataclasses.dataclass(frozen=True)
class Task:
    """A candidate and a set that it is tested on."""

    one: Candidate
    test_set: BenchmarkSet


def plan(models: Sequence[Candidate], places: Sequence[str]) -> list[Task]:
    """Return what is to be done: each candidate on the given sets, or else on those of its own option file.

    Raises:
        UserError: there is no set, or none at a scale, or their images do not fit.
    """
    by_scale: dict[int, Sequence[BenchmarkSet]] = {}
    tasks = []
    for one in models:
        if places and one.scale not in by_scale:
            by_scale[one.scale] = find_sets(places, one.scale)
        sets = by_scale[one.scale] if places else one.sets
        if not sets:
            raise UserError(f'{one.name} x{one.scale} is to be tested on which sets? Name folders: --sets DIR ...')
        tasks += [Task(one, test_set) for test_set in sets]
    return tasks


def benchmark(
    models: Sequence[str],
    places: Sequence[str],
    out: Path,
    protocol: Protocol,
    place: Place,
    scales: Sequence[int] = (),
    network: str | None = None,
    iteration: str | None = None,
    say: Say = print,
) -> tuple[list[Task], list[Result]]:
    """Test models on sets and write `benchmark.md`, `.csv` and `.json`.

    What is finished is kept in `out/finished` under the hash of everything that it depends on, so that a killed run
    loses one set of one model. (Nothing is taken from there when images are to be written.)

    Args:
        models: See :func:`find_candidates`.
        places: See :func:`find_sets`; the sets of the option files when empty.
        out: Folder, created if missing.
        protocol: How to test.
        place: Where to.
        scales: See :func:`find_candidates`.
        network: See :func:`find_candidates`.
        iteration: See :func:`find_candidates`.
        say: What to do with lines for people.

    Returns:
        What was done, and its results.

    Raises:
        UserError: something is missing or does not fit.
    """
    _check(protocol, place)
    tasks = plan(find_candidates(models, scales, network, iteration), places)
    out.mkdir(parents=True, exist_ok=True)
    results: list[Result] = []
    with _exact_convolutions():
        for number, task in enumerate(tasks, 1):
            kept = _kept(task, protocol, place, out)
            finished = None if place.pictures is not None else _finished(task, kept)
            results.append(finished or _run(task, protocol, place, kept))
            last = results[-1]
            scored = f'{last.psnr:.4f} / {last.ssim:.4f}'
            say(f'[{number}/{len(tasks)}] {last.model} x{last.scale}, {last.set_name}: {scored}')
            if all(later.one.network is not task.one.network for later in tasks[number:]) and task.one.network:
                task.one.network.cpu()
    about = report.About(protocol, place.device)
    write_durably(out / 'benchmark.md', report.markdown(results, about).encode())
    write_durably(out / 'benchmark.csv', report.csv_text(results).encode())
    write_durably(out / 'benchmark.json', report.json_text(results, about).encode())
    return tasks, results


def _check(protocol: Protocol, place: Place) -> None:
    if protocol.tile < 0 or protocol.border(0) < 0 or place.workers < 0:
        raise UserError('--tile, --crop-border and --workers are numbers from 0.')
    if protocol.tile and protocol.quadrants:
        raise UserError('--quadrants and --tile are two ways to cut an image: choose one.')
    if torch.device(place.device).type == 'cuda' and not torch.cuda.is_available():
        raise UserError(f'--device {place.device}: PyTorch sees no GPU here.')


@contextlib.contextmanager
def _exact_convolutions() -> Iterator[None]:
    """Compute convolutions in whole single precision: TF32, a GPU's default, changes the third decimal of PSNR."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


def _run(task: Task, protocol: Protocol, place: Place, kept: Path) -> Result:
    one, test_set = task.one, task.test_set
    if place.pictures is not None:
        folder = f'{one.name}_x{one.scale}'.replace('/', '_')
        place = dataclasses.replace(place, pictures=place.pictures / folder / test_set.name)
    start = time.perf_counter()
    title = f'{one.name} x{one.scale}, {test_set.name}'
    with tqdm(total=len(test_set.pairs), desc=title, unit='image', leave=False) as bar:
        images = tuple(run_on_set(one, test_set, protocol, place, bar))
    result = Result(
        one.name,
        one.scale,
        test_set.name,
        test_set.lr_origin,
        one.source,
        one.fingerprint,
        parameters(one.network) if one.network is not None else None,
        one.luminance,
        one.network is not None and protocol.in_quadrants(one, test_set.name),
        time.perf_counter() - start,
        images,
    )
    kept.parent.mkdir(exist_ok=True)
    write_durably(kept, json.dumps(dataclasses.asdict(result)).encode())
    return result


def _kept(task: Task, protocol: Protocol, place: Place, out: Path) -> Path:
    """Return the file that keeps a task's result: named by all that the numbers depend on."""
    one, test_set = task.one, task.test_set
    depends: dict[str, Any] = {
        'code': _code(),
        'torch': torch.__version__,
        'device': torch.device(place.device).type,
        'protocol': dataclasses.asdict(protocol),
        'network': dict(one.network_opt),
        'weights': one.fingerprint,
        'quadrants': protocol.in_quadrants(one, test_set.name),
        'set': test_set.fingerprint(),
        'scale': one.scale,
    }
    key = hashlib.sha256(json.dumps(depends, sort_keys=True, default=str).encode()).hexdigest()
    return out / 'finished' / f'{key[:32]}.json'


@functools.lru_cache(maxsize=1)
def _code() -> str:
    """Return a hash of kdsr's own files: other code may give other numbers."""
    digest = hashlib.sha256()
    for path in sorted(Path(kdsr.__file__).parent.rglob('*.py')):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _finished(task: Task, kept: Path) -> Result | None:
    if not kept.is_file():
        return None
    try:
        content = json.loads(kept.read_text(encoding='utf-8'))
        content['images'] = tuple(ImageScore(**one) for one in content['images'])
        content.update(model=task.one.name, set_name=task.test_set.name, source=task.one.source)
        return Result(**content)
    except (ValueError, KeyError, TypeError):  # damaged: tested anew
        return None
