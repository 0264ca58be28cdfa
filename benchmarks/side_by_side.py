"""What the benchmarks of training steps share: steps that take turns, their ratios, and the file of the result."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch

from kdsr.environment import environment

ROOT = Path(__file__).parents[1]
Step = Callable[[], object]
Round = dict[str, float]


def low_precision() -> str:
    """Return what trains fastest here: bf16, or fp16 on GPUs that have no bf16 (before Ampere)."""
    return 'fp16' if torch.cuda.is_available() and torch.cuda.get_device_capability()[0] < 8 else 'bf16'


def wait() -> None:
    """Wait until the GPU, if there is one, is idle."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def seconds_of(step: Step) -> float:
    """Return what one call takes: on a GPU until it is idle again; on a CPU the process's own time, of one thread."""
    clock = time.perf_counter if torch.cuda.is_available() else time.process_time
    wait()
    start = clock()
    step()
    wait()
    return clock() - start


def take_turns(steps: dict[str, Step], rounds: int, limit: float = float('inf')) -> list[Round]:
    """Time every step once a round, so that a slow moment of the machine meets all of them; the first round is dropped.

    Args:
        steps: Name to step.
        rounds: How many.
        limit: Seconds after which no new round starts (one is always kept).
    """
    start, kept = time.perf_counter(), []
    for i in range(rounds + 1):
        kept.append({name: seconds_of(step) for name, step in steps.items()})
        if i and time.perf_counter() - start > limit:
            break
    return kept[1:]


def spread(rounds: list[Round], name: str) -> str:
    """Return min / median / max of a step's seconds."""
    seconds = [r[name] for r in rounds]
    return f'{min(seconds):.3f} / {statistics.median(seconds):.3f} / {max(seconds):.3f}'


def times_faster(rounds: list[Round], name: str, base: str) -> float:
    """Return how many times the time of `name` that of `base` is: the median over the rounds."""
    return statistics.median(r[base] / r[name] for r in rounds)


def feed(model: object, batch: int, lq_size: int, scale: int = 4) -> None:
    """Give a model of BasicSR a batch of random images."""
    generator = torch.Generator().manual_seed(0)
    lq = torch.rand(batch, 3, lq_size, lq_size, generator=generator)
    model.feed_data({'lq': lq, 'gt': torch.nn.functional.interpolate(lq, scale_factor=scale)})


def parsed(opt: dict) -> dict:
    """Return options as BasicSR's parser leaves them for a run of one process."""
    opt['num_gpu'] = int(torch.cuda.is_available())
    return {**opt, 'is_train': True, 'dist': False, 'rank': 0, 'world_size': 1}


def machine() -> str:
    """Return what the numbers were measured on."""
    facts = environment(torch.cuda.is_available())
    threads = '' if facts['gpu'] else f', {facts["threads"]} thread(s), CPU time'
    when = time.strftime('%Y-%m-%d')
    return f'{facts["device"]}{threads}; torch {facts["torch"]}, kdsr at {facts["commit"]}, {when}.'


def keep(name: str, lines: list[str]) -> Path:
    """Print the result and write it to benchmarks/results/<name>_<device>.md."""
    text = '\n'.join(lines) + '\n'
    print(text)
    device = torch.cuda.get_device_name().replace(' ', '_').lower() if torch.cuda.is_available() else 'cpu'
    path = ROOT / 'benchmarks' / 'results' / f'{name}_{device}.md'
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding='utf-8')
    return path
