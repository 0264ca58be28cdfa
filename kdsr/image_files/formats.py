"""The image formats that are read and written, and what each of them can hold."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from kdsr.errors import UserError

READABLE = (
    'PNG', 'JPEG', 'MPO', 'TIFF', 'WEBP', 'BMP', 'DIB', 'GIF', 'TGA', 'AVIF', 'JPEG2000', 'PPM', 'QOI', 'PCX', 'SGI',
    'SUN', 'PSD', 'ICO', 'ICNS', 'DDS', 'HEIF',
)  # fmt: skip
MAX_PIXELS = 178_956_970  # Pillow's limit too: a small file that claims more is more often an attack than a photo
_HEIC_BRANDS = (b'heic', b'heix', b'heim', b'heis', b'hevc', b'hevx', b'mif1', b'msf1')
_UNREAD = {
    b'\xff\x0a': 'JPEG XL', b'\0\0\0\x0cJXL ': 'JPEG XL', b'v/1\x01': 'OpenEXR', b'#?RADIANCE': 'Radiance HDR',
    b'%PDF': 'PDF', b'<svg': 'SVG', b'<?xml': 'SVG or another XML',
}  # fmt: skip
RAW_SUFFIXES = ('.dng', '.nef', '.cr2', '.cr3', '.arw', '.raf', '.orf', '.rw2', '.pef', '.srw')


@dataclass(frozen=True)
class OutputFormat:
    """What a format that is written can hold.

    Attributes:
        suffixes: Of its files, lower case; the first is the usual one.
        alpha: It has transparency.
        deep: It has 16 bits a channel.
        longest: Largest height and width in pixels.
        lossy: Its quality can be chosen.
        holds: Kinds of metadata, names of fields of `kdsr.image_files.metadata.Metadata`.
    """

    suffixes: tuple[str, ...]
    alpha: bool
    deep: bool
    longest: int
    lossy: bool
    holds: frozenset[str]


WRITABLE = {
    'PNG': OutputFormat(
        ('.png',), True, True, 2**31 - 1, False, frozenset({'profile', 'exif', 'xmp', 'dpi', 'png_chunks'})
    ),
    'JPEG': OutputFormat(
        ('.jpg', '.jpeg', '.jpe', '.jfif'), False, False, 65_500, True, frozenset({'profile', 'exif', 'xmp', 'dpi'})
    ),
    'WEBP': OutputFormat(('.webp',), True, False, 16_383, True, frozenset({'profile', 'exif', 'xmp'})),
    'TIFF': OutputFormat(('.tif', '.tiff'), True, True, 2**31 - 1, False, frozenset({'profile', 'exif', 'xmp', 'dpi'})),
    'BMP': OutputFormat(('.bmp',), False, False, 2**31 - 1, False, frozenset({'dpi'})),
}
_BY_SUFFIX = {suffix: name for name, format_ in WRITABLE.items() for suffix in format_.suffixes}


def output_format(path: Path | str) -> str | None:
    """Return the name of the format that a file name asks for, a key of `WRITABLE`; None for other names."""
    return _BY_SUFFIX.get(Path(path).suffix.lower())


def readable_suffixes() -> frozenset[str]:
    """Return the suffixes, lower case, of the files that Pillow reads here."""
    return frozenset(suffix for suffix, name in Image.registered_extensions().items() if name in READABLE)


def looks_like_image(path: Path | str) -> bool:
    """Say whether a file name has the suffix of an image, readable or not."""
    suffix = Path(path).suffix.lower()
    known = Image.registered_extensions()
    return suffix in known or suffix in RAW_SUFFIXES or suffix in ('.heic', '.heif', '.svg', '.exr', '.hdr', '.jxl')


def name_unread_kind(content: bytes) -> str | None:
    """Return the name of a kind of image that is not read, from the first bytes of a file; None for all others.

    Example:
        >>> name_unread_kind(b'%PDF-1.7')
        'PDF'
    """
    if content[4:8] == b'ftyp' and content[8:12] in _HEIC_BRANDS:
        return 'HEIC'
    return next((name for start, name in _UNREAD.items() if content.startswith(start)), None)


@dataclass(frozen=True)
class PixelLayout:
    """The size and type of an image.

    Attributes:
        height: RowBlocks.
        width: Columns.
        channels: 1 grey, 2 grey and alpha, 3 RGB, 4 RGBA.
        deep: 16 bits a channel, otherwise 8.
    """

    height: int
    width: int
    channels: int
    deep: bool = False

    @property
    def has_alpha(self) -> bool:
        """The last channel is transparency."""
        return self.channels in (2, 4)


def check_layout(layout: PixelLayout, format_name: str, name: str) -> None:
    """Refuse what a format cannot hold, before anything is computed.

    Args:
        layout: Of the result.
        format_name: A key of `WRITABLE`.
        name: The file, for messages.

    Raises:
        UserError: the format has no transparency, or smaller sides.
    """
    target = WRITABLE[format_name]
    if layout.has_alpha and not target.alpha:
        raise UserError(f'{name}: {format_name} has no transparency, and the image has an alpha channel: --format png.')
    if max(layout.height, layout.width) > target.longest:
        raise UserError(
            f'{name}: the result has {layout.width}x{layout.height} pixels, and {format_name} holds at most '
            f'{target.longest:,} a side: --format png or tif.'
        )
