"""The same comparisons on a GPU: throughput, memory, share of the peak, waiting for data; in under ten minutes.

    python benchmarks/gpu.py                                    # writes benchmarks/results/gpu_<device>.md

1. Students (EDSR-baseline, RCAN, SwinIR-light): BasicSR's SRModel in fp32 (its convolutions run in TF32, PyTorch's
   default on GPUs that have it) against kdsr's StudentModel; at last, while time remains, compiled as well.
2. Waiting for data: BasicSR's PNG LMDB and kdsr's raw set, beside a batch that is already there.
3. MTKD's stage 2: the released formulation against kdsr's, teachers live and target from memory.
4. Every loss and network against the CPU, and a run of two processes (nccl) where there are two GPUs
   (`gpu_parity.py`).

Without a GPU it says so and does nothing.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch

import kdsr

# isort: split
import gpu_parity
import mtkd_step
import student_step
from basicsr.data import build_dataloader, build_dataset
from basicsr.data.data_sampler import EnlargedSampler
from basicsr.data.prefetch_dataloader import CPUPrefetcher
from data_path import make_sets
from side_by_side import Round, Step, keep, machine, seconds_of, take_turns, times_faster, wait
from torch.utils.flop_counter import FlopCounterMode

from kdsr.distillation.precision import LOW_PRECISIONS

assert kdsr.__version__  # kdsr comes first: it repairs BasicSR's import
DATA = {student_step.BASE: 'BasicSR, PNG LMDB', student_step.BEST: 'kdsr raw, uint8'}


@dataclass
class Settings:
    """How much is measured.

    Attributes:
        students: Name to options, as `student_step.options_of` gives them.
        batch: Samples a step; MTKD's is halved until the released formulation fits.
        lq_size: Of the students.
        mtkd_lq_size: Of MTKD's step.
        rounds: At most.
        limit: Seconds for the rounds of one comparison.
        minutes: After which no network is compiled any more.
        workers: Processes that load data.
        loaded: Batches that are loaded in one measurement.
        networks: Other networks for MTKD, see `mtkd_step.experiment`.
    """

    students: dict[str, dict] = field(
        default_factory=lambda: {
            name: student_step.options_of(file) for name, file in student_step.STUDENTS.items() if name != 'RFDN'
        }
    )
    batch: int = 16
    lq_size: int = 48
    mtkd_lq_size: int = 32
    rounds: int = 20
    limit: float = 25
    minutes: float = 6
    workers: int = 8
    loaded: int = 100
    networks: dict | None = None


def peak_flops(dtype: torch.dtype, size: int) -> float:
    """Return the FLOP/s of a large square matrix product, the median of ten."""
    a, b = (torch.randn(size, size, device=_device()).to(dtype) for _ in range(2))
    seconds = [seconds_of(lambda: a @ b) for _ in range(12)][2:]
    return 2 * size**3 / statistics.median(seconds)


def flops_of(step: Step) -> int:
    """Return the FLOPs of the convolutions and matrix products of one step."""
    with FlopCounterMode(display=False) as counter:
        step()
    return counter.get_total_flops()


def peak_memory(step: Step) -> float | None:
    """Return the MiB of GPU memory at the worst moment of one step, beyond what was held before; None on a CPU."""
    if not torch.cuda.is_available():
        return None
    step()
    wait()
    held = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    step()
    wait()
    return (torch.cuda.max_memory_allocated() - held) / 2**20


def _device() -> torch.device:
    return torch.device('cuda' if torch.cuda.is_available() else 'cpu')


def _mib(memory: float | None) -> str:
    return '-' if memory is None else f'{memory:.0f}'


def _freed() -> None:
    gc.collect()
    torch.cuda.empty_cache()  # does nothing without a GPU


def student_rows(settings: Settings, variants: dict[str, dict], peak: float) -> Iterator[str]:
    """Measure the students one after the other."""
    for student, opt in settings.students.items():
        steps = student_step.steps_of(student_step.models_of(opt, variants, settings.batch, settings.lq_size))
        flops = flops_of(steps[student_step.BASE])
        rounds = take_turns(steps, settings.rounds, settings.limit)
        for name, step in steps.items():
            seconds = statistics.median(r[name] for r in rounds)
            yield (
                f'| {student} | {name} | {1000 * seconds:.1f} | {settings.batch / seconds:.0f} | '
                f'{times_faster(rounds, name, student_step.BASE):.2f} | {_mib(peak_memory(step))} | '
                f'{100 * flops / seconds / peak:.1f} |'
            )
        del steps
        _freed()


def compiled_rows(settings: Settings, peak: float, start: float) -> Iterator[str]:
    """Measure the students compiled, as long as there is time to compile one."""
    for student, opt in settings.students.items():
        if time.perf_counter() - start > 60 * settings.minutes:
            yield f'| {student} | compiled: left out, no time | | | | | |'
            continue
        alone = Settings(**{**vars(settings), 'students': {student: opt}})
        yield from list(student_rows(alone, student_step.COMPILED, peak))[1:]  # BasicSR's has its row already


def _loader(opt: dict, settings: Settings) -> torch.utils.data.DataLoader:
    common = {
        'name': 'benchmark', 'phase': 'train', 'scale': 4, 'gt_size': 4 * settings.lq_size, 'use_hflip': True,
        'use_rot': True, 'batch_size_per_gpu': settings.batch, 'num_worker_per_gpu': settings.workers,
        'pin_memory': torch.cuda.is_available(),
    }  # fmt: skip
    opt = {**common, **{k: str(v) if isinstance(v, Path) else v for k, v in opt.items()}}
    dataset = build_dataset(opt)
    enlarged = (settings.loaded + 1) * settings.batch / len(dataset)
    return build_dataloader(dataset, opt, num_gpu=1, sampler=EnlargedSampler(dataset, 1, 0, ratio=enlarged))


def _loaded_step(model: object, loader: torch.utils.data.DataLoader, count: int) -> float:
    """Return the wall-clock seconds of a step that takes its batch from the loader; the first batches do not count."""
    prefetcher, warm = CPUPrefetcher(loader), count // 5
    start = 0.0
    for i in range(count):
        if i == warm:
            wait()
            start = time.perf_counter()
        model.feed_data(prefetcher.next())
        model.optimize_parameters(2)
    wait()
    return (time.perf_counter() - start) / (count - warm)


def data_rows(settings: Settings, sets: dict[str, dict]) -> Iterator[str]:
    """Measure how much of a step is waiting for data: what it takes longer than on a batch that is already there."""
    student, opt = next(iter(settings.students.items()))
    for variant, data in DATA.items():
        chosen = {k: v for k, v in student_step.VARIANTS.items() if k == variant}
        model = student_step.models_of(opt, chosen, settings.batch, settings.lq_size)[variant]
        same = {'lq': model.lq, 'gt': model.gt}
        there = _loaded_step(model, [same] * settings.loaded, settings.loaded)
        loaded = _loaded_step(model, _loader(sets[data], settings), settings.loaded)
        yield (
            f'| {student}, {variant} | {data} | {settings.batch / there:.0f} | {settings.batch / loaded:.0f} | '
            f'{100 * max(0.0, 1 - there / loaded):.0f} |'
        )


def mtkd_rows(settings: Settings) -> Iterator[str]:
    """Measure MTKD's stage 2 with the largest batch that the released formulation can run."""
    batch = settings.batch
    while True:
        try:
            steps = mtkd_step.steps_of(batch, settings.mtkd_lq_size, settings.networks)
            steps[mtkd_step.RELEASED]()
            break
        except torch.cuda.OutOfMemoryError:
            if batch == 1:
                raise
            steps, batch = {}, batch // 2
            _freed()
    rounds: list[Round] = take_turns(steps, settings.rounds, settings.limit)
    for name, step in steps.items():
        seconds = statistics.median(r[name] for r in rounds)
        yield (
            f'| {name} (batch {batch}) | {1000 * seconds:.1f} | {1 / times_faster(rounds, name, "plain"):.2f} | '
            f'{times_faster(rounds, name, mtkd_step.RELEASED):.1f} | {_mib(peak_memory(step))} |'
        )


def measure(settings: Settings, sets: dict[str, dict], matrix: int = 8192) -> list[str]:
    """Run all comparisons; return the lines of the result.

    Args:
        settings: How much is measured.
        sets: The training sets of `DATA` by name: options for BasicSR's `build_dataset`.
        matrix: Size of the matrices whose product gives the peak.
    """
    start = time.perf_counter()
    low = LOW_PRECISIONS[student_step.LOW]
    fp32, peak = (peak_flops(dtype, matrix) for dtype in (torch.float32, low))
    students = list(student_rows(settings, student_step.VARIANTS, peak))
    data, mtkd = list(data_rows(settings, sets)), list(mtkd_rows(settings))
    _freed()
    students += list(compiled_rows(settings, peak, start))
    minutes = (time.perf_counter() - start) / 60
    return [
        '# Training steps on a GPU',
        '',
        f'{machine()} Written by `python benchmarks/gpu.py` in {minutes:.1f} minutes. A matrix product of {matrix} '
        f'reaches {peak / 1e12:.1f} TFLOP/s in {student_step.LOW} and {fp32 / 1e12:.1f} in fp32.',
        '',
        f'## Students, x4, LR {settings.lq_size}, batch {settings.batch}',
        '',
        '| student | step | ms | images/s | times faster | MiB, peak | % of the product |',
        '|---|---|---|---|---|---|---|',
        *students,
        '',
        f'## Waiting for data, {settings.workers} processes',
        '',
        '| step | data | images/s, batch at hand | images/s, loaded | % waiting |',
        '|---|---|---|---|---|',
        *data,
        '',
        f'## MTKD, stage 2, LR {settings.mtkd_lq_size}',
        '',
        '| step | ms | x plain | under autograd / this | MiB, peak |',
        '|---|---|---|---|---|',
        *mtkd,
        '',
        *gpu_parity.lines(_device(), processes=torch.cuda.device_count() > 1),
    ]


def main() -> None:
    """Measure and write the result, where there is a GPU."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--workers', type=int, default=8)
    parser.add_argument('--minutes', type=float, default=6, help='after which no network is compiled any more')
    args = parser.parse_args()
    if not torch.cuda.is_available():
        print('benchmarks/gpu.py: PyTorch sees no CUDA device here; nothing is measured.')
        return
    torch.backends.cudnn.benchmark = True  # as BasicSR's train_pipeline
    with tempfile.TemporaryDirectory() as folder:
        keep('gpu', measure(Settings(workers=args.workers, minutes=args.minutes), make_sets(Path(folder))))


if __name__ == '__main__':
    main()
