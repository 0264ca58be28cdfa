"""Write JPEG files strip by strip: each strip is an image that Pillow writes, and their data follow one another.

JPEG allows restart markers, at which a decoder forgets all that it saw before. With one after each row of blocks, the
data of strips that were written apart, with the same tables, are the data of one file.
"""

from __future__ import annotations

import io
import struct
from typing import BinaryIO

import numpy as np
from PIL import Image

from kdsr.errors import UserError
from kdsr.image_files.formats import PixelLayout
from kdsr.image_files.metadata import Metadata
from kdsr.image_files.rows import RowBlocks, in_blocks

QUALITY = 95
STRIP = 512  # rows; a multiple of 64, the 8 rows of blocks after which the numbers of restart markers begin anew
_START_OF_FRAME, _START_OF_SCAN, _RESTART_INTERVAL = 0xC0, 0xDA, 0xDD
_RESTART_7, _END = b'\xff\xd7', b'\xff\xd9'


def write_jpeg(
    file: BinaryIO, rows: RowBlocks, layout: PixelLayout, metadata: Metadata, quality: int | None = None
) -> None:
    """Write a JPEG file with full colour resolution.

    Args:
        file: Open for writing.
        rows: uint8, grey or RGB.
        layout: Of the image.
        metadata: What is written of it: profile, EXIF, XMP, resolution.
        quality: 1 to 100; 95 when left out.
    """
    settings = _make_settings(metadata, QUALITY if quality is None else quality)
    if layout.height <= STRIP:
        (block,) = in_blocks(rows, layout.height)
        Image.fromarray(np.ascontiguousarray(block)).save(file, 'JPEG', **settings)
        return
    for number, block in enumerate(in_blocks(rows, STRIP)):
        content = _encode_strip(block, settings if number == 0 else _make_settings(Metadata(), settings['quality']))
        markers, data_at = _find_segments(content)
        if number == 0:
            head = bytearray(content[:data_at])
            frame = markers[_START_OF_FRAME]
            head[frame + 5 : frame + 7] = struct.pack('>H', layout.height)
            file.write(head)
        else:
            file.write(_RESTART_7)
        file.write(content[data_at : -len(_END)])
    file.write(_END)


def _make_settings(metadata: Metadata, quality: int) -> dict:
    settings: dict = {'quality': quality, 'subsampling': 0}
    if metadata.profile is not None:
        settings['icc_profile'] = metadata.profile
    if metadata.exif is not None:
        settings['exif'] = metadata.exif
    if metadata.xmp is not None:
        settings['xmp'] = metadata.xmp
    if metadata.dpi is not None:
        settings['dpi'] = metadata.dpi
    return settings


def _encode_strip(block: np.ndarray, settings: dict) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(block)).save(file, 'JPEG', restart_marker_rows=1, **settings)
    return file.getvalue()


def _find_segments(content: bytes) -> tuple[dict[int, int], int]:
    """Return where each kind of segment of a JPEG file starts, and where the data of its scan do.

    Raises:
        UserError: this Pillow writes no restart markers.
    """
    position, found = 2, {}
    while True:
        kind, (length,) = content[position + 1], struct.unpack_from('>H', content, position + 2)
        found[kind] = position
        position += 2 + length
        if kind == _START_OF_SCAN:
            break
    if _RESTART_INTERVAL not in found:
        raise UserError(f'Pillow {Image.__version__} cannot write JPEG in strips: pip install "pillow>=10.3".')
    return found, position
