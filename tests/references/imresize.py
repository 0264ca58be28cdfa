"""MATLAB's documented bicubic resize, pixel by pixel from its definition; slow, and shares nothing with kdsr.

All arithmetic is in exact fractions, so that no rounding of the reference can hide or excuse a wrong pixel.
"""

from __future__ import annotations

import functools
import math
from fractions import Fraction

import numpy as np


def keys_cubic(x: Fraction) -> Fraction:
    """Keys (1981), equation 15: the cubic convolution kernel with a = -1/2."""
    x = abs(x)
    if x < 1:
        return Fraction(3, 2) * x**3 - Fraction(5, 2) * x**2 + 1
    if x < 2:
        return -Fraction(1, 2) * x**3 + Fraction(5, 2) * x**2 - 4 * x + 2
    return Fraction(0)


def mirrored(index: int, size: int) -> int:
    """The sample that a symmetric continuation (c b a | a b c | c b a) shows at `index`."""
    while not 0 <= index < size:
        index = -1 - index if index < 0 else 2 * size - 1 - index
    return index


@functools.cache
def exact_weights(size: int, out_size: int, factor: Fraction) -> list[dict[int, Fraction]]:
    """The weights of the source samples of each output sample (see `exact_line`); they add up to 1."""
    stretch = max(Fraction(1), 1 / factor)
    result = []
    for out in range(out_size):
        # the centre of output sample `out`, in source samples whose centres are at 0, 1, 2, ...
        centre = (out + Fraction(1, 2)) / factor - Fraction(1, 2)
        weights: dict[int, Fraction] = {}
        for index in range(math.floor(centre - 2 * stretch), math.ceil(centre + 2 * stretch) + 1):
            source = mirrored(index, size)
            weights[source] = weights.get(source, Fraction(0)) + keys_cubic((centre - index) / stretch)
        total = sum(weights.values())
        result.append({source: weight / total for source, weight in weights.items()})
    return result


def exact_line(line: list[int], out_size: int, factor: Fraction) -> list[Fraction]:
    """Resize one line of samples by `factor` (below 1: smaller, with the kernel stretched by 1 / factor)."""
    weights = exact_weights(len(line), out_size, factor)
    return [sum((w * line[i] for i, w in of_one.items()), Fraction(0)) for of_one in weights]


def resize_line(line: list[int], out_size: int, factor: Fraction) -> list[int]:
    """The same for 8-bit samples, rounded halves up and clipped."""
    return [min(255, max(0, math.floor(value + Fraction(1, 2)))) for value in exact_line(line, out_size, factor)]


def imresize(image: np.ndarray, factor: Fraction) -> np.ndarray:
    """Resize (H, W) or (H, W, C) uint8: columns first (height), 8-bit again, then rows (width)."""
    if image.ndim == 3:
        return np.stack([imresize(image[..., c], factor) for c in range(image.shape[2])], axis=-1)
    height, width = (math.ceil(n * factor) for n in image.shape)
    columns = [resize_line([int(v) for v in column], height, factor) for column in image.T]
    rows = [[column[y] for column in columns] for y in range(height)]
    return np.array([resize_line(row, width, factor) for row in rows], dtype=np.uint8)
