"""Crop comparisons as in the papers: a photo with a box, the crop of every method, and the errors in it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence

import cv2
import matplotlib as mpl
import numpy as np

from kdsr.metrics import score
from kdsr.pictures.photo_rows import Box, Row, choose_box

mpl.use('Agg')
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patches import Rectangle

FRAME = '#e8000b'
CELL = 2.05  # width of a crop in inches
IN_A_LINE = 6  # crops in a line; more go into further lines beside the photo
BRIGHTEST = 99.5  # percentile of the errors at the end of the colour scale


def crop_comparison(rows: Sequence[Row], path: str, size: int = 96) -> None:
    """Draw each photo with its box, and the crop in the box of the ground truth and of every method.

    The best PSNR of the crops is bold; bicubic and teachers are not compared.

    Args:
        rows: The photos, all with the same methods.
        path: PNG file to write; its folder is created.
        size: Side of the box in pixels for rows without one; it is placed where the methods differ most.
    """
    rows = [choose_box(row, size) for row in rows]
    figure, blocks = _make_axes(rows)
    for row, (photo, *cells) in zip(rows, blocks):
        _draw_photo(photo, row, 'right: PSNR / SSIM\nof the whole photo' if row.captions else '')
        box = _get_box(row)
        gt = box.cut(row.gt)
        crops = {name: box.cut(image) for name, image in row.methods.items()}
        captions = row.captions or _write_captions(crops, gt)
        best = '' if row.captions else max(row.compared(), key=lambda name: float(captions[name].split()[0]))
        _show(cells[0], gt, 'GT', captions.get('GT', ''))
        for axis, (name, crop) in zip(cells[1:], crops.items()):
            _show(axis, crop, name, captions.get(name, ''), bold=name == best)
    _save(figure, path)


def _write_captions(crops: Mapping[str, np.ndarray], gt: np.ndarray) -> dict[str, str]:
    """Return the caption of each crop, PSNR and SSIM on Y; the caption of the ground truth explains them."""
    found = {name: score(crop, gt, 0) for name, crop in crops.items()}
    return {'GT': 'PSNR / SSIM', **{name: f'{psnr:.2f} / {ssim:.4f}' for name, (psnr, ssim) in found.items()}}


def draw_error_comparison(rows: Sequence[Row], path: str, size: int = 96) -> None:
    """Draw |image - ground truth| in the same crops, mean over the channels, on one colour scale.

    Args:
        rows: The photos, all with the same methods.
        path: PNG file to write; its folder is created.
        size: Side of the box in pixels for rows without one, see :func:`crop_comparison`.
    """
    rows = [choose_box(row, size) for row in rows]
    errors = [
        {
            name: _compute_error(_get_box(row).cut(image), _get_box(row).cut(row.gt))
            for name, image in row.methods.items()
        }
        for row in rows
    ]
    top = max(1.0, float(np.percentile(np.concatenate([e.ravel() for of in errors for e in of.values()]), BRIGHTEST)))
    figure, blocks = _make_axes(rows)
    for row, found, (photo, *cells) in zip(rows, errors, blocks):
        _draw_photo(photo, row, '')
        _show(cells[0], _get_box(row).cut(row.gt), 'GT', 'mean |error|')
        smallest = min(found[name].mean() for name in row.compared())
        for axis, (name, error) in zip(cells[1:], found.items()):
            axis.imshow(error, cmap='magma', vmin=0, vmax=top, interpolation='nearest')
            _dress(axis, name, f'{error.mean():.2f}', bold=error.mean() == smallest and name in row.compared())
    colours = mpl.cm.ScalarMappable(mpl.colors.Normalize(0, top), 'magma')
    bar = figure.colorbar(colours, ax=figure.axes, fraction=0.015, pad=0.01, aspect=30, extend='max')
    bar.set_label('|image - GT|, grey levels of 0..255', fontsize=9)
    bar.ax.tick_params(labelsize=8)
    _save(figure, path)


def _compute_error(image: np.ndarray, gt: np.ndarray) -> np.ndarray:
    return np.abs(image.astype(np.float32) - gt.astype(np.float32)).mean(axis=2)


def _get_box(row: Row) -> Box:
    assert row.box is not None  # every row has one now
    return row.box


def _make_axes(rows: Sequence[Row]) -> tuple[Figure, Iterator[list[plt.Axes]]]:
    """Return a figure, and for each photo the axes of the photo and of its crops."""
    crops = 1 + max(len(row.methods) for row in rows)
    lines = -(-crops // IN_A_LINE)
    columns = -(-crops // lines)
    width = 1.0 if lines == 1 else lines * 1.1  # of the photo, in cells
    size = (CELL * (columns + width) + 0.3, (CELL + 0.42) * lines * len(rows) + 0.1)
    engine = ConstrainedLayoutEngine(w_pad=0.03, h_pad=0.03, wspace=0.01, hspace=0.02)
    figure = plt.figure(figsize=size, layout=engine)
    grid = GridSpec(lines * len(rows), 1 + columns, figure, width_ratios=[width] + [1] * columns)

    def blocks() -> Iterator[list[plt.Axes]]:
        for start in range(0, lines * len(rows), lines):
            axes = [figure.add_subplot(grid[start : start + lines, 0])]
            axes += [figure.add_subplot(grid[start + i // columns, 1 + i % columns]) for i in range(crops)]
            yield axes

    return figure, blocks()


def _draw_photo(axis: plt.Axes, row: Row, caption: str) -> None:
    box = _get_box(row)
    _show(axis, row.gt, row.title, caption)
    corner = (box.left - 0.5, box.top - 0.5)
    axis.add_patch(Rectangle(corner, box.width, box.height, fill=False, edgecolor=FRAME, linewidth=1.6))


def _show(axis: plt.Axes, image: np.ndarray, title: str, caption: str, bold: bool = False) -> None:
    axis.imshow(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), interpolation='nearest')
    _dress(axis, title, caption, bold)


def _dress(axis: plt.Axes, title: str, caption: str, bold: bool) -> None:
    axis.set_title(title, fontsize=9, pad=3)
    axis.set_xlabel(caption, fontsize=9, labelpad=3, fontweight='bold' if bold else 'normal')
    axis.set_xticks([])
    axis.set_yticks([])
    axis.spines[:].set_linewidth(0.5)


def _save(figure: Figure, path: str) -> None:
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def draw_crops_and_errors(rows: Sequence[Row], folder: str) -> dict[str, str]:
    """Draw `crops.png` and `errors.png`.

    Args:
        rows: The photos.
        folder: Where the files go.

    Returns:
        Title to file name.
    """
    drawings: dict[str, tuple[str, Callable[[Sequence[Row], str], None]]] = {
        'Crops': ('crops.png', crop_comparison),
        'Errors in these crops': ('errors.png', draw_error_comparison),
    }
    for file, draw in drawings.values():
        draw(rows, os.path.join(folder, file))
    return {title: file for title, (file, _) in drawings.items()}
