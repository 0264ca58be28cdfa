"""What an image file holds beside its pixels, and what of it another format can hold."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from PIL import ExifTags, Image

from kdsr.image_files.formats import WRITABLE
from kdsr.image_files.png_chunks import describe_chunks, kept_chunks

ORIENTATION = 0x0112
_EXIF_SIZE = (0xA002, 0xA003)  # PixelXDimension, PixelYDimension
# Tags that describe how the old file stores its pixels; none of them is true of the result.
_STORAGE_TAGS = (254, 255, 256, 257, 258, 259, 262, 266, 273, 277, 278, 279, 284, 317, 322, 323, 324, 325, 338, 339)
_TEXT_TAGS = (0x010E, 0x010F, 0x0110, 0x0131, 0x0132, 0x013B, 0x8298)  # description, camera, software, date, author
_RESOLUTION_TAGS = (282, 283, 296)  # written as the resolution
_LARGEST_JPEG_BLOCK = {'exif': 65_533, 'xmp': 65_502}
_WORDS = {'profile': 'the colour profile', 'exif': 'EXIF', 'xmp': 'XMP', 'dpi': 'the resolution'}


@dataclass(frozen=True)
class Metadata:
    """The metadata of an image.

    Attributes:
        profile: ICC profile.
        exif: EXIF block, without orientation and thumbnail.
        xmp: XMP packet, without orientation.
        dpi: Horizontal and vertical resolution in pixels per inch.
        png_chunks: Kind and data of a PNG file's colour, text and density chunks, as they are.
    """

    profile: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    dpi: tuple[float, float] | None = None
    png_chunks: tuple[tuple[bytes, bytes], ...] = ()


def read_metadata(image: Image.Image, content: bytes) -> tuple[Metadata, list[str]]:
    """Read what an image file holds beside its pixels.

    Args:
        image: Opened by Pillow.
        content: The file.

    Returns:
        The metadata, and one sentence for each part that is damaged and therefore left out.
    """
    readers: dict[str, Callable[[], Any]] = {
        'profile': lambda: image.info.get('icc_profile') or None,
        'exif': lambda: _read_exif(image),
        'xmp': lambda: _read_xmp(image),
        'dpi': lambda: _read_dpi(image),
    }
    found: dict[str, Any] = {'png_chunks': kept_chunks(content)}
    warnings = []
    for name, read in readers.items():
        try:
            found[name] = read()
        except Exception as error:  # Pillow raises what the damage leads to: struct.error, TypeError, KeyError, ...
            warnings.append(f'{_WORDS[name]} cannot be read and is dropped ({type(error).__name__}: {error})')
    return Metadata(**found), warnings


def orientation_of(image: Image.Image) -> int:
    """Return the EXIF orientation, 1 to 8; 1 where it is missing or damaged."""
    try:
        value = image.getexif().get(ORIENTATION, 1)
    except Exception:  # as in read_metadata, which warns
        return 1
    return value if value in range(1, 9) else 1


def fit_metadata(metadata: Metadata, format_name: str, height: int, width: int) -> tuple[Metadata, list[str]]:
    """Return the metadata that a format holds, with the size of the result, and one sentence for what it does not.

    Args:
        metadata: Of the source.
        format_name: A key of `kdsr.image_files.formats.WRITABLE`.
        height: Of the result.
        width: Of the result.
    """
    given: dict[str, Any] = {name: value for name, value in vars(metadata).items() if value}
    kept = {name: value for name, value in given.items() if name in WRITABLE[format_name].holds}
    dropped = [_WORDS[name] for name in given if name not in kept and name != 'png_chunks']
    if 'png_chunks' not in kept:
        dropped += describe_chunks(metadata.png_chunks)
    if format_name == 'TIFF' and 'exif' in kept and not _has_texts_only(kept['exif']):
        dropped.append('what EXIF holds beside texts')
    warnings = [f'{format_name} does not hold {", ".join(dropped)}: dropped'] if dropped else []
    for name, resize in (('exif', _resize_exif), ('xmp', _resize_xmp)):
        if name not in kept:
            continue
        kept[name] = resize(kept[name], height, width)
        if format_name == 'JPEG' and len(kept[name]) > _LARGEST_JPEG_BLOCK[name]:
            warnings.append(f'{_WORDS[name]} has {len(kept.pop(name)):,} bytes, more than JPEG holds: dropped')
    return Metadata(**kept), warnings


def _read_exif(image: Image.Image) -> bytes | None:
    exif = image.getexif()
    if image.format == 'TIFF':  # its tags describe its own pixels, too
        kept = Image.Exif()
        for tag in _TEXT_TAGS:
            if tag in exif:
                kept[tag] = exif[tag]
        for block in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo):
            if block in exif:
                kept[block] = dict(exif.get_ifd(block))
        exif = kept
    for tag in (ORIENTATION, *_STORAGE_TAGS):
        exif.pop(tag, None)
    return exif.tobytes() if len(exif) else None


def exif_texts(block: bytes) -> dict[int, str]:
    """Return tag and text of what an EXIF block says in words: description, camera, software, date, author, rights."""
    exif = Image.Exif()
    exif.load(block)
    return {tag: str(exif[tag]) for tag in _TEXT_TAGS if tag in exif}


def _has_texts_only(block: bytes) -> bool:
    exif = Image.Exif()
    exif.load(block)
    return set(exif) <= {*_TEXT_TAGS, *_RESOLUTION_TAGS}


def _resize_exif(block: bytes, height: int, width: int) -> bytes:
    exif = Image.Exif()
    exif.load(block)
    if ExifTags.IFD.Exif in exif:
        details = exif.get_ifd(ExifTags.IFD.Exif)
        details.update((tag, size) for tag, size in zip(_EXIF_SIZE, (width, height)) if tag in details)
    return exif.tobytes()


def _read_xmp(image: Image.Image) -> bytes | None:
    xmp = image.info.get('xmp')
    if not xmp:
        return None
    return _replace_xmp_value(xmp.encode() if isinstance(xmp, str) else bytes(xmp), b'tiff:Orientation', 1)


def _resize_xmp(packet: bytes, height: int, width: int) -> bytes:
    for name, size in ((b'ImageWidth', width), (b'ImageLength', height)):
        packet = _replace_xmp_value(packet, b'tiff:' + name, size)
    for name, size in ((b'PixelXDimension', width), (b'PixelYDimension', height)):
        packet = _replace_xmp_value(packet, b'exif:' + name, size)
    return packet


def _replace_xmp_value(packet: bytes, name: bytes, value: int) -> bytes:
    """Replace a number in an XMP packet, written as an attribute (name="8") or as an element (<name>8</name>)."""
    pattern = rb'(' + name + rb'\s*(?:=\s*["\']|>)\s*)\d+'
    return re.sub(pattern, lambda match: match[1] + str(value).encode(), packet)


def _read_dpi(image: Image.Image) -> tuple[float, float] | None:
    if image.info.get('jfif_unit') == 0:  # an aspect ratio; Pillow says 72 dpi
        return None
    given = image.info.get('dpi')
    if not isinstance(given, tuple) or len(given) != 2:
        return None
    horizontal, vertical = (float(value) for value in given)
    return (horizontal, vertical) if min(horizontal, vertical) > 1 and max(horizontal, vertical) < 65_536 else None
