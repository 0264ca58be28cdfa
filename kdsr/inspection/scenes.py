"""The part of an image that an attribution looks at, and what it finds there."""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np

from kdsr.data.matlab_bicubic import imresize_bicubic
from kdsr.errors import UserError
from kdsr.inspection.local_attribution import OutputWindow, compute_diffusion_index, find_most_textured_window
from kdsr.pictures.images import read_image


@dataclass(frozen=True)
class Scene:
    """What the networks are given, and the window whose attribution is computed.

    Attributes:
        name: Name of the image, without ending.
        gt: (S*h, S*w, 3), uint8, BGR: the ground truth.
        lq: (h, w, 3), uint8, BGR: the input of the networks.
        window: The window in `gt`.
        window_in_image: The same window in the whole image, for tables.
    """

    name: str
    gt: np.ndarray
    lq: np.ndarray
    window: OutputWindow
    window_in_image: OutputWindow


@dataclass(frozen=True)
class Finding:
    """The attribution of one network, or of one teacher inside an aggregator.

    Attributes:
        name: Name of the network.
        levels: (h, w), float: the attribution map, not normalised.
        sr: (S*h, S*w, 3), uint8, BGR: the output of the network, or of the teacher.
        covered: Sum of the attributions, divided by the gain of the detector along the path; 1 is exact.
        share: For a teacher, its share of the attributions of all teachers, in 0..1; nan for a network.
    """

    name: str
    levels: np.ndarray
    sr: np.ndarray
    covered: float
    share: float = float('nan')

    @property
    def di(self) -> float:
        """The diffusion index, in 0..100."""
        return compute_diffusion_index(self.levels)


def make_scene(file: str, scale: int, position: tuple[int, int] | None, size: int, field: int) -> Scene:
    """Read an image, downsample it as MATLAB does, choose the window, and crop both images around it.

    Args:
        file: The ground truth.
        scale: S.
        position: (x, y) of the window's top left pixel in the image; None takes the most textured window.
        size: Side of the window in pixels.
        field: Side of the low-resolution crop in pixels; 0 keeps the whole image.

    Raises:
        UserError: the image is missing, or the window is not inside it.
    """
    gt = read_image(file)
    height, width = (side // scale * scale for side in gt.shape[:2])
    gt = np.ascontiguousarray(gt[:height, :width])
    if size < 1 or size >= min(height, width):
        raise UserError(f'{file!r} has {width}x{height} pixels: a window of {size} pixels does not fit.')
    found = find_most_textured_window(gt, size) if position is None else OutputWindow(position[1], position[0], size)
    if not (0 <= found.top <= height - size and 0 <= found.left <= width - size):
        raise UserError(f'{file!r} has {width}x{height} pixels: the window at {position} is not inside the image.')
    lq = imresize_bicubic(gt, scale)
    top, bottom = _crop_span(found.top + size // 2, height, field * scale, scale)
    left, right = _crop_span(found.left + size // 2, width, field * scale, scale)
    return Scene(
        name=os.path.splitext(os.path.basename(file))[0],
        gt=gt[top:bottom, left:right],
        lq=lq[top // scale : bottom // scale, left // scale : right // scale],
        window=OutputWindow(found.top - top, found.left - left, size),
        window_in_image=found,
    )


def _crop_span(centre: int, side: int, length: int, scale: int) -> tuple[int, int]:
    """Return start and end of a crop of `length` pixels around `centre`; both are multiples of the scale."""
    if not length or length >= side:
        return 0, side
    start = min(max(centre - length // 2, 0), side - length) // scale * scale
    return start, start + length
