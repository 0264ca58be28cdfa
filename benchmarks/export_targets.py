"""What each network gives in each target of `kdsr export`: does it work, how exact, how large, how fast, how good?

    OMP_NUM_THREADS=1 python benchmarks/export_targets.py datasets/Set5 [--models ...] [--size 240 320] [--repeats 5]

Writes benchmarks/results/export_targets_cpu.md. Targets whose packages are missing are left out and named. `--small`
adds architectures that the zoo lacks, as small networks that are trained for seconds on drawn images.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import kdsr

# isort: split
import numpy as np
import torch
from basicsr.archs import build_network
from basicsr.utils.color_util import rgb2ycbcr_pt
from basicsr.utils.matlab_functions import imresize
from side_by_side import keep, machine
from torch import Tensor

from kdsr import zoo
from kdsr.data.benchmark_sets import find_sets, read_pair
from kdsr.data.dead_leaves import draw_image
from kdsr.deployment.sources import make_card, read_model
from kdsr.deployment.timing import time_in_turns
from kdsr.deployment.verification import random_images, verify
from kdsr.errors import UserError
from kdsr.export_targets.making import Made, Maker
from kdsr.export_targets.targets import TARGETS
from kdsr.markdown import markdown_table
from kdsr.metrics import score

assert kdsr.__version__  # kdsr comes first: it repairs BasicSR's import
SMALL_SCALE, SMALL_STEPS, LEAVES, LEAF = 4, 400, 24, 96  # LEAF: side of a drawn image in pixels
SMALL = {
    'EDSR': {'type': 'EDSR', 'num_in_ch': 3, 'num_out_ch': 3, 'num_feat': 16, 'num_block': 4, 'img_range': 1.0},
    'RCAN': {
        'type': 'RCAN', 'num_in_ch': 3, 'num_out_ch': 3, 'num_feat': 16, 'num_group': 2, 'num_block': 2,
        'squeeze_factor': 4, 'img_range': 1.0,
    },
    'VDSR': {'type': 'VDSR', 'num_feat': 16, 'num_block': 4},
    'SRVGGNetCompact': {'type': 'SRVGGNetCompact', 'num_feat': 16, 'num_conv': 6, 'act_type': 'prelu'},
    'SwinIR': {
        'type': 'SwinIR', 'img_size': 24, 'in_chans': 3, 'embed_dim': 16, 'depths': [2, 2], 'num_heads': [2, 2],
        'window_size': 8, 'mlp_ratio': 2, 'upsampler': 'pixelshuffledirect', 'img_range': 1.0,
    },
}  # fmt: skip
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


def train_small(name: str, folder: Path) -> str:
    """Train a small network of an architecture for seconds, so that its PSNR means something; return its file."""
    torch.manual_seed(0)
    options = {**SMALL[name], 'upscale': SMALL_SCALE}
    network = build_network(dict(options)).train()
    luminance = name == 'VDSR'
    drawn = [draw_image(seed, LEAF, LEAF) for seed in range(LEAVES)]
    pairs = [
        [_as_batch(one, luminance) for one in (imresize(image / 255.0, 1 / SMALL_SCALE), image / 255.0)]
        for image in drawn
    ]
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-3)
    for step in range(SMALL_STEPS):
        lq, gt = pairs[step % LEAVES]
        loss = (network(lq) - gt).abs().mean()
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 0.1)
        optimiser.step()
    path = folder / f'{name}_small_x{SMALL_SCALE}.pth'
    torch.save({'params': network.state_dict(), 'network': options}, path)
    return str(path)


def _as_batch(image: np.ndarray, luminance: bool) -> Tensor:
    """Return BGR in [0, 1] as (1, 3, h, w) RGB, or as (1, 1, h, w) luminance."""
    rgb = torch.from_numpy(np.ascontiguousarray(image[..., ::-1].transpose(2, 0, 1))).float()[None]
    return rgb2ycbcr_pt(rgb, y_only=True) if luminance else rgb


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
    torch.set_num_threads(1)
    times = time_in_turns(runs, torch.rand((1, 3, *size)), repeats, time.process_time)
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
    parser.add_argument('--models', nargs='*', default=list(zoo.list_names()))
    parser.add_argument('--size', type=int, nargs=2, default=[240, 320], metavar=('H', 'W'))
    parser.add_argument('--repeats', type=int, default=5)
    parser.add_argument('--small', nargs='*', default=[], choices=list(SMALL), help='architectures to train briefly')
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        models = [*args.models, *(train_small(name, Path(folder)) for name in args.small)]
        rows = [row for model in models for row in rows_of(model, args.set, tuple(args.size), args.repeats)]
    head = ['network', 'target', 'works', 'largest error', 'size', 'ms', 'times as fast as PyTorch', 'PSNR']
    left_out = [name for name, target in TARGETS.items() if target.missing()]
    height, width = args.size
    about = (
        'Largest error: against PyTorch on noise of five sizes, images in [0, 1]. ms: an RGB image of '
        f'{height}x{width} pixels, colour conversions included, in turns, processor time on one thread, median of '
        f'{args.repeats}. PSNR on Y in dB, {Path(args.set).name}. The web page is measured in onnxruntime, not in a '
        f'browser. Networks called small have 16 channels and were trained for {SMALL_STEPS} steps. '
        f'Not installed and left out: {", ".join(left_out) or "none"}. {machine()}'
    )
    keep('export_targets', ['# Targets of kdsr export', '', about, '', markdown_table(head, rows)])


if __name__ == '__main__':
    main()
