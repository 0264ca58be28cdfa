"""Real images to verify, calibrate and judge exported networks with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from basicsr.utils.color_util import rgb2ycbcr_pt
from torch import Tensor

from kdsr.errors import UserError
from kdsr.image_files.formats import readable_suffixes
from kdsr.image_files.reading import read_picture

LARGEST = 256  # sides of what is cut out of the middle of larger images


def read_inputs(
    folder: str, luminance: bool, count: int, size: tuple[int, int] | None = None
) -> list[tuple[str, Tensor]]:
    """Read the first images of a folder as a network takes them.

    Args:
        folder: Of low-resolution images; or one image.
        luminance: Give the Y channel of BT.601, else RGB.
        count: At most so many.
        size: (h, w) that all must have; None for any up to 256x256. Of larger ones the middle is taken.

    Returns:
        File name and (1, C, h, w), in [0, 1].

    Raises:
        UserError: there is no image, one is damaged, or none is large enough for `size`.
    """
    images: list[tuple[str, Tensor]] = []
    for path in _list_images(folder):
        image = _read_input(path, luminance)
        if size is None or (image.shape[2] >= size[0] and image.shape[3] >= size[1]):
            images.append((path.name, _crop_middle(image, size or (LARGEST, LARGEST))))
        if len(images) == count:
            return images
    if not images and size is not None:
        raise UserError(f'{folder!r} has no image of at least {size[0]}x{size[1]} pixels.')
    return images


def read_truths(
    folder: str, names: list[str], luminance: bool, scale: int, sizes: list[tuple[int, int]]
) -> list[Tensor]:
    """Read the ground truths of what :func:`read_inputs` returned.

    A ground truth has the name of its image, or its name without `x4` at the end.

    Args:
        folder: Of ground truths.
        names: File names of the low-resolution images.
        luminance: As there.
        scale: S.
        sizes: (h, w) of the low-resolution images as they were returned.

    Returns:
        (1, C, S*h, S*w) of each.

    Raises:
        UserError: one is missing or too small.
    """
    there = {path.stem: path for path in _list_images(folder)}
    truths = []
    for name, (height, width) in zip(names, sizes):
        stem = Path(name).stem
        ending = f'x{scale}'
        known = there.get(stem) or (there.get(stem[: -len(ending)]) if stem.endswith(ending) else None)
        if known is None:
            raise UserError(f'{folder!r} has no ground truth for {name}.')
        image = _read_input(known, luminance)
        image = image[..., : image.shape[2] // scale * scale, : image.shape[3] // scale * scale]
        truth = _crop_middle(image, (scale * height, scale * width), scale)
        if truth.shape[2:] != (scale * height, scale * width):
            raise UserError(f'{known}: {image.shape[2]}x{image.shape[3]} pixels are too few for {name} times {scale}.')
        truths.append(truth)
    return truths


def _list_images(folder: str) -> list[Path]:
    path = Path(folder).expanduser()
    files = sorted(path.iterdir()) if path.is_dir() else [path] if path.is_file() else []
    images = [p for p in files if p.suffix.lower() in readable_suffixes() and not p.name.startswith('.')]
    if not images:
        raise UserError(f'{folder!r} holds no images.')
    return images


def _read_input(path: Path, luminance: bool) -> Tensor:
    """Return an image as (1, C, h, w) in [0, 1], without its alpha."""
    pixels = read_picture(path).pixels
    pixels = pixels.astype(np.float32) / np.float32(np.iinfo(pixels.dtype).max)
    pixels = pixels[..., None] if pixels.ndim == 2 else pixels
    colours = pixels[..., :1].repeat(3, axis=2) if pixels.shape[2] < 3 else pixels[..., :3]
    image = torch.from_numpy(np.ascontiguousarray(colours.transpose(2, 0, 1)))[None]
    return rgb2ycbcr_pt(image, y_only=True) if luminance else image


def _crop_middle(image: Tensor, size: tuple[int, int], multiple: int = 1) -> Tensor:
    """Return the middle of an image, at most of `size`, which begins at multiples of `multiple`."""
    height, width = (min(side, wanted) for side, wanted in zip(image.shape[2:], size))
    top, left = ((side - wanted) // (2 * multiple) * multiple for side, wanted in zip(image.shape[2:], (height, width)))
    return image[..., top : top + height, left : left + width].contiguous()
