"""What the zoo's networks give on clean, JPEG-compressed and noisy photos, beside bicubic.

    OMP_NUM_THREADS=1 python benchmarks/zoo_on_photos.py datasets/Set5 datasets/Set14 [--scale 2 4] [--models FILE ...]

Writes benchmarks/results/zoo_on_photos_x<scale>_<device>.md. Each network enlarges with `Upscaler`, as `kdsr upscale`
does. The noise depends on the name of the image only.
"""

from __future__ import annotations

import argparse
import io
import statistics
import zlib

import kdsr

# isort: split
import numpy as np
from PIL import Image
from side_by_side import keep, machine

from kdsr import zoo
from kdsr.data.benchmark_sets import find_sets, locate_lr_cache, read_pair
from kdsr.data.matlab_bicubic import upsample_bicubic
from kdsr.deployment import Upscaler
from kdsr.markdown import markdown_table
from kdsr.metrics import score

assert kdsr.__version__  # kdsr comes first: it repairs BasicSR's import
QUALITY, SIGMA = 75, 5.0
INPUTS = ('clean', f'JPEG, quality {QUALITY}', f'noise, sigma {SIGMA:g}')


def degraded(image: np.ndarray, kind: str, name: str) -> np.ndarray:
    """Return an image (H, W, 3), uint8, RGB as it comes from a camera or the web."""
    if kind.startswith('JPEG'):
        file = io.BytesIO()
        Image.fromarray(image).save(file, 'JPEG', quality=QUALITY)
        return np.asarray(Image.open(file))
    if kind.startswith('noise'):
        noise = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(image.shape) * SIGMA
        return np.clip(np.rint(image + noise), 0, 255).astype(np.uint8)
    return image


def scores_of(sets: list[str], scale: int, model: str | None) -> dict[str, list[tuple[str, float]]]:
    """Return the PSNR in dB on Y of each image, by input; of bicubic where `model` is None."""
    upscaler = Upscaler(model) if model else None
    found: dict[str, list[tuple[str, float]]] = {kind: [] for kind in INPUTS}
    for test_set in find_sets(sets, scale):
        for pair in test_set.pairs:
            given, gt = read_pair(pair, scale, locate_lr_cache())
            for kind in INPUTS:
                small = degraded(np.ascontiguousarray(given[..., ::-1]), kind, pair.name)
                large = upscaler(small) if upscaler else upsample_bicubic(small, scale)
                found[kind].append((test_set.name, score(large[..., ::-1], gt, scale)[0]))
    return found


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('sets', nargs='+', metavar='SET')
    parser.add_argument('--scale', type=int, nargs='+', default=[2, 3, 4])
    parser.add_argument('--models', nargs='+', metavar='FILE', help='of these scales; default: the zoo')
    args = parser.parse_args()
    for scale in args.scale:
        _measure(args.sets, scale, args.models or [name for name in zoo.list_names() if name.endswith(f'_x{scale}')])


def _measure(sets: list[str], scale: int, models: list[str]) -> None:
    base = scores_of(sets, scale, None)
    names = list(dict.fromkeys(name for name, _ in base['clean']))
    rows = []
    for model in [None, *models]:
        found = base if model is None else scores_of(sets, scale, model)
        cells, means = [], []
        for kind in INPUTS:
            for name in names:
                values = [value for at, value in found[kind] if at == name]
                cells.append(f'{statistics.fmean(values):.2f}')
            gains = [ours - theirs for (_, ours), (_, theirs) in zip(found[kind], base[kind])]
            cells.append('' if model is None else f'{min(gains):+.2f}')
            means.append(statistics.fmean(gains))
        rows.append([model or 'bicubic', *cells, '' if model is None else f'{statistics.fmean(means):+.2f}'])
        print(rows[-1], flush=True)
    columns = [*(f'{kind}: {what}' for kind in INPUTS for what in (*names, 'least gain')), 'mean gain']
    lines = [
        f'# The zoo on photos, x{scale}',
        '',
        'Mean PSNR in dB on luminance, S pixels of border left out, of results in 8 bits. The input is the usual LR',
        f'image, the same as JPEG of quality {QUALITY} (4:2:0), and with Gaussian noise of {SIGMA:g} levels of 255.',
        '"Least gain" is that of the image on which a network gains least over bicubic; "mean gain" is over the three',
        'inputs.',
        machine(),
        '',
        markdown_table(['network', *columns], rows, numbers=list(range(1, 1 + len(columns)))),
    ]
    keep(f'zoo_on_photos_x{scale}', lines)


if __name__ == '__main__':
    main()
