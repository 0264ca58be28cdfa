"""Read the header of an image file: its upright size, and what a decoder of 8-bit RGB would change or miss."""

from __future__ import annotations

import os
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from PIL import Image, UnidentifiedImageError

from kdsr.compat.dataset_files import describe_unusable
from kdsr.image_files.metadata import orientation_of

FORMATS = ('PNG', 'JPEG', 'BMP', 'TIFF', 'WEBP')
_PLAIN_MODES = ('RGB', 'RGBA', 'L', 'LA', '1', 'P', 'PA')
_TIFF_SIZE = (257, 256)  # tags of height and width as they are stored
_BLOCK = 4096  # bytes of the head, the middle and the tail that the mark depends on
_TAIL = 2**20  # bytes in which the end of an image is looked for first; anything may follow it
_ENDS = {'PNG': b'IEND', 'JPEG': b'\xff\xd9', 'MPO': b'\xff\xd9'}
_UNREADABLE = (OSError, SyntaxError, ValueError, TypeError, UserWarning, Image.DecompressionBombError)


@dataclass(frozen=True)
class ImageHeader:
    """What the header of an image file says.

    Attributes:
        size: (height, width) of the upright image. (0, 0) if the file is not an image.
        orientation: EXIF's, 1 to 8; 1 is upright as stored.
        alpha: It has an alpha channel or a transparent colour.
        frames: Of an animation, or pages of a TIFF file.
        kind: Why it cannot become 8-bit RGB without a decision, with the cure; None where it can.
        fault: Why the file cannot be used, with the cure; None where it can.
        mark: Digest of the file's size, head, middle and tail. PNG files hold a checksum of all pixels in the tail.
    """

    size: tuple[int, int] = (0, 0)
    orientation: int = 1
    alpha: bool = False
    frames: int = 1
    kind: str | None = None
    fault: str | None = None
    mark: str = ''

    def describe_loss(self) -> str | None:
        """Say what a decoder of 8-bit RGB drops or converts; None where nothing."""
        if self.kind is not None:
            return self.kind
        if self.frames > 1:
            return f'it has {self.frames} frames, of which the first is used. Save that one alone.'
        return 'it has an alpha channel, which is dropped. Save it without.' if self.alpha else None


def read_header(path: str | os.PathLike[str]) -> ImageHeader:
    """Read the header of an image file; no pixel is decoded, and pipes and devices never block.

    Returns:
        The header. `fault` says what is wrong with a file that is not an image, is unreadable, or is truncated.
    """
    reason = describe_unusable(path)
    if reason is not None:
        return ImageHeader(fault=f'{reason or "it is a folder"}. Remove or replace it.')
    try:
        with open(path, 'rb') as file:
            return read_open_header(file)
    except OSError as error:
        return _make_unreadable(error)


def read_open_header(file: BinaryIO) -> ImageHeader:
    """Read the header of an image in an open file; like :func:`read_header`."""
    try:
        mark = _digest(file)
        file.seek(0)
        return _read_open(file, mark)
    except _UNREADABLE as error:
        return _make_unreadable(error)


def _make_unreadable(error: BaseException) -> ImageHeader:
    reason = '' if isinstance(error, UnidentifiedImageError) else f' ({str(error) or type(error).__name__})'
    return ImageHeader(fault=f'it is not a readable PNG, JPEG, BMP, TIFF or WebP image{reason}. Remove or replace it.')


def read_size(path: str | os.PathLike[str]) -> tuple[int, int]:
    """Return (height, width) of an image file, upright, from its header.

    Raises:
        OSError: the file is not a readable image, or is truncated.
    """
    header = read_header(path)
    if header.fault is not None:
        raise OSError(f'{Path(path)}: {header.fault}')
    return header.size


def _read_open(file: BinaryIO, mark: str) -> ImageHeader:
    with Image.open(file, formats=FORMATS) as image:
        orientation = _read_orientation(image)
        height, width = image.height, image.width
        tags = getattr(image, 'tag_v2', {})
        if image.format == 'TIFF':  # Pillow turns the size of some versions' TIFF images, and not of others'
            height, width = (tags[tag] for tag in _TIFF_SIZE)
        size = (width, height) if orientation in (5, 6, 7, 8) else (height, width)
        truncated = find_truncation(image, file)
        fault = None if truncated is None else f'it is truncated ({truncated}). Replace it.'
        alpha = 'A' in image.getbands() or 'transparency' in image.info
        return ImageHeader(
            size=size,
            orientation=orientation,
            alpha=alpha,
            frames=count_frames(image),
            kind=find_kind_problem(image),
            fault=fault,
            mark=mark,
        )


def _read_orientation(image: Image.Image) -> int:
    if image.format == 'PNG' and 'exif' not in image.info:  # asking for it would decode the whole image
        return 1
    return orientation_of(image)


def find_kind_problem(image: Image.Image) -> str | None:
    """Say why an open image cannot become 8-bit RGB without a decision, with the cure; None where it can."""
    # Pillow opens 16-bit RGB as mode RGB and drops the low bytes without a word; only the decoder's arguments tell
    if image.mode.startswith(('I', 'F')) or ';16' in str(getattr(image, 'tile', '')):
        return 'it has 16 or more bits per channel. Convert it to 8 bit.'
    return None if image.mode in _PLAIN_MODES else f'its colours are {image.mode}. Convert it to RGB.'


def count_frames(image: Image.Image) -> int:
    """Return the number of frames of an animation or pages of a TIFF file; further JPEG pictures do not count."""
    return 1 if image.format in ('JPEG', 'MPO') else int(getattr(image, 'n_frames', 1))


def find_truncation(image: Image.Image, file: BinaryIO) -> str | None:
    """Say what is missing at the end of an image file; None where nothing is.

    Args:
        image: Open, not decoded.
        file: Its file, of which the position may change.
    """
    place = file.tell()
    length = file.seek(0, os.SEEK_END)
    try:
        if image.format in _ENDS:
            for start in (max(place, length - 64), max(place, length - _TAIL), place):
                file.seek(start)
                if _ENDS[image.format] in file.read():
                    return None
            return 'its end is missing'
        needed = _find_needed_bytes(image, file)
        return None if length >= needed else f'{length} bytes instead of {needed}'
    finally:
        file.seek(place)


def _find_needed_bytes(image: Image.Image, file: BinaryIO) -> int:
    """Return how long a WebP, TIFF or BMP file must be at least, as its header says."""
    if image.format == 'WEBP':
        file.seek(4)
        return 8 + int.from_bytes(file.read(4), 'little')
    if image.format == 'TIFF':
        tags = getattr(image, 'tag_v2', {})
        starts, sizes = (tags.get(strip, tags.get(tile, ())) for strip, tile in ((273, 324), (279, 325)))
        as_tuple = (value if isinstance(value, tuple) else (value,) for value in (starts, sizes))
        return max((start + size for start, size in zip(*as_tuple)), default=0)
    tiles = getattr(image, 'tile', None) or []
    if len(tiles) != 1 or tiles[0][0] != 'raw':  # compressed
        return 0
    decoding = tiles[0]
    stride = decoding[3][1] if isinstance(decoding[3], tuple) and len(decoding[3]) > 1 else 0
    return int(decoding[2]) + stride * image.height


def _digest(file: BinaryIO) -> str:
    length = file.seek(0, os.SEEK_END)
    digest = zlib.crc32(str(length).encode())
    for start in sorted({0, max(0, length // 2 - _BLOCK // 2), max(0, length - _BLOCK)}):
        file.seek(start)
        digest = zlib.crc32(file.read(_BLOCK), digest)
    return f'{digest:08x}'
