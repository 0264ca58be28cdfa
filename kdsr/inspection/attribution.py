"""`kdsr attribution`: which input pixels networks use, and how much an aggregator takes from each teacher."""

from __future__ import annotations

import csv
import importlib.util
import io
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from basicsr.utils import img2tensor, tensor2img
from basicsr.utils.color_util import rgb2ycbcr_pt
from torch import Tensor

from kdsr.compat.dataset_files import list_folder
from kdsr.durable import write_durably
from kdsr.errors import UserError
from kdsr.inspection.local_attribution import BlurPath, attribute, make_attribution_map
from kdsr.inspection.scenes import Finding, Scene, make_scene
from kdsr.markdown import markdown_table
from kdsr.networks.devices import find_device
from kdsr.networks.subjects import Fusion, Subject, read_networks
from kdsr.progress_bars import ProgressBar
from kdsr.wording import installing

FIELD = 64  # side of the low-resolution crop, as in the authors' example
HEAD = ('image', 'window', 'network', 'DI', 'share', 'sum / gain')


def write_attribution(
    sources: Sequence[str],
    images: Sequence[str],
    *,
    position: tuple[int, int] | None = None,
    size: int = 16,
    field: int = FIELD,
    path: BlurPath | None = None,
    network_opt: Mapping[str, Any] | None = None,
    iteration: str = 'latest',
    with_teachers: bool = False,
    out: str = 'results/attribution',
    device: str = 'auto',
    overrides: Sequence[str] = (),
) -> str:
    """Draw local attribution maps and write the table of diffusion indices.

    Args:
        sources: See :func:`read_networks`.
        images: Ground-truth images, or folders of them; their low resolution is made as MATLAB does.
        position: (x, y) of the window in the image; None takes the most textured window.
        size: Side of the window in pixels.
        field: Side of the low-resolution crop around the window that the networks are given; 0 for the whole image.
        path: How the input is blurred; None takes the authors' path.
        network_opt: Options of the networks whose bare weights are among the sources.
        iteration: Checkpoint of runs: a number or 'latest'.
        with_teachers: Also take the teachers of option files.
        out: Folder for `<image>.png`, `<image>_<run>_teachers.png`, `attribution.md` and `attribution.csv`.
        device: 'auto' (a GPU, if there is one), 'cpu', 'cuda', 'cuda:1', ...
        overrides: As after `--force_yml`, for option files.

    Returns:
        The table as Markdown, and where everything was written.

    Raises:
        UserError: matplotlib is missing, a source or an image does not fit, or the networks have several scales.
    """
    if importlib.util.find_spec('matplotlib') is None:
        raise UserError(f'drawing needs matplotlib; {installing("plots")}')
    from kdsr.inspection.attribution_figure import draw_maps, draw_shares  # matplotlib is optional

    where = str(find_device(device))
    read = [read_networks(s, network_opt, iteration, with_teachers, where, overrides) for s in sources]
    subjects, fusions = _merge(read)
    scale = _find_common_scale(subjects)
    folder, path = Path(out), path or BlurPath()
    folder.mkdir(parents=True, exist_ok=True)
    scenes = [make_scene(file, scale, position, size, field) for file in _list_files(images)]
    rows: list[Sequence[str]] = []
    with ProgressBar(
        total=len(scenes) * (len(subjects) + len(fusions)), desc='attribution', unit='map', leave=False
    ) as bar:
        for scene in scenes:
            found = []
            for subject in subjects:
                found.append(attribute_network(subject, scene, path, where))
                bar.update()
            draw_maps(scene, found, folder / f'{scene.name}.png')
            rows += (_format_row(scene, finding) for finding in found)
            for fusion in fusions:
                parts = list(attribute_teachers(fusion, scene, path, where))
                bar.update()
                draw_shares(scene, parts, folder / f'{scene.name}_{fusion.name}_teachers.png')
                rows += (_format_row(scene, part) for part in parts)
    text = f'{report(rows, path, field)}\n'
    write_durably(folder / 'attribution.md', text.encode())
    write_durably(folder / 'attribution.csv', _format_csv(rows).encode())
    return f'{text}\nWritten to {folder}/: attribution.md, attribution.csv and a picture of each image.'


def _list_files(images: Sequence[str]) -> list[str]:
    """Return image files, those of folders in the order of their names."""
    return [
        file
        for path in images
        for file in ([os.path.join(path, name) for name in list_folder(path).names] if os.path.isdir(path) else [path])
    ]


def _merge(read: Sequence[tuple[list[Subject], Fusion | None]]) -> tuple[list[Subject], list[Fusion]]:
    """Return all networks, the first one of each name, and all fusions."""
    subjects: dict[str, Subject] = {}
    for found, _ in read:
        for subject in found:
            subjects.setdefault(subject.name, subject)
    return list(subjects.values()), [fusion for _, fusion in read if fusion]


def _find_common_scale(subjects: Sequence[Subject]) -> int:
    scales = {subject.name: subject.scale for subject in subjects if subject.scale}
    if len(set(scales.values())) != 1:
        found = ', '.join(f'{name} x{scale}' for name, scale in scales.items()) or 'no network names its scale'
        raise UserError(f'all networks must have the same scale ({found}). Name it with `upscale:` in --network.')
    return next(iter(scales.values()))


def attribute_network(subject: Subject, scene: Scene, path: BlurPath, device: str) -> Finding:
    """Compute the attribution map of a network.

    Args:
        subject: The network.
        scene: Its input, and the window in its output.
        path: How the input is blurred.
        device: Where the network is.

    Raises:
        UserError: the scene is smaller than the blur's kernel.
    """
    image = _to_tensor(scene, subject.luminance, device)
    if min(image.shape[-2:]) <= path.kernel // 2:
        raise UserError(
            f'{scene.name}: {min(image.shape[-2:])} pixels are too few for a blur with a kernel of {path.kernel}.'
        )
    found = attribute(subject.run, image, scene.window, path)
    return Finding(subject.name, make_attribution_map(found.values), _to_picture(found.sr), found.covered)


def attribute_teachers(fusion: Fusion, scene: Scene, path: BlurPath, device: str) -> Iterator[Finding]:
    """Yield the attribution of an aggregator's window to the output image of each teacher.

    All teachers' images are blurred together, S times as wide as the input would be because their pixels are S times
    smaller. The attributions of all teachers sum up to the aggregator's gain.

    Args:
        fusion: The aggregator and its teachers.
        scene: Their input, and the window in the aggregator's output.
        path: How the input of a network would be blurred.
        device: Where the networks are.
    """
    lq = _to_tensor(scene, luminance=False, device=device)[None]
    with torch.no_grad():
        images = fusion.images(lq)[0]
    found = attribute(fusion.fuse, images, scene.window, path.scaled(images.shape[-1] // lq.shape[-1]))
    maps = [make_attribution_map(values) for values in found.values.split(3)]
    total = sum(float(levels.sum()) for levels in maps) or 1.0
    for teacher, levels, image in zip(fusion.teachers, maps, images.split(3)):
        name, share = f'{teacher.name} in {fusion.name}', float(levels.sum()) / total
        yield Finding(name, levels, _to_picture(image), found.covered, share)


def _to_tensor(scene: Scene, luminance: bool, device: str) -> Tensor:
    image = img2tensor(scene.lq.astype(np.float32) / 255, bgr2rgb=True, float32=True).to(device)
    return rgb2ycbcr_pt(image[None], y_only=True)[0] if luminance else image


def _to_picture(image: Tensor) -> np.ndarray:
    pixels = tensor2img(image.detach()[None])
    return cv2.cvtColor(pixels, cv2.COLOR_GRAY2BGR) if pixels.ndim == 2 else pixels


def _format_row(scene: Scene, finding: Finding) -> Sequence[str]:
    window = scene.window_in_image
    share = '' if np.isnan(finding.share) else f'{100 * finding.share:.1f} %'
    place = f'{window.left},{window.top} {window.size}x{window.size}'
    return scene.name, place, finding.name, f'{finding.di:.2f}', share, f'{finding.covered:.3f}'


def report(rows: Sequence[Sequence[str]], path: BlurPath, field: int) -> str:
    """Return the table of diffusion indices as Markdown, with their means where there are several images.

    Args:
        rows: Cells in the order of `HEAD`.
        path: How the input was blurred.
        field: Side of the low-resolution crop; 0 for the whole image.
    """
    values: dict[str, list[float]] = {}
    for row in rows:
        values.setdefault(row[2], []).append(float(row[3]))
    means: list[Sequence[str]] = []
    if len({row[0] for row in rows}) > 1:
        means = [('mean', '', name, f'{np.mean(of):.2f}', '', '') for name, of in values.items()]
    given = f'{field}x{field} low-resolution pixels around the window' if field else 'the whole image'
    return '\n\n'.join([
        '# Local attribution',
        markdown_table(HEAD, [*rows, *means]),
        f'Gradient detector on the window (x,y, size) of the super-resolved image; the networks are given {given}; '
        f'path of {path.steps} steps from a Gaussian blur with sigma {path.sigma:g} and kernel {path.kernel} to the '
        'sharp image. DI = 100 (1 - Gini): larger where more pixels are used. "Sum / gain" is 1 where the path has '
        "enough steps. A share is a teacher's part of the absolute attributions of an aggregator's window to the "
        "images of all teachers.",
    ])  # fmt: skip


def _format_csv(rows: Sequence[Sequence[str]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator='\n')
    writer.writerows([HEAD, *rows])
    return text.getvalue()
