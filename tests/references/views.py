"""DUKD's views in NumPy, sample by sample and pixel by pixel; shares nothing with kdsr."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from tests.references.imresize import exact_line


def block(gt: np.ndarray, row: int, column: int, height: int, width: int) -> np.ndarray:
    """The block (row, column) of the grid of (C, S*h, S*w)."""
    out = np.empty((gt.shape[0], height, width), gt.dtype)
    for y in range(height):
        for x in range(width):
            out[:, y, x] = gt[:, row * height + y, column * width + x]
    return out


def augmented(image: np.ndarray, invert: bool, flip_height: bool, flip_width: bool, transpose: bool) -> np.ndarray:
    """A of one square sample (C, n, n): where each pixel of the result comes from."""
    n = image.shape[-1]
    out = np.empty_like(image)
    for y in range(n):
        for x in range(n):
            row, column = (x, y) if transpose else (y, x)
            row = n - 1 - row if flip_height else row
            column = n - 1 - column if flip_width else column
            out[:, y, x] = 1 - image[:, row, column] if invert else image[:, row, column]
    return out


def downscaled(image: np.ndarray, scale: int) -> np.ndarray:
    """MATLAB's bicubic of one channel (H, W) of whole numbers, unrounded."""
    height, width = (side // scale for side in image.shape)
    columns = [exact_line([int(v) for v in column], height, Fraction(1, scale)) for column in image.T]
    rows = [[column[y] for column in columns] for y in range(height)]
    return np.array([[float(v) for v in exact_line(row, width, Fraction(1, scale))] for row in rows])
