"""`kdsr benchmark --runtime`: the time and the memory of networks, averaged over the images of a test set.

LSFD (Table 1) and PISR (Table 2) print such averages: images of other sizes than 1280x720, one at a time.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from basicsr.utils.color_util import rgb2ycbcr_pt
from torch import Tensor, nn

from kdsr.benchmark.protocol import Protocol, Resources
from kdsr.benchmark.results import Task
from kdsr.benchmark.tasks import choose_input, make_network_runner
from kdsr.cost.live_memory import LiveTensors
from kdsr.cost.on_meta import copy_to_meta
from kdsr.data.benchmark_sets import read_pair
from kdsr.durable import write_durably
from kdsr.environment import processor
from kdsr.markdown import markdown_table
from kdsr.pictures.images import make_batch
from kdsr.wording import counted

WARMUP = 2  # runs on the first image
REPEATS = 3  # timed runs of each image; their median counts


@dataclass(frozen=True)
class SetRuntime:
    """What a network costs on a test set, one image at a time.

    Attributes:
        model, scale, set_name: Of the task.
        seconds: Mean over the images of the median of a few runs.
        memory: Mean over the images of the peak, in bytes, weights included; None where it cannot be counted.
        largest: The largest peak of an image, in bytes; None as `memory`.
    """

    model: str
    scale: int
    set_name: str
    seconds: float
    memory: float | None
    largest: int | None


def measure_runtimes(tasks: Sequence[Task], protocol: Protocol, resources: Resources) -> list[SetRuntime]:
    """Measure every network on every set of a benchmark. Bicubic is left out.

    The time of a run is that of the network alone: images are read and moved to the device before.

    Args:
        tasks: The tasks of a benchmark.
        protocol: How networks are run: tiles and quarters count as they are used.
        resources: The device, and the folder of LR images.
    """
    return [_measure(task, protocol, resources) for task in tasks if task.candidate.network is not None]


@torch.inference_mode()
def _measure(task: Task, protocol: Protocol, resources: Resources) -> SetRuntime:
    candidate, device = task.candidate, torch.device(resources.device)
    network = candidate.network
    assert network is not None
    network.to(device)
    run = make_network_runner(network, candidate, protocol, task.test_set.name)
    seconds, peaks = [], []
    for number, pair in enumerate(task.test_set.pairs):
        lq, gt = read_pair(pair, candidate.scale, resources.lr_cache)
        image = make_batch(choose_input(candidate, lq, gt)).to(device)
        if candidate.luminance:
            image = rgb2ycbcr_pt(image, y_only=True)
        for _ in range(WARMUP if number == 0 else 0):
            run(image)
        seconds.append(statistics.median(_time(run, image, device) for _ in range(REPEATS)))
        peaks.append(_find_peak(run, network, image, device, task, protocol))
    network.cpu()
    known = [peak for peak in peaks if peak is not None]
    return SetRuntime(
        model=candidate.name,
        scale=candidate.scale,
        set_name=task.test_set.name,
        seconds=statistics.fmean(seconds),
        memory=statistics.fmean(known) if known else None,
        largest=max(known) if known else None,
    )


def _time(run: Callable[[Tensor], Tensor], image: Tensor, device: torch.device) -> float:
    if device.type == 'cuda':
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    run(image)
    if device.type == 'cuda':
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def _find_peak(
    run: Callable[[Tensor], Tensor], network: nn.Module, image: Tensor, device: torch.device, task: Task,
    protocol: Protocol,
) -> int | None:  # fmt: skip
    """Return the peak of one run in bytes: the GPU's own, or counted from the tensors that are alive at a time."""
    if device.type == 'cuda':
        torch.cuda.reset_peak_memory_stats(device)
        run(image)
        return torch.cuda.max_memory_allocated(device)
    try:
        skeleton = copy_to_meta(network)
        counter = LiveTensors()
        shape = torch.empty_like(image, device='meta')
        for tensor in (shape, *skeleton.parameters(), *skeleton.buffers()):
            counter.add(tensor)
        dry_run = make_network_runner(skeleton, task.candidate, protocol, task.test_set.name)
        with counter:
            dry_run(shape)
    except (RuntimeError, NotImplementedError, TypeError, ValueError):  # an ONNX file, or an operation without shapes
        return None
    return counter.peak


def describe_runtimes(runtimes: Sequence[SetRuntime], resources: Resources) -> str:
    """Return the measurements and how they were made, as Markdown."""
    device = torch.device(resources.device)
    gpu = device.type == 'cuda'
    where = (
        torch.cuda.get_device_name(device) if gpu else f'{processor()}, {counted(torch.get_num_threads(), "thread")}'
    )
    counting = "the GPU's own peak" if gpu else 'tensors that are alive at a time, without the workspace of kernels'
    rows = [
        [
            f'{one.model} x{one.scale}',
            one.set_name,
            f'{1e3 * one.seconds:.2f} ms',
            *('-' if peak is None else f'{peak / 2**20:.1f} MiB' for peak in (one.memory, one.largest)),
        ]
        for one in runtimes
    ]
    table = markdown_table(['model', 'set', 'time per image', 'peak memory', 'largest peak'], rows, numbers=range(2, 5))
    about = (
        f'* {where}, fp32, one image at a time: mean over the images of the median of {REPEATS} runs, after {WARMUP} '
        f'runs on the first image.\n* Memory with the weights: {counting}; mean over the images, and the largest.'
    )
    return f'# Runtime\n\n{about}\n\n{table}\n'


def write_runtimes(tasks: Sequence[Task], protocol: Protocol, resources: Resources, out: Path) -> str:
    """Measure the networks of a benchmark, write `runtime.md`, and return its text."""
    text = describe_runtimes(measure_runtimes(tasks, protocol, resources), resources)
    write_durably(out / 'runtime.md', text.encode())
    return text
