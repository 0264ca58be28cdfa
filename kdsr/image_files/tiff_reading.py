"""TIFF files that Pillow does not read as they are: 16 bits a channel, planes, associated or unspecified alpha."""

from __future__ import annotations

import io
import logging
from dataclasses import dataclass

import cv2
import numpy as np
import tifffile

from kdsr.errors import UserError
from kdsr.optional_packages import is_installed

logging.getLogger('tifffile').setLevel(logging.CRITICAL)  # what it notes is in the exceptions too
_GREY_INVERTED, _GREY, _RGB = 0, 1, 2
_UNSPECIFIED, _ASSOCIATED, _UNASSOCIATED = 0, 1, 2
_BUILT_IN = (1, 8, 32773, 32946, 34925)  # compressions that tifffile decodes itself: none, deflate, PackBits, LZMA
_PREVIEW = 1  # bit of NewSubfileType: the page is a small copy of another one, as in camera RAW files


def needs_tifffile(tags: dict[int, object]) -> bool:
    """Say whether Pillow would change the pixels of a TIFF file.

    Args:
        tags: Number to value, of the first page.
    """
    bits = tags.get(258, 1)
    deep = 16 in (bits if isinstance(bits, tuple) else (bits,))
    extra = tags.get(338, ())
    return deep or 0 in (extra if isinstance(extra, tuple) else (extra,))


def refuse_preview(tags: dict[int, object]) -> None:
    """Refuse camera RAW files, whose first page is a preview of the photo.

    Raises:
        UserError: the first page is a preview.
    """
    kind = tags.get(254, 0)
    if 50706 in tags or (isinstance(kind, int) and kind & _PREVIEW):
        raise UserError('it is a camera RAW file, whose first picture is a small preview. Convert it to TIFF or PNG.')


@dataclass(frozen=True)
class TiffImage:
    """The first page of a TIFF file.

    Attributes:
        pixels: (H, W) or (H, W, C) uint8 or uint16, as `kdsr.image_files.picture.Picture` has it, but for:
        orientation: How the pixels lie, 1 (upright) to 8.
        profile: ICC profile, or None.
        assumed: One sentence for each thing that had to be assumed.
    """

    pixels: np.ndarray
    orientation: int
    profile: bytes | None
    assumed: tuple[str, ...]


def is_tiff(content: bytes) -> bool:
    """Say whether a file begins as TIFF and BigTIFF files do."""
    return content[:4] in (b'II*\0', b'MM\0*', b'II+\0', b'MM\0+')


def read_tiff(content: bytes, max_pixels: int) -> TiffImage:
    """Decode the first page of a TIFF file.

    Args:
        content: The file.
        max_pixels: Refuse larger images.

    Raises:
        UserError: the layout or the compression is none of those that are read.
    """
    try:
        with tifffile.TiffFile(io.BytesIO(content)) as file:
            page = file.pages[0]
            assert isinstance(page, tifffile.TiffPage)
            if page.imagewidth * page.imagelength > max_pixels:
                raise UserError(f'it has {page.imagewidth}x{page.imagelength} pixels, more than {max_pixels:,}.')
            return _decode(content, page)
    except (UserError, MemoryError):
        raise
    except Exception as error:  # tifffile raises what the damage leads to
        raise UserError(f'its TIFF structure is damaged ({type(error).__name__}: {error}).') from None


def _decode(content: bytes, page: tifffile.TiffPage) -> TiffImage:
    extra = tuple(int(kind) for kind in page.extrasamples)
    photometric = int(page.photometric)
    _check_layout(page, photometric, page.samplesperpixel - len(extra), extra)
    orientation = page.tags.valueof(274, default=1)
    profile = page.tags.valueof(34675)
    if int(page.compression) not in _BUILT_IN and not is_installed('imagecodecs'):
        return TiffImage(_read_with_opencv(content, page, photometric, extra), 1, profile, ())
    pixels = page.asarray()
    if page.planarconfig == 2 and pixels.ndim == 3:
        pixels = pixels.transpose(1, 2, 0)
    pixels = pixels.astype(pixels.dtype.newbyteorder('='), copy=False)
    if photometric == _GREY_INVERTED:
        pixels = np.iinfo(pixels.dtype).max - pixels
    if extra == (_ASSOCIATED,):
        pixels = _divide_by_alpha(pixels)
    assumed = ('its last channel has no stated meaning; it is taken for transparency',) if 0 in extra else ()
    return TiffImage(pixels, orientation if orientation in range(1, 9) else 1, profile, assumed)


def _check_layout(page: tifffile.TiffPage, photometric: int, colours: int, extra: tuple[int, ...]) -> None:
    bits = page.bitspersample
    if page.dtype not in (np.uint8, np.uint16) or bits not in (8, 16):
        raise UserError(f'it has {bits} bits a channel of the type {page.dtype}; 8 and 16 bits are read. Convert it.')
    if photometric not in (_GREY_INVERTED, _GREY, _RGB) or colours != (3 if photometric == _RGB else 1):
        raise UserError(f'its colours are {page.photometric!r} with {colours} channels; convert it to RGB.')
    if len(extra) > 1:
        raise UserError(f'it has {len(extra)} channels beside its colours; one, for transparency, is read. Convert it.')
    if photometric == _GREY_INVERTED and extra:
        raise UserError('it has inverted grey values and transparency together; convert it to RGB.')


def _read_with_opencv(content: bytes, page: tifffile.TiffPage, photometric: int, extra: tuple[int, ...]) -> np.ndarray:
    """Decode the compressions that tifffile leaves to imagecodecs, where OpenCV reads the layout right, and upright."""
    plain = photometric in (_GREY, _RGB) and page.planarconfig == 1 and extra in ((), (_UNASSOCIATED,))
    if not plain or page.dtype != np.uint16 or (photometric == _GREY and extra):
        raise UserError(
            f'its compression is {page.compression!r}, with a layout for which tifffile needs imagecodecs: '
            'pip install imagecodecs, or convert it.'
        )
    pixels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None or pixels.dtype != np.uint16:
        raise UserError('it cannot be decoded: is it damaged?')
    return pixels if pixels.ndim == 2 else pixels[..., [2, 1, 0, 3][: pixels.shape[2]]]


def _divide_by_alpha(pixels: np.ndarray) -> np.ndarray:
    """Divide the colours by the alpha that is multiplied into them; where it is 0, they are 0."""
    top = np.iinfo(pixels.dtype).max
    alpha = pixels[..., -1:].astype(np.float32)
    colours = pixels[..., :-1] * (np.float32(top) / np.maximum(alpha, 1))
    colours = np.where(alpha > 0, np.minimum(np.rint(colours), top), 0)
    return np.concatenate([colours.astype(pixels.dtype), pixels[..., -1:]], axis=2)
