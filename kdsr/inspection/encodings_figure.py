"""The picture of a stage-1 run of PISR: images, spectra and histograms of the compact feature (PISR, Fig. 3)."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
from torch import Tensor

from kdsr.inspection.encodings import Encoding, count_pixels, find_range, slice_spectrum

mpl.use('Agg')
from matplotlib import pyplot as plt

BINS = 64


def draw_encodings(images: Sequence[Sequence[Encoding]], path: str) -> None:
    """Draw one row per image: HR, LR, the compact feature of each run, their spectra and their histograms.

    A compact feature is drawn in the range of its values, because nothing but the imitation loss keeps it in 0..1. The
    caption has this range.

    Args:
        images: For each image the encodings of all runs.
        path: PNG file to write.
    """
    columns = 4 + len(images[0])
    figure, axes = plt.subplots(
        len(images), columns, figsize=(2.7 * columns, 2.8 * len(images)), squeeze=False, layout='constrained'
    )
    for row, encodings in zip(axes, images):
        first = encodings[0]
        _show(row[0], first.gt, f'{first.image}: HR')
        _show(row[1], first.lq, 'LR')
        for axis, one in zip(row[2:], encodings):
            low, high = find_range([one.code])
            caption = f'{one.run}\ncorrelation {one.correlation:+.2f}, black {low:.2f}, white {high:.2f}'
            _show(axis, one.code, caption, low, high)
        curves = {'LR': first.lq, **{one.run: one.code for one in encodings}}
        _draw_spectra(row[-2], curves)
        _draw_histograms(row[-1], curves)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _show(axis: plt.Axes, image: Tensor, caption: str, low: float = 0.0, high: float = 1.0) -> None:
    axis.imshow(image[0].mean(0).numpy(), cmap='gray', vmin=low, vmax=high, interpolation='nearest')
    axis.set_xlabel(caption, fontsize=8)
    axis.set_xticks([])
    axis.set_yticks([])


def _draw_spectra(axis: plt.Axes, curves: dict[str, Tensor]) -> None:
    for name, image in curves.items():
        values = slice_spectrum(image)
        axis.plot(np.linspace(0, 0.5, len(values)), values, linewidth=0.8, label=name)
    axis.set_title('log10 |FFT|', fontsize=9)
    axis.set_xlabel('horizontal cycles per pixel, vertical 0', fontsize=8)
    axis.tick_params(labelsize=7)
    axis.legend(fontsize=6)


def _draw_histograms(axis: plt.Axes, curves: dict[str, Tensor]) -> None:
    low, high = find_range(list(curves.values()))
    centres = low + (np.arange(BINS) + 0.5) * (high - low) / BINS
    for name, image in curves.items():
        axis.plot(centres, count_pixels(image, BINS, low, high), linewidth=0.8, label=name)
    axis.set_title('share of pixels', fontsize=9)
    axis.set_xlabel('value', fontsize=8)
    axis.tick_params(labelsize=7)
