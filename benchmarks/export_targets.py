"""What each network gives in each target of `kdsr export`: does it work, how exact, how large, how fast, how good?

    OMP_NUM_THREADS=1 python benchmarks/export_targets.py datasets/Set5 [--models ...] [--size 240 320] [--repeats 5]

Writes benchmarks/results/export_targets_cpu.md. Targets whose packages are missing are left out and named.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

import kdsr

# isort: split
import numpy as np
import torch
from side_by_side import keep, machine
from torch import Tensor

from kdsr import zoo
from kdsr.data.benchmark_sets import find_sets, read_pair
from kdsr.deployment.sources import make_card, read_model
from kdsr.deployment.timing import time_in_turns
from kdsr.deployment.verification import random_images, verify
from kdsr.errors import UserError
from kdsr.export_targets.making import Made, Maker
from kdsr.export_targets.targets import TARGETS
from kdsr.markdown import markdown_table
from kdsr.metrics import score

assert kdsr.__version__  # kdsr comes first: it repairs BasicSR's import
Run = Callable[[Tensor], Tensor]


def psnr_of(run: Run, scale: int, test_set: str, lr_cache: Path) -> float:
    """Return the mean PSNR on Y in dB of what maps RGB to RGB, S pixels left out at the border."""
    found = []
    for one in find_sets([test_set], scale):
        for pair in one.pairs:
            given, gt = read_pair(pair, scale, lr_cache)
            image = torch.from_numpy(np.ascontiguousarray(given[..., ::-1].transpose(2, 0, 1)))[None].float() / 255
            with torch.no_grad():
                large = (run(image)[0].clamp(0, 1) * 255).round().byte().numpy()
            found.append(score(np.ascontiguousarray(large[::-1].transpose(1, 2, 0)), gt, scale)[0])
    return float(np.mean(found))


def rows_of(model: str, test_set: str, size: tuple[int, int], repeats: int) -> list[list[str]]:
    """Return a row for each target of a network."""
    one, card = read_model(model)
    card = card or make_card(one, model)
    maker = Maker(one, card, None)
    made: dict[str, Made | str] = {}
    for target in TARGETS:
        if TARGETS[target].missing():
            continue
        try:
            made[target] = maker.make(target)[0]
        except UserError as error:
            made[target] = str(error).split('. ')[0]
    runs: dict[str, Run] = {'PyTorch': maker.in_rgb(maker.original(rgb=False))}
    differences = {'PyTorch': '0'}
    for target, files in made.items():
        if isinstance(files, str) or files.run is None:
            continue
        rgb = TARGETS[target].rgb
        clamped = (lambda image, run=files.run: run(image).clamp(0, 1)) if rgb and maker.channels == 1 else files.run
        images = random_images(3 if rgb else maker.channels, None)
        try:
            found = verify(target, clamped, maker.original(rgb), images, files.tolerance)
        except UserError as error:
            made[target] = str(error).split('. ')[0]
            continue
        differences[target] = f'{max(one.largest for one in found):.1e}'
        runs[target] = files.run if rgb else maker.in_rgb(files.run)
    times = time_in_turns(runs, torch.rand((1, 3, *size)), repeats)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        scores = {name: f'{psnr_of(run, card.scale, test_set, Path(folder)):.3f}' for name, run in runs.items()}
    for target in ('PyTorch', *made):
        files = made.get(target)
        if isinstance(files, str):
            rows.append([card.name, target, files, '', '', '', '', ''])
            continue
        size_mb = '' if files is None else f'{sum(map(len, files.files.values())) / 1e6:.2f} MB'
        seconds, ratio = times.get(target, (0.0, 0.0))
        measured = [f'{1000 * seconds:.0f}', f'{ratio:.2f}', scores[target]] if target in runs else ['', '', '']
        rows.append([card.name, target, 'yes', differences.get(target, ''), size_mb, *measured])
    return rows


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('set', help='folder of a test set')
    parser.add_argument('--models', nargs='+', default=list(zoo.list_names()))
    parser.add_argument('--size', type=int, nargs=2, default=[240, 320], metavar=('H', 'W'))
    parser.add_argument('--repeats', type=int, default=5)
    args = parser.parse_args()
    rows = [row for model in args.models for row in rows_of(model, args.set, tuple(args.size), args.repeats)]
    head = ['network', 'target', 'works', 'largest error', 'size', 'ms', 'times as fast as PyTorch', 'PSNR']
    left_out = [name for name, target in TARGETS.items() if target.missing()]
    height, width = args.size
    about = (
        'Largest error: against PyTorch on noise of five sizes, images in [0, 1]. ms: an RGB image of '
        f'{height}x{width} pixels, colour conversions included, in turns, wall time, median of {args.repeats}. PSNR '
        f'on Y in dB, {Path(args.set).name}. The web page is measured in onnxruntime, not in '
        f'a browser. Not installed and left out: {", ".join(left_out) or "none"}. {machine().replace(", CPU time", "")}'
    )
    keep('export_targets', ['# Targets of kdsr export', '', about, '', markdown_table(head, rows)])


if __name__ == '__main__':
    main()
