"""Read image files of any origin: upright, with all their bits, or refused with the reason."""

from __future__ import annotations

import io
import stat
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image, ImageCms, UnidentifiedImageError

from kdsr.errors import UserError
from kdsr.image_files.formats import MAX_PIXELS, READABLE, name_unread_kind
from kdsr.image_files.metadata import Metadata, orientation_of, read_metadata
from kdsr.image_files.orientation import turn_upright
from kdsr.image_files.picture import Picture
from kdsr.image_files.tiff_reading import TiffImage, is_tiff, needs_tifffile, read_tiff, refuse_preview

_MODES = (
    '1', 'L', 'LA', 'La', 'P', 'PA', 'RGB', 'RGBA', 'RGBa', 'RGBX', 'YCbCr', 'CMYK', 'I', 'I;16', 'I;16B', 'I;16L',
)  # fmt: skip
_PILLOW_LIMIT = threading.Lock()


def read_picture(source: Path | bytes, name: str = '', max_pixels: int = MAX_PIXELS) -> Picture:
    """Read an image file; of a photo with a preview the photo.

    Args:
        source: The file, or its content.
        name: For messages; the path when left out.
        max_pixels: Refuse larger images.

    Raises:
        UserError: the file is damaged, too large, or of a kind that would lose something (animation, pages, floating
            point, CMYK without a profile).
    """
    name = name or str(source if isinstance(source, Path) else 'the image')
    try:
        content = source if isinstance(source, bytes) else _load_content(source)
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # Pillow notes damaged EXIF; read_metadata tells it
            return _read_content(content, max_pixels)
    except UserError as error:
        reason = str(error)
    except UnidentifiedImageError:
        reason = 'it is damaged, or no image of a kind that is read.'
    except MemoryError:
        raise
    except Exception as error:  # Pillow and OpenCV raise what the damage leads to
        reason = f'it cannot be read ({type(error).__name__}: {error}): is it damaged?'
    raise UserError(f'{name}: {reason}')


def _load_content(path: Path) -> bytes:
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode):
        raise UserError('it is not a file (a folder, pipe or device).')
    return path.read_bytes()


def _read_content(content: bytes, max_pixels: int) -> Picture:
    try:
        with _open(content, max_pixels) as image:
            return _read(image, content, max_pixels)
    except UnidentifiedImageError:
        if kind := name_unread_kind(content):
            raise UserError(f'it is a {kind} file, which is not read. Convert it to PNG or JPEG.') from None
        if not is_tiff(content):
            raise
        return _turn_tiff_upright(read_tiff(content, max_pixels))


def _turn_tiff_upright(tiff: TiffImage) -> Picture:
    pixels = np.ascontiguousarray(turn_upright(tiff.pixels, tiff.orientation))
    return Picture(pixels, Metadata(profile=tiff.profile), 'TIFF', tiff.assumed)


@contextmanager
def _open(content: bytes, max_pixels: int) -> Iterator[Image.Image]:
    """Open an image with our limit of its size instead of Pillow's, which is a variable of the whole process."""
    with _PILLOW_LIMIT:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            image = Image.open(
                io.BytesIO(content), formats=[name for name in READABLE if name in _list_known_formats()]
            )
        finally:
            Image.MAX_IMAGE_PIXELS = limit
    with image:
        if image.width * image.height > max_pixels:
            raise UserError(
                f'it has {image.width}x{image.height} pixels, more than {max_pixels:,}. If that is right: '
                '--max-megapixels.'
            )
        yield image


def _list_known_formats() -> dict[str, Any]:
    Image.init()
    return Image.OPEN


def _read(image: Image.Image, content: bytes, max_pixels: int) -> Picture:
    notes: list[str] = []
    _refuse(image, notes)
    decoder = str(getattr(image, 'tile', ''))  # only its arguments tell that colours have 16 bits; loading empties it
    orientation = orientation_of(image)
    metadata, damaged = read_metadata(image, content)
    tags = dict(image.tag_v2) if image.format == 'TIFF' else {}  # type: ignore[attr-defined]
    if tags and needs_tifffile(tags):
        found = read_tiff(content, max_pixels)
        pixels, orientation = found.pixels, found.orientation
        notes += found.assumed
    elif ';16' in decoder or image.mode.startswith('I') or _is_rounded_by_pillow(image, content):
        pixels = _read_deep(image, content, grey_alpha='LA;16' in decoder)
    else:
        image.load()  # Pillow turns TIFFs upright here, and forgets their orientation
        orientation = 1 if image.format == 'TIFF' else orientation
        pixels, metadata = _read_8_bits(image, metadata)
    pixels = np.ascontiguousarray(turn_upright(pixels, orientation))
    return Picture(pixels, metadata, str(image.format), tuple(damaged + notes))


def _refuse(image: Image.Image, notes: list[str]) -> None:
    if image.format == 'TIFF':
        refuse_preview(dict(image.tag_v2))  # type: ignore[attr-defined]
    if image.mode not in _MODES:
        raise UserError(f'its colours are {image.mode}; convert it to RGB.')
    try:
        frames = getattr(image, 'n_frames', 1)
    except Exception as error:  # of a damaged chain of pages; the first one may be whole
        notes.append(f'what follows its first page cannot be read ({type(error).__name__}: {error})')
        frames = 1
    image.seek(0)
    if frames > 1 and image.format not in ('MPO', 'PSD'):  # previews of a photo; layers of a picture
        raise UserError(f'it has {frames} frames or pages; only single images are enlarged.')


def _read_8_bits(image: Image.Image, metadata: Metadata) -> tuple[np.ndarray, Metadata]:
    mode = image.mode
    if mode == 'CMYK':
        return _convert_cmyk(image, metadata)
    if mode in ('P', 'PA', 'RGB', 'L', '1') and ('transparency' in image.info or mode == 'PA'):
        image = image.convert('LA' if mode in ('L', '1') else 'RGBA')
    elif mode in ('P', 'RGBX', 'YCbCr'):
        image = image.convert('RGB')
    elif mode in ('1', 'La', 'RGBa'):
        image = image.convert({'1': 'L', 'La': 'LA', 'RGBa': 'RGBA'}[mode])
    return np.asarray(image), metadata


def _convert_cmyk(image: Image.Image, metadata: Metadata) -> tuple[np.ndarray, Metadata]:
    """Convert through the file's profile, without which nobody knows what the inks look like."""
    if metadata.profile is None:
        raise UserError('its colours are CMYK without a colour profile, so that they are not known. Convert it to RGB.')
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile('sRGB'))
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(metadata.profile))
        converted = ImageCms.profileToProfile(
            image,
            source,
            srgb,
            renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
            outputMode='RGB',
            flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
    except ImageCms.PyCMSError as error:
        raise UserError(f'its colours are CMYK, and its colour profile does not fit ({error}).') from None
    assert converted is not None
    return np.asarray(converted), Metadata(**{**vars(metadata), 'profile': srgb.tobytes()})


def _read_deep(image: Image.Image, content: bytes, grey_alpha: bool) -> np.ndarray:
    """Read 16 bits a channel with OpenCV: Pillow would drop the low bytes of colours without a word."""
    if image.format not in ('PNG', 'PPM', 'JPEG2000'):
        raise UserError(f'it is a {image.format} file with more than 8 bits a channel; convert it to PNG.')
    pixels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None or pixels.dtype != np.uint16:
        raise UserError('it is damaged, or has a layout that OpenCV does not read. Convert it.')
    if pixels.ndim == 3:
        pixels = pixels[..., [0, 3] if grey_alpha else [2, 1, 0, 3][: pixels.shape[2]]]
    key = image.info.get('transparency')  # of PNG: one colour is transparent
    if image.format == 'PNG' and key is not None and (pixels.ndim == 2 or pixels.shape[2] == 3):
        planes = pixels[..., None] if pixels.ndim == 2 else pixels
        opaque = (planes != np.asarray(key, np.uint16)).any(axis=2, keepdims=True)
        pixels = np.concatenate([planes, np.where(opaque, np.uint16(65535), np.uint16(0))], axis=2)
    return pixels


def _is_rounded_by_pillow(image: Image.Image, content: bytes) -> bool:
    """Say whether the header states more than 8 bits a channel where Pillow rounds them without a word."""
    if image.format == 'PPM':
        words: list[bytes] = []
        for line in content[:1000].split(b'\n'):
            words += line.split(b'#', 1)[0].split()
        return len(words) > 3 and words[0] in (b'P5', b'P6') and words[3].isdigit() and int(words[3]) > 255
    if image.format == 'JPEG2000':
        size_marker = content.find(b'\xff\x51')  # SIZ; the depth of the first component is its 40th byte
        return 0 <= size_marker < len(content) - 40 and content[size_marker + 40] & 0x7F >= 8
    return False
