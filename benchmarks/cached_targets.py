"""What a student is taught from a cache, against what a live teacher says: borders, 8 bits, orientations.

    python benchmarks/cached_targets.py --network "{type: IMDN, upscale: 4}" --weights IMDN_x4.pth --images Set14_HR

A live teacher sees a crop of the low-resolution image, surrounded by zeros; a cache holds the crop of its answer to the
whole image, in 8 bits. Both, and the mean over the eight orientations, are compared with the ground truth, on random
crops of sizes that papers train on. Writes benchmarks/results/cached_targets_<network>_x<scale>.md.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch

import kdsr
from kdsr import options
from kdsr.data.matlab_bicubic import imresize_bicubic
from kdsr.data.source_images import list_sources, read_rgb
from kdsr.distillation.checkpoint import load_weights
from kdsr.distillation.outputs import Batch
from kdsr.distillation.teacher import FrozenNetwork, window_of
from kdsr.distillation.tiling import self_ensemble

# isort: split
from basicsr.archs import build_network
from torch import Tensor

ROOT = Path(__file__).parents[1]
SIZES = (24, 32, 48, 64)
INNER = 8  # low-resolution pixels
COLUMNS = {
    'live': 'live on the crop',
    'whole': 'whole image',
    'cached': 'the same in 8 bits',
    'ensemble': 'mean of 8, in 8 bits',
}


def pair(path: Path, scale: int) -> tuple[Tensor, Tensor]:
    """Return an image and its bicubic small version, (1, 3, H, W) in [0, 1]."""
    hr, _ = read_rgb(path)
    hr = hr[: hr.shape[0] // scale * scale, : hr.shape[1] // scale * scale]
    lq = imresize_bicubic(np.ascontiguousarray(hr), scale)
    return tuple(torch.from_numpy(i.transpose(2, 0, 1).astype(np.float32) / 255)[None] for i in (lq, hr))


def in_8_bits(image: Tensor) -> Tensor:
    """Clamp and round."""
    return image.clamp(0, 1).mul(255).round().div(255)


@torch.no_grad()
def measure(teacher: FrozenNetwork, images: Path, scale: int, crops: int) -> dict[int, dict[str, list[float]]]:
    """Return the mean squared errors of all crops: size, then what is compared."""
    errors: dict[int, dict[str, list[float]]] = {size: defaultdict(list) for size in SIZES}
    for source in list_sources(images, smallest=min(SIZES) * scale, lmdb_names=False):
        lq, gt = pair(source.path, scale)
        whole = teacher(lq).sr
        answers = {
            'whole': whole,
            'cached': in_8_bits(whole),
            'ensemble': in_8_bits(self_ensemble(lambda b: teacher(b.lq).sr, Batch(lq))),
        }
        for size in SIZES:
            for _ in range(crops if min(lq.shape[-2:]) >= size else 0):
                top, left = (random.randint(0, side - size) for side in lq.shape[-2:])
                part = np.s_[..., scale * top : scale * (top + size), scale * left : scale * (left + size)]
                live = teacher(lq[..., top : top + size, left : left + size]).sr
                for name, answer in {'live': live, **{n: a[part] for n, a in answers.items()}}.items():
                    errors[size][name].append((answer - gt[part]).square().mean().item())
                difference = (live - whole[part]).square()
                inner = difference[..., INNER * scale : -INNER * scale, INNER * scale : -INNER * scale]
                errors[size]['between'].append(difference.mean().item())
                errors[size]['between, inside'].append(inner.mean().item())
    return errors


def psnr(errors: list[float]) -> float:
    """Return the PSNR of the mean error of all crops."""
    return -10 * float(np.log10(np.mean(errors)))


def main() -> None:
    """Measure and write the result."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--network', required=True, help='YAML, as in an option file')
    parser.add_argument('--weights', required=True)
    parser.add_argument('--images', required=True, type=Path, help='folder of HR images')
    parser.add_argument('--crops', type=int, default=8, help='an image and size')
    args = parser.parse_args()
    opt = options.parse_value(args.network)
    network = build_network(opt)
    load_weights(network, args.weights)
    random.seed(0)
    errors = measure(FrozenNetwork(network, window_of(opt)), args.images, opt['upscale'], args.crops)
    write(args, opt, errors)


def write(args: argparse.Namespace, opt: dict, errors: dict[int, dict[str, list[float]]]) -> None:
    """Print the table and keep it beside what it was measured on."""
    commit = subprocess.run(['git', 'rev-parse', '--short', 'HEAD'], cwd=ROOT, capture_output=True, text=True).stdout
    name = f'{opt["type"]} x{opt["upscale"]}'
    lines = [
        f'# What a cache teaches: {name}',
        '',
        f'PSNR in dB, RGB, no border cut: the teacher against the ground truth, and its answer to the crop against the '
        f'crop of its answer to the whole image, everywhere and at least {INNER} LR pixels inside. '
        f'{len(errors[SIZES[-1]]["live"])} or more random crops a size from '
        f'{"/".join(args.images.absolute().parts[-2:])}, one seed; torch '
        f'{torch.__version__}, kdsr {kdsr.__version__} at {commit.strip()}, {time.strftime("%Y-%m-%d")}. '
        'Written by `benchmarks/cached_targets.py`.',
        '',
        f'| LR crop | {" | ".join(COLUMNS.values())} | crop against whole | inside |',
        '|---' * (3 + len(COLUMNS)) + '|',
    ]
    for size, of_size in errors.items():
        base = psnr(of_size['live'])
        cells = [f'{base:.3f}']
        cells += [f'{psnr(of_size[c]):.3f} ({psnr(of_size[c]) - base:+.3f})' for c in list(COLUMNS)[1:]]
        cells += [f'{psnr(of_size[c]):.1f}' for c in ('between', 'between, inside')]
        lines.append(f'| {size} | {" | ".join(cells)} |')
    text = '\n'.join(lines) + '\n'
    print(text)
    path = ROOT / 'benchmarks' / 'results' / f'cached_targets_{name.replace(" ", "_").lower()}.md'
    path.write_text(text, encoding='utf-8')


if __name__ == '__main__':
    main()
