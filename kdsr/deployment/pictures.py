"""Image files, read and written with what matters kept: 16 bits, alpha, grey, orientation, colour profile."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from kdsr.errors import UserError

FORMATS = ('PNG', 'JPEG', 'BMP', 'TIFF', 'WEBP')
SUFFIXES = {
    '.png': 'PNG',
    '.jpg': 'JPEG',
    '.jpeg': 'JPEG',
    '.webp': 'WEBP',
    '.tif': 'TIFF',
    '.tiff': 'TIFF',
    '.bmp': 'BMP',
}
ORIENTATION = 0x0112
JPEG_QUALITY = 95
_UPRIGHT: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    2: np.fliplr,
    3: lambda a: np.rot90(a, 2),
    4: np.flipud,
    5: lambda a: np.swapaxes(a, 0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(np.swapaxes(a, 0, 1), 2),
    8: np.rot90,
}


@dataclass(frozen=True)
class Picture:
    """An image, upright.

    Attributes:
        pixels: (H, W) grey, (H, W, 2) grey and alpha, (H, W, 3) RGB or (H, W, 4) RGBA; uint8 or uint16. Alpha is not
            multiplied into the colours.
        profile: ICC profile, or None.
        exif: EXIF block without an orientation, or None.
    """

    pixels: np.ndarray
    profile: bytes | None = None
    exif: bytes | None = None


def read_picture(path: Path) -> Picture:
    """Read an image file; of a photo with a preview the photo.

    Raises:
        UserError: it is damaged, or of a kind that would lose something (CMYK, floating point, animation, pages).
    """
    try:
        content = path.read_bytes()
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            _refuse(image)
            decoder = str(getattr(image, 'tile', ''))  # only its arguments tell that colours have 16 bits
            if ';16' in decoder or image.mode.startswith('I'):
                pixels = _read_deep(content, grey_alpha='LA;16' in decoder)
                orientation = image.getexif().get(ORIENTATION, 1)
            else:
                image.load()  # Pillow turns TIFFs upright here, and forgets their orientation
                orientation, pixels = image.getexif().get(ORIENTATION, 1), _read_8_bits(image)
            pixels = np.ascontiguousarray(_UPRIGHT.get(orientation, lambda a: a)(pixels))
            return Picture(pixels, image.info.get('icc_profile'), _exif(image))
    except UserError as error:
        reason = str(error)
    except UnidentifiedImageError:
        reason = f'it is damaged, or no image in {", ".join(FORMATS)}.'
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError, cv2.error) as error:
        reason = f'it cannot be read ({error}): is it damaged?'
    raise UserError(f'{path}: {reason}')


def _refuse(image: Image.Image) -> None:
    if image.mode not in ('1', 'L', 'LA', 'P', 'PA', 'RGB', 'RGBA', 'I', 'I;16', 'I;16B', 'I;16L'):
        raise UserError(f'its colours are {image.mode}; convert it to RGB.')
    if getattr(image, 'n_frames', 1) > 1 and image.format != 'MPO':
        raise UserError(f'it has {image.n_frames} frames or pages; only single images are enlarged.')  # type: ignore[attr-defined]


def _read_8_bits(image: Image.Image) -> np.ndarray:
    if image.mode in ('P', 'PA', 'RGB', 'L', '1') and ('transparency' in image.info or image.mode == 'PA'):
        image = image.convert('LA' if image.mode == 'L' else 'RGBA')
    elif image.mode == 'P':
        image = image.convert('RGB')
    elif image.mode == '1':
        image = image.convert('L')
    return np.asarray(image)


def _read_deep(content: bytes, grey_alpha: bool) -> np.ndarray:
    """Read 16 bits a channel with OpenCV: Pillow would drop the low bytes of colours without a word."""
    pixels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None or pixels.dtype != np.uint16:
        raise UserError('it has more than 16 bits a channel, or a layout that OpenCV does not read. Convert it.')
    if pixels.ndim == 3:
        order = [0, 3] if grey_alpha else {3: [2, 1, 0], 4: [2, 1, 0, 3]}[pixels.shape[2]]
        pixels = pixels[..., order]
    return pixels


def _exif(image: Image.Image) -> bytes | None:
    if image.format == 'TIFF':  # its EXIF is the description of its own pixels
        return None
    exif = image.getexif()
    exif.pop(ORIENTATION, None)
    return exif.tobytes() if len(exif) else None


def encode(picture: Picture, kind: str, name: str) -> bytes:
    """Return an image file's content.

    Args:
        picture: 16 bits stay 16 bits in PNG and TIFF, and are rounded for the others.
        kind: One of `FORMATS`. JPEG is written with quality 95 and full colour resolution, WebP without loss.
        name: For messages.

    Raises:
        UserError: JPEG or BMP, and the image has an alpha channel.
    """
    channels = 1 if picture.pixels.ndim == 2 else picture.pixels.shape[2]
    if channels in (2, 4) and kind in ('JPEG', 'BMP'):
        raise UserError(f'{name}: {kind} has no transparency, and the image has an alpha channel: --format png.')
    if picture.pixels.dtype == np.uint16:
        if kind == 'PNG':
            return _png_16(picture)
        if kind == 'TIFF':
            return _tiff_16(picture)
        picture = replace(picture, pixels=((picture.pixels.astype(np.uint32) + 128) // 257).astype(np.uint8))
    settings: dict[str, dict[str, object]] = {
        'JPEG': {'quality': JPEG_QUALITY, 'subsampling': 0},
        'WEBP': {'lossless': True},
        'TIFF': {'compression': 'tiff_adobe_deflate'},
    }
    known = {} if picture.profile is None or kind == 'BMP' else {'icc_profile': picture.profile}
    if picture.exif is not None and kind in ('JPEG', 'PNG', 'WEBP'):
        known['exif'] = picture.exif
    file = io.BytesIO()
    Image.fromarray(picture.pixels).save(file, kind, **settings.get(kind, {}), **known)
    return file.getvalue()


def _png_16(picture: Picture) -> bytes:
    """Write 16 bits a channel, which Pillow cannot; profile and EXIF are chunks of their own."""
    pixels = picture.pixels
    height, width = pixels.shape[:2]
    colour_type = {1: 0, 2: 4, 3: 2, 4: 6}[1 if pixels.ndim == 2 else pixels.shape[2]]
    rows = pixels.astype('>u2').reshape(height, -1).view(np.uint8)
    # Filter 2 (each byte minus the one above it) costs nothing and halves smooth images.
    above = np.vstack([np.zeros((1, rows.shape[1]), np.uint8), rows[:-1]])
    filtered = np.hstack([np.full((height, 1), 2, np.uint8), rows - above])
    chunks = [(b'IHDR', struct.pack('>IIBBBBB', width, height, 16, colour_type, 0, 0, 0))]
    if picture.profile is not None:
        chunks.append((b'iCCP', b'ICC profile\0\0' + zlib.compress(picture.profile)))
    if picture.exif is not None:
        chunks.append((b'eXIf', picture.exif[6:] if picture.exif.startswith(b'Exif\0\0') else picture.exif))
    chunks += [(b'IDAT', zlib.compress(filtered.tobytes(), 6)), (b'IEND', b'')]
    return b'\x89PNG\r\n\x1a\n' + b''.join(
        struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data)) for kind, data in chunks
    )


def _tiff_16(picture: Picture) -> bytes:
    """Write a baseline TIFF with 16 bits a channel, deflated, in one strip; with the profile as its tag."""
    pixels = picture.pixels
    height, width = pixels.shape[:2]
    channels = 1 if pixels.ndim == 2 else pixels.shape[2]
    strip = zlib.compress(pixels.astype('<u2').tobytes(), 6)
    short, long, undefined = 3, 4, 7
    tags = [  # (tag, type, count, content)
        (256, long, 1, struct.pack('<I', width)),
        (257, long, 1, struct.pack('<I', height)),
        (258, short, channels, struct.pack(f'<{channels}H', *[16] * channels)),
        (259, short, 1, struct.pack('<H', 8)),
        (262, short, 1, struct.pack('<H', 2 if channels > 2 else 1)),
        (273, long, 1, struct.pack('<I', 8)),
        (277, short, 1, struct.pack('<H', channels)),
        (278, long, 1, struct.pack('<I', height)),
        (279, long, 1, struct.pack('<I', len(strip))),
        (284, short, 1, struct.pack('<H', 1)),
    ]
    if channels in (2, 4):
        tags.append((338, short, 1, struct.pack('<H', 2)))  # alpha that is not multiplied in
    if picture.profile is not None:
        tags.append((34675, undefined, len(picture.profile), picture.profile))
    directory_at = 8 + len(strip) + len(strip) % 2
    behind = directory_at + 2 + 12 * len(tags) + 4
    entries, extra = b'', b''
    for tag, kind, count, value in tags:
        if len(value) > 4:
            at = struct.pack('<I', behind + len(extra))
            extra += value + b'\0' * (len(value) % 2)
        else:
            at = value.ljust(4, b'\0')
        entries += struct.pack('<HHI', tag, kind, count) + at
    head = struct.pack('<2sHI', b'II', 42, directory_at) + strip + b'\0' * (len(strip) % 2)
    return head + struct.pack('<H', len(tags)) + entries + struct.pack('<I', 0) + extra
