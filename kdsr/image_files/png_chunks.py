"""The chunks of a PNG file, and which of them an enlarged image takes over as they are."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

SIGNATURE = b'\x89PNG\r\n\x1a\n'
XMP_KEYWORD = b'XML:com.adobe.xmp'
_COLOUR = (b'gAMA', b'cHRM', b'sRGB', b'cICP', b'mDCV', b'cLLI')
_TEXT = (b'tEXt', b'zTXt', b'iTXt')
_KEPT = (*_COLOUR, *_TEXT, b'pHYs', b'tIME')
_SECOND_COPIES = (XMP_KEYWORD, b'Raw profile type')  # of EXIF and XMP, with the old orientation


def png_chunk(kind: bytes, data: bytes) -> bytes:
    """Return one chunk with its length and checksum."""
    return struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))


def kept_chunks(content: bytes) -> tuple[tuple[bytes, bytes], ...]:
    """Return kind and data of the chunks of a PNG file that stay true when it is enlarged: colour, text, density.

    Nothing is returned of files of other formats; damaged chunks and those behind them are left out.
    """
    return tuple(
        (kind, data)
        for kind, data in _iterate_chunks(content)
        if kind in _KEPT and not (kind in _TEXT and data.startswith(_SECOND_COPIES))
    )


def describe_chunks(chunks: tuple[tuple[bytes, bytes], ...]) -> list[str]:
    """Return what is lost with these chunks, in words: the colour space, the names of texts."""
    lost = [f'the colour space in {kind.decode()}' for kind, _ in chunks if kind in _COLOUR and kind != b'sRGB']
    names = [data.split(b'\0', 1)[0].decode('latin-1') for kind, data in chunks if kind in _TEXT]
    return [*lost, f'the text {", ".join(names)}'] if names else lost


def _iterate_chunks(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    if not content.startswith(SIGNATURE):
        return
    position = len(SIGNATURE)
    while position + 12 <= len(content):
        (length,) = struct.unpack_from('>I', content, position)
        kind, data = content[position + 4 : position + 8], content[position + 8 : position + 8 + length]
        position += length + 12
        if kind == b'IDAT' or len(data) < length:  # skip the pixels without copying them
            continue
        if struct.unpack_from('>I', content, position - 4)[0] != zlib.crc32(kind + data):
            return
        yield kind, data
