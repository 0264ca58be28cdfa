"""`kdsr attribution`: which pixels networks use, and what each teacher gives to an aggregator, as maps and numbers."""

from __future__ import annotations

import csv
import importlib.util
import io
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Any

import cv2
import numpy as np
import torch
from basicsr.utils import img2tensor, tensor2img
from basicsr.utils.color_util import rgb2ycbcr_pt
from torch import Tensor
from tqdm import tqdm

from kdsr.data.matlab_bicubic import imresize_bicubic
from kdsr.durable import write_durably
from kdsr.errors import UserError
from kdsr.inspection.local_attribution import (
    Path,
    Window,
    attribute,
    attribution_map,
    diffusion_index,
    most_textured_window,
)
from kdsr.networks.subjects import Fusion, Subject, read_networks
from kdsr.pictures.scores import read_image

FIELD = 64  # pixels of the low resolution that the networks are shown, as in the authors' example
HEAD = ('image', 'window', 'network', 'DI', 'share', 'sum / gain')


@dataclass(frozen=True)
class Scene:
    """What the networks are shown.

    Attributes:
        name: Of the image.
        gt: (S*h, S*w, 3), uint8, BGR.
        lq: (h, w, 3), uint8, BGR.
        window: In `gt`.
        place: The same window in the whole image, for tables.
    """

    name: str
    gt: np.ndarray
    lq: np.ndarray
    window: Window
    place: Window


@dataclass(frozen=True)
class Finding:
    """The attribution of one network, or of one teacher inside an aggregator.

    Attributes:
        name: Of the network.
        levels: (h, w), its attribution map; not normalised.
        sr: (S*h, S*w, 3), uint8, BGR: the network's image; a teacher's own.
        covered: Sum of the attributions as a part of what the detector gained on the path.
        share: Of a teacher, its part of all teachers' attributions; nan for a network.
    """

    name: str
    levels: np.ndarray
    sr: np.ndarray
    covered: float
    share: float = float('nan')

    @property
    def di(self) -> float:
        """The diffusion index."""
        return diffusion_index(self.levels)


def attribution(
    sources: Sequence[str],
    images: Sequence[str],
    position: tuple[int, int] | None = None,
    size: int = 16,
    field: int = FIELD,
    path: Path | None = None,
    network_opt: Mapping[str, Any] | None = None,
    iteration: str = 'latest',
    with_teachers: bool = False,
    out: str = 'results/attribution',
) -> str:
    """Draw local attribution maps and write the table of diffusion indices.

    Args:
        sources: See :func:`read_networks`.
        images: Ground-truth images; their low resolution is made as MATLAB does.
        position: (x, y) of the window in the image; the most textured window when None.
        size: Of the window.
        field: Side of the low-resolution square around the window that the networks are shown; 0 for the whole image.
        path: How the input is blurred.
        network_opt: Of the weight files among the sources.
        iteration: Of runs.
        with_teachers: Look at the teachers of option files too.
        out: Folder for `<image>.png`, `<image>_<run>_teachers.png`, `attribution.md` and `attribution.csv`.

    Returns:
        The table, Markdown.

    Raises:
        UserError: there is no matplotlib, a source or an image does not fit, the networks are of several scales.
    """
    if importlib.util.find_spec('matplotlib') is None:
        raise UserError('drawing needs matplotlib: pip install "kdsr[plots]"')
    from kdsr.inspection.attribution_figure import draw_maps, draw_shares

    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    subjects, fusions = _gathered([read_networks(s, network_opt, iteration, with_teachers, device) for s in sources])
    scale = _one_scale(subjects)
    folder, path = FilePath(out), path or Path()
    folder.mkdir(parents=True, exist_ok=True)
    scenes = [make_scene(file, scale, position, size, field) for file in images]
    rows: list[Sequence[str]] = []
    with tqdm(total=len(scenes) * (len(subjects) + len(fusions)), desc='attribution', unit='map', leave=False) as bar:
        for scene in scenes:
            found = [_seen(bar, look(subject, scene, path, device)) for subject in subjects]
            draw_maps(scene, found, folder / f'{scene.name}.png')
            rows += (_row(scene, finding) for finding in found)
            for fusion in fusions:
                parts = _seen(bar, list(look_at_teachers(fusion, scene, path, device)))
                draw_shares(scene, parts, folder / f'{scene.name}_{fusion.name}_teachers.png')
                rows += (_row(scene, part) for part in parts)
    text = f'{report(rows, path, field)}\n'
    write_durably(folder / 'attribution.md', text.encode())
    write_durably(folder / 'attribution.csv', _csv(rows).encode())
    return f'{text}\nWritten to {folder}/: attribution.md, attribution.csv and a picture of each image.'


def _seen(bar: Any, found: Any) -> Any:
    bar.update()
    return found


def _gathered(read: Sequence[tuple[list[Subject], Fusion | None]]) -> tuple[list[Subject], list[Fusion]]:
    """Return all networks, the first of each name, and all fusions."""
    subjects = {subject.name: subject for found, _ in reversed(read) for subject in reversed(found)}
    order = dict.fromkeys(subject.name for found, _ in read for subject in found)
    return [subjects[name] for name in order], [fusion for _, fusion in read if fusion]


def _one_scale(subjects: Sequence[Subject]) -> int:
    scales = {subject.name: subject.scale for subject in subjects if subject.scale}
    if len(set(scales.values())) != 1:
        told = ', '.join(f'{name} x{scale}' for name, scale in scales.items()) or 'none says which'
        raise UserError(f'the networks must be of one scale ({told}); `upscale:` in --network says it.')
    return next(iter(scales.values()))


def make_scene(file: str, scale: int, position: tuple[int, int] | None, size: int, field: int) -> Scene:
    """Read an image, make its low resolution, choose the window, and cut both out around it.

    Args:
        file: Ground truth.
        scale: S.
        position: (x, y) of the window; the most textured one when None.
        size: Of the window.
        field: As for :func:`attribution`.

    Raises:
        UserError: the image is missing, or the window is not inside.
    """
    gt = read_image(file)
    height, width = (side // scale * scale for side in gt.shape[:2])
    gt = np.ascontiguousarray(gt[:height, :width])
    if size < 1 or size >= min(height, width):
        raise UserError(f'{file!r} has {width}x{height} pixels: a window of {size} pixels does not fit.')
    place = most_textured_window(gt, size) if position is None else Window(position[1], position[0], size)
    if not (0 <= place.top <= height - size and 0 <= place.left <= width - size):
        raise UserError(f'{file!r} has {width}x{height} pixels: the window at {position} is not inside.')
    lq = imresize_bicubic(gt, scale)
    spans = [_span(start + size // 2, side, field * scale, scale) for start, side in
             ((place.top, height), (place.left, width))]  # fmt: skip
    (top, bottom), (left, right) = spans
    window = Window(place.top - top, place.left - left, size)
    low = lq[top // scale : bottom // scale, left // scale : right // scale]
    return Scene(os.path.splitext(os.path.basename(file))[0], gt[top:bottom, left:right], low, window, place)


def _span(centre: int, side: int, length: int, scale: int) -> tuple[int, int]:
    """Return where a part of `length` pixels around `centre` begins and ends, on the grid of the low resolution."""
    if not length or length >= side:
        return 0, side
    start = min(max(centre - length // 2, 0), side - length) // scale * scale
    return start, start + length


def look(subject: Subject, scene: Scene, path: Path, device: str) -> Finding:
    """Compute the attribution map of a network.

    Raises:
        UserError: the scene is smaller than the blur.
    """
    image = _tensor(scene, subject.luminance, device)
    if min(image.shape[-2:]) <= path.kernel // 2:
        raise UserError(f'{scene.name}: {min(image.shape[-2:])} pixels are too few for a blur of {path.kernel}.')
    found = attribute(subject.run, image, scene.window, path)
    return Finding(subject.name, attribution_map(found.values), _picture(found.sr), found.covered)


def look_at_teachers(fusion: Fusion, scene: Scene, path: Path, device: str) -> Iterator[Finding]:
    """Yield what the aggregator's window owes to each teacher's image.

    The path is the same blur of the teachers' images, S times as wide because their pixels are S times smaller, all
    teachers at a time: the sum over teachers is the aggregator's gain.
    """
    lq = _tensor(scene, False, device)[None]
    with torch.no_grad():
        images = fusion.images(lq)[0]
    found = attribute(fusion.fuse, images, scene.window, path.scaled(images.shape[-1] // lq.shape[-1]))
    maps = [attribution_map(values) for values in found.values.split(3)]
    total = sum(float(levels.sum()) for levels in maps) or 1.0
    for teacher, levels, image in zip(fusion.teachers, maps, images.split(3)):
        name = f'{teacher.name} in {fusion.name}'
        yield Finding(name, levels, _picture(image), found.covered, float(levels.sum()) / total)


def _tensor(scene: Scene, luminance: bool, device: str) -> Tensor:
    image = img2tensor(scene.lq.astype(np.float32) / 255, bgr2rgb=True, float32=True).to(device)
    return rgb2ycbcr_pt(image[None], y_only=True)[0] if luminance else image


def _picture(image: Tensor) -> np.ndarray:
    pixels = tensor2img(image.detach()[None])
    return cv2.cvtColor(pixels, cv2.COLOR_GRAY2BGR) if pixels.ndim == 2 else pixels


def _row(scene: Scene, finding: Finding) -> Sequence[str]:
    place = scene.place
    share = '' if np.isnan(finding.share) else f'{100 * finding.share:.1f} %'
    window = f'{place.left},{place.top} {place.size}x{place.size}'
    return scene.name, window, finding.name, f'{finding.di:.2f}', share, f'{finding.covered:.3f}'


def report(rows: Sequence[Sequence[str]], path: Path, field: int) -> str:
    """Return the table of diffusion indices, with their mean where there are several images."""
    means: dict[str, list[float]] = {}
    for row in rows:
        means.setdefault(row[2], []).append(float(row[3]))
    lines = ['# Local attribution', '', f'| {" | ".join(HEAD)} |', f'|{"---|" * len(HEAD)}']
    lines += [f'| {" | ".join(row)} |' for row in rows]
    if len({row[0] for row in rows}) > 1:
        lines += [f'| mean | | {name} | {np.mean(values):.2f} | | |' for name, values in means.items()]
    shown = f'{field}x{field} pixels of the low resolution around the window' if field else 'the whole image'
    return '\n'.join([
        *lines, '',
        f'Gradient detector on the window (x,y, size) of the super-resolved image; the networks are shown {shown}; '
        f'path of {path.steps} steps from a Gaussian blur of sigma {path.sigma:g}, kernel {path.kernel}, to none. '
        'DI = 100 (1 - Gini): larger where more pixels are used. "Sum / gain" is 1 where the path has steps enough. A '
        "share is a teacher's part of the absolute attributions of an aggregator's window to all teachers' images.",
    ])  # fmt: skip


def _csv(rows: Sequence[Sequence[str]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator='\n')
    writer.writerows([HEAD, *rows])
    return text.getvalue()
