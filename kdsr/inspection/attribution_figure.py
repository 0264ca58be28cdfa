"""Pictures of local attribution: the window in the photo, the maps over it, and the outputs of the networks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import matplotlib as mpl
import numpy as np

mpl.use('Agg')
from matplotlib import pyplot as plt
from matplotlib.colors import LogNorm
from matplotlib.patches import Rectangle

from kdsr.inspection.scenes import Finding, Scene

ZOOM = 4  # width of the close-up, in windows
NORM = LogNorm(1e-3, 1, clip=True)  # logarithmic: a few pixels of the window are far larger than all others
COLOURS = 'inferno'
DARK = 0.4  # brightness of the photo under a map
FRAME = '#00e5ff'


def draw_maps(scene: Scene, found: Sequence[Finding], path: Path) -> None:
    """Draw the photo with the window, and for each network its map over the photo and a close-up of its output.

    Args:
        scene: The input of the networks.
        found: The findings, one for each column.
        path: PNG file to write.
    """
    titles = [f'{f.name}\nDI {f.di:.2f}' for f in found]
    tops = [max(float(f.levels.max()), 1e-12) for f in found]
    _draw(scene, found, titles, tops, path)


def draw_shares(scene: Scene, found: Sequence[Finding], path: Path) -> None:
    """Draw the maps over the teachers' outputs inside an aggregator, all on one colour scale.

    Args:
        scene: The input of the teachers.
        found: The findings, one for each teacher.
        path: PNG file to write.
    """
    titles = [f'{f.name}\n{100 * f.share:.1f} %, DI {f.di:.2f}' for f in found]
    top = max(max(float(f.levels.max()) for f in found), 1e-12)
    _draw(scene, found, titles, [top] * len(found), path)


def _draw(scene: Scene, found: Sequence[Finding], titles: Sequence[str], tops: Sequence[float], path: Path) -> None:
    columns = 1 + len(found)
    height, width = scene.gt.shape[:2]
    figure, axes = plt.subplots(
        2, columns, figsize=(2.55 * columns + 0.5, 2.5 * height / width + 3.0), squeeze=False, layout='constrained',
        height_ratios=(height / width, 1),
    )  # fmt: skip
    _show(axes[0, 0], scene.gt, f'{scene.name}\nthe window')
    _draw_box(axes[0, 0], scene)
    _show(axes[1, 0], _close_up(scene, scene.gt), 'ground truth')
    for column, finding, title, top in zip(axes.T[1:], found, titles, tops):
        _draw_overlay(column[0], scene, finding.levels / top, title)
        _show(column[1], _close_up(scene, finding.sr), finding.name)
    bar = figure.colorbar(mpl.cm.ScalarMappable(NORM, COLOURS), ax=axes, shrink=0.5, anchor=(0, 1), pad=0.01)
    bar.set_label('attribution / maximum', fontsize=8)
    bar.ax.tick_params(labelsize=7)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def _show(axis: plt.Axes, image: np.ndarray, title: str) -> None:
    axis.imshow(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), interpolation='nearest')
    _hide_axis(axis, title)


def _hide_axis(axis: plt.Axes, title: str) -> None:
    axis.set_title(title, fontsize=9)
    axis.set_xticks([])
    axis.set_yticks([])


def _draw_box(axis: plt.Axes, scene: Scene) -> None:
    window = scene.window
    corner = (window.left - 0.5, window.top - 0.5)
    axis.add_patch(Rectangle(corner, window.size, window.size, fill=False, edgecolor=FRAME, linewidth=1.4))


def _draw_overlay(axis: plt.Axes, scene: Scene, levels: np.ndarray, title: str) -> None:
    """Draw an attribution map over a dark grey photo."""
    height, width = scene.gt.shape[:2]
    grey = cv2.cvtColor(scene.gt, cv2.COLOR_BGR2GRAY)
    axis.imshow(DARK * grey, cmap='gray', vmin=0, vmax=255, interpolation='nearest')
    strength = np.asarray(NORM(np.maximum(levels, 1e-12)))
    extent = (-0.5, width - 0.5, height - 0.5, -0.5)
    axis.imshow(
        levels, cmap=COLOURS, norm=NORM, alpha=np.clip(1.5 * strength, 0, 0.95), interpolation='nearest', extent=extent
    )
    _draw_box(axis, scene)
    _hide_axis(axis, title)


def _close_up(scene: Scene, image: np.ndarray) -> np.ndarray:
    """Crop the window with its surroundings out of an image."""
    side = min(ZOOM * scene.window.size, *image.shape[:2])
    spans = []
    for start, length in zip((scene.window.top, scene.window.left), image.shape[:2]):
        first = min(max(start + scene.window.size // 2 - side // 2, 0), length - side)
        spans.append(slice(first, first + side))
    return image[spans[0], spans[1]]
