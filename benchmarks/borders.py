"""What a border around the image does for networks that pad with zeros: on flat images, and on Set5 and Set14.

    OMP_NUM_THREADS=1 python benchmarks/borders.py datasets/Set5 datasets/Set14 [--models ...]

Writes benchmarks/results/borders_<device>.md. LR images that a set lacks are made as MATLAB does.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import kdsr

# isort: split
import numpy as np
import torch
from side_by_side import keep, machine
from torch import Tensor

from kdsr import zoo
from kdsr.data.benchmark_sets import find_sets, read_pair
from kdsr.deployment.borders import needed_border
from kdsr.distillation.padding import run_padded
from kdsr.markdown import markdown_table
from kdsr.metrics import psnr_of_error
from kdsr.networks.candidates import Candidate, find_candidates

assert kdsr.__version__  # kdsr comes first: it repairs BasicSR's import
BORDERS = {
    'none': (0, 'edge'),
    'edge, 4': (4, 'edge'),
    'mirrored, 4': (4, 'symmetric'),
    'mirrored, 8': (8, 'symmetric'),
}
_LUMA = torch.tensor([24.966, 128.553, 65.481]).view(1, 3, 1, 1) / 255  # of B, G, R


def run_bordered(one: Candidate, image: Tensor, border: int, mode: str) -> Tensor:
    """Run a network on (1, C, h, w) with a border, and cut the border off."""
    wide = -(-border // one.multiple) * one.multiple
    padded = np.pad(image.numpy(), ((0, 0), (0, 0), (wide, wide), (wide, wide)), mode=mode)  # type: ignore[call-overload]
    assert one.network is not None
    with torch.inference_mode():
        large = run_padded(one.network, torch.from_numpy(padded), one.multiple).clamp(0, 1)
    edge = slice(one.scale * wide, -one.scale * wide or None)
    return large[..., edge, edge]


def frame_of(one: Candidate, border: int, mode: str) -> float:
    """Return the largest error on flat white and grey, in levels of 255."""
    errors = []
    for level in (1.0, 0.5):
        value = level * (235 / 255 if one.luminance else 1.0)
        flat = torch.full((1, 1 if one.luminance else 3, 64, 64), value)
        errors.append(float((run_bordered(one, flat, border, mode) - value).abs().max()))
    return 255 * max(errors)


def luminance(image: np.ndarray) -> Tensor:
    """Map BGR (H, W, 3), uint8, to Y (1, 1, H, W), 16/255..235/255."""
    planes = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))[None].float() / 255
    return (planes * _LUMA).sum(1, keepdim=True) + 16 / 255


def psnr_of(one: Candidate, folders: list[str], border: int, mode: str, lr_cache: Path) -> tuple[float, float, int]:
    """Return the mean PSNR on Y of whole images and of their outermost 4*S pixels, and the number of images."""
    whole, edges = [], []
    for test_set in find_sets(folders, one.scale):
        for pair in test_set.pairs:
            given, gt = read_pair(pair, one.scale, lr_cache)
            image = torch.from_numpy(np.ascontiguousarray(given[..., ::-1].transpose(2, 0, 1)))[None].float() / 255
            large = run_bordered(one, luminance(given) if one.luminance else image, border, mode)
            if not one.luminance:
                large = (large.flip(1) * _LUMA).sum(1, keepdim=True) + 16 / 255
            error = (255 * (large - luminance(gt))) ** 2
            inner = torch.ones_like(error, dtype=torch.bool)
            inner[..., 4 * one.scale : -4 * one.scale, 4 * one.scale : -4 * one.scale] = False
            whole.append(psnr_of_error(float(error.mean())))
            edges.append(psnr_of_error(float(error[inner].mean())))
    return float(np.mean(whole)), float(np.mean(edges)), len(whole)


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('sets', nargs='+', help='folders of test sets')
    parser.add_argument('--models', nargs='+', default=list(zoo.list_names()))
    args = parser.parse_args()
    rows, count = [], 0
    with tempfile.TemporaryDirectory() as folder:
        for model in args.models:
            (one,) = find_candidates([model])
            chosen = needed_border(
                one.network, luminance=one.luminance, multiple=one.multiple, device=torch.device('cpu')
            )
            for name, (border, mode) in BORDERS.items():
                whole, edges, count = psnr_of(one, args.sets, border, mode, Path(folder))
                mark = ' (chosen)' if (border, mode) == ((4, 'symmetric') if chosen else (0, 'edge')) else ''
                rows.append(
                    [one.name, name + mark, f'{frame_of(one, border, mode):.1f}', f'{whole:.3f}', f'{edges:.3f}']
                )
    names = ', '.join(Path(folder).name for folder in args.sets)
    lines = [
        '# What a border around the image does',
        '',
        'The frame is the largest error on flat white and grey images, in levels of 255. PSNR on Y in dB, nothing left',
        f'out at the border, of {count} images ({names}), and of their outermost 4*S pixels. Borders repeat the edge,',
        f'or mirror the image. {machine()}',
        '',
        markdown_table(['network', 'border', 'frame', 'PSNR', 'PSNR of the edge'], rows, numbers=[2, 3, 4]),
        '',
        'The LR images of the field are made with a mirrored border, and networks have learnt it: repeating the edge',
        'loses PSNR there. `kdsr upscale` mirrors the image for networks whose frame is above 2 levels, and leaves the',
        'others alone.',
    ]
    keep('borders', lines)


if __name__ == '__main__':
    main()
