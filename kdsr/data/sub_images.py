"""Work on one HR image: bicubic degradation, and cutting into aligned sub-images."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from kdsr.data.lmdb_writer import PNG_LEVEL, Entry
from kdsr.data.matlab_bicubic import imresize_bicubic
from kdsr.data.raw_images import Window
from kdsr.data.raw_writer import Frame
from kdsr.data.source_images import Source, read_rgb
from kdsr.durable import write_durably


@dataclasses.dataclass(frozen=True)
class Cutting:
    """How sub-images are made.

    Attributes:
        crop_size: Side of the HR sub-images, a multiple of every scale.
        step: Distance between them, a multiple of every scale.
        scales: Downscaling factors; the HR images themselves count as scale 1 and are not among them.
    """

    crop_size: int
    step: int
    scales: tuple[int, ...]


def cut_image(source: Source, cutting: Cutting) -> tuple[int, dict[int, list[Entry]]]:
    """Crop an image to a multiple of all scales, degrade it as a whole, and cut it.

    Returns:
        The size of the source file in bytes and, per scale, the sub-images row by row (scale 1: HR).

    Raises:
        UserError: the image cannot be used.
    """
    file_bytes, frames = frame_image(source, cutting)
    entries = {}
    for scale, (planes, windows) in frames.items():
        whole = planes[::-1].transpose(1, 2, 0)  # BGR
        parts = [whole[w.top :, w.left :][: w.height, : w.width] for w in windows]
        entries[scale] = [(w.key, p.shape[:2], _encode_png(p, PNG_LEVEL)) for w, p in zip(windows, parts)]
    return file_bytes, entries


def frame_image(source: Source, cutting: Cutting) -> tuple[int, dict[int, Frame]]:
    """Crop an image to a multiple of all scales, degrade it as a whole, and list where its sub-images are.

    Returns:
        The size of the source file in bytes and, per scale (1: HR), the RGB image and its sub-images row by row.

    Raises:
        UserError: the image cannot be used.
    """
    image, file_bytes = read_rgb(source.path)
    hr = _mod_crop(image[..., ::-1], math.lcm(*cutting.scales))
    tops = list_sub_image_starts(hr.shape[0], cutting.crop_size, cutting.step)
    lefts = list_sub_image_starts(hr.shape[1], cutting.crop_size, cutting.step)
    corners = [(top, left) for top in tops for left in lefts]
    height, width = (min(cutting.crop_size, side) for side in hr.shape[:2])
    frames: dict[int, Frame] = {}
    for scale in (1, *cutting.scales):
        windows = [
            Window(f'{source.name}_s{number:03d}', y // scale, x // scale, height // scale, width // scale)
            for number, (y, x) in enumerate(corners, 1)
        ]
        frames[scale] = np.ascontiguousarray(_shrink(hr, scale)[..., ::-1].transpose(2, 0, 1)), windows
    return file_bytes, frames


def count_frame_pixels(source: Source, cutting: Cutting, scale: int) -> int:
    """Return how many pixels :func:`frame_image` makes of an image for a scale (1: HR)."""
    mod = math.lcm(*cutting.scales)
    height, width = (side - side % mod for side in source.size)
    return (height // scale) * (width // scale)


@dataclasses.dataclass(frozen=True)
class SetFolder:
    """One folder of a test set.

    Attributes:
        path: The folder.
        scale: The images are 1/scale of the cropped HR image; 1 for the HR folder.
        mod: The HR image is cropped (right and bottom) to a multiple of this; 1 keeps the whole image.
        stem: Stem of a file, with {} for the name of the HR image.
    """

    path: Path
    scale: int
    mod: int
    stem: str = '{}'

    def file_of(self, source: Source) -> Path:
        """Return the file that an HR image gives in this folder."""
        return self.path / f'{self.stem.format(source.name)}.png'

    def size_of(self, source: Source) -> tuple[int, ...]:
        """Return the height and width of that file, in pixels."""
        return tuple((side - side % self.mod) // self.scale for side in source.size)


def degrade_image(source: Source, folders: Sequence[SetFolder]) -> None:
    """Crop and degrade an image as each folder needs it, and write it into the folders that lack it.

    Raises:
        UserError: the image cannot be used.
        OSError: the disk is full, or a folder cannot be written to.
    """
    image, _ = read_rgb(source.path)
    for folder in folders:
        path = folder.file_of(source)
        if not path.exists():
            hr = _mod_crop(image[..., ::-1], folder.mod)
            write_durably(path, _encode_png(_shrink(hr, folder.scale), level=6))


def list_sub_image_starts(size: int, crop_size: int, step: int) -> list[int]:
    """List where sub-images start along a side of `size` pixels. The last one ends at the border."""
    last = max(0, size - crop_size)
    starts = list(range(0, last + 1, step))
    return starts if starts[-1] == last else [*starts, last]


def _mod_crop(image: np.ndarray, mod: int) -> np.ndarray:
    height, width = image.shape[:2]
    return image[: height - height % mod, : width - width % mod]


def _shrink(hr: np.ndarray, scale: int) -> np.ndarray:
    return hr if scale == 1 else imresize_bicubic(hr, scale)


def _encode_png(image: np.ndarray, level: int) -> bytes:
    """Encode (H, W, 3) uint8 BGR."""
    _, encoded = cv2.imencode('.png', np.ascontiguousarray(image), [cv2.IMWRITE_PNG_COMPRESSION, level])
    return encoded.tobytes()
