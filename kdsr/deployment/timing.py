"""How fast the same network is in several runtimes, side by side."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from kdsr.environment import processor
from kdsr.wording import counted

WARMUP = 2


def time_in_turns(
    runners: Mapping[str, Callable[[Tensor], Tensor]],
    image: Tensor,
    repeats: int,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, tuple[float, float]]:
    """Run each once, in turns, so that what else the machine does meets all of them.

    Args:
        runners: Name to what maps (N, C, h, w) to a larger image; the first is what others are compared with.
        image: (N, C, h, w).
        repeats: Turns, after two that do not count.
        clock: Returns seconds; `time.process_time` on one thread leaves out what other processes take.

    Returns:
        Name to (median seconds, median over the turns of the first one's seconds divided by its own).
    """
    seconds: dict[str, list[float]] = {name: [] for name in runners}
    for _ in range(WARMUP + repeats):
        for name, run in runners.items():
            start = clock()
            with torch.inference_mode():
                run(image)
            seconds[name].append(clock() - start)
    kept = {name: values[WARMUP:] for name, values in seconds.items()}
    first = next(iter(kept.values()))
    return {
        name: (statistics.median(values), statistics.median(a / b for a, b in zip(first, values)))
        for name, values in kept.items()
    }


def format_timing(times: Mapping[str, tuple[float, float]], image: Tensor, repeats: int) -> str:
    """Return a Markdown table of what :func:`time_in_turns` measured, with the machine."""
    _, _, height, width = image.shape
    first = next(iter(times))
    lines = [f'| runtime | ms | times as fast as {first} |', '|---|---|---|']
    lines += [f'| {name} | {1000 * seconds:.1f} | {ratio:.2f} |' for name, (seconds, ratio) in times.items()]
    where = f'{processor()}, {counted(torch.get_num_threads(), "thread")}'
    return '\n'.join(
        [*lines, '', f'One image of {height}x{width}; {where}; in turns, median of {repeats} after {WARMUP}.']
    )
