"""How long a test set takes: metrics after every image, as BasicSR validates, against `kdsr benchmark`.

    OMP_NUM_THREADS=1 python benchmarks/scoring.py datasets/Set14     # writes benchmarks/results/scoring_<device>.md

The networks have random weights, which does not matter here. The ways take turns; the smallest
time of all rounds counts.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import kdsr

# isort: split
import torch
from basicsr.archs import build_network
from basicsr.metrics import calculate_psnr, calculate_ssim
from basicsr.utils import tensor2img
from side_by_side import keep, machine

from kdsr.benchmark.protocol import Protocol, Resources
from kdsr.benchmark.tasks import make_super_resolver, run_on_set
from kdsr.data.benchmark_sets import BenchmarkSet, find_sets, read_pair
from kdsr.metrics import score
from kdsr.networks.candidates import Candidate

assert kdsr.__version__  # kdsr comes first: it repairs BasicSR's import
NETWORKS = {
    'FSRCNN (RGB)': {'type': 'FSRCNN', 'upscale': 4, 'num_in_ch': 3, 'num_out_ch': 3},
    'E-RFDN': {'type': 'RFDN', 'upscale': 4, 'num_feat': 50, 'num_block': 4, 'block': 'e_rfdb'},
}


def basicsr_scores(image: object, gt: object, border: int) -> tuple[float, float]:
    """Return BasicSR's numbers."""
    settings = {'crop_border': border, 'test_y_channel': True}
    return calculate_psnr(image, gt, **settings), calculate_ssim(image, gt, **settings)


def in_turn(one: Candidate, test_set: BenchmarkSet, resources: Resources, metrics: Callable | None) -> list:
    """Read, run and score one image after another; None for no metrics."""
    super_resolve = make_super_resolver(one, Protocol(), test_set.name, torch.device(resources.device))
    scores = []
    for pair in test_set.pairs:
        lq, gt = read_pair(pair, one.scale, resources.lr_cache)
        image = tensor2img(super_resolve(lq))
        scores.append(metrics(image, gt, one.scale) if metrics else None)
    return scores


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Return wall-clock and processor seconds of one call."""
    wall, processor = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - processor


def rows_of(name: str, test_set: BenchmarkSet, resources: Resources, rounds: int) -> list[str]:
    """Return the table's lines of a network."""
    network = build_network(NETWORKS[name]).eval()
    one = Candidate(name, 4, network)
    ways = {
        'no metrics': partial(in_turn, one, test_set, resources, None),
        "BasicSR's metrics, in turn": partial(in_turn, one, test_set, resources, basicsr_scores),
        "kdsr's metrics, in turn": partial(in_turn, one, test_set, resources, score),
        f'kdsr benchmark, {resources.workers} threads': partial(run_on_set, one, test_set, Protocol(), resources),
    }
    for work in ways.values():
        work()
    seconds = [{way: timed(work) for way, work in ways.items()} for _ in range(rounds)]
    lines = []
    for way in ways:
        wall, processor = (min(row[way][i] for row in seconds) for i in (0, 1))
        lines.append(f'| {name} | {way} | {wall:.2f} | {processor:.2f} |')
    return lines


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('set', help='folder of a test set')
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    parser.add_argument('--networks', nargs='+', choices=list(NETWORKS), default=list(NETWORKS))
    parser.add_argument('--rounds', type=int, default=3)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        resources = Resources(args.device, lr_cache=Path(folder))
        (test_set,) = find_sets([args.set], 4)
        rows = [row for name in args.networks for row in rows_of(name, test_set, resources, args.rounds)]
    keep(
        'scoring',
        [
            '# A test set with and without waiting for the metrics',
            '',
            f'{test_set.name} x4, {len(test_set.pairs)} images, PSNR and SSIM on Y; least of {args.rounds} rounds. '
            f'{machine()} Load average {os.getloadavg()[0]:.1f}: seconds are fair only when it is about 1. '
            f'Written by `OMP_NUM_THREADS=1 python benchmarks/scoring.py datasets/{test_set.name}`.',
            '',
            '| network | metrics | seconds | processor seconds |',
            '|---|---|---:|---:|',
            *rows,
        ],
    )


if __name__ == '__main__':
    main()
