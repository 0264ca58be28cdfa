"""Write PNG files row by row, 8 and 16 bits a channel (Pillow needs the whole image, and has no 16-bit colours)."""

from __future__ import annotations

import struct
import zlib
from typing import BinaryIO

import numpy as np

from kdsr.image_files.formats import PixelLayout
from kdsr.image_files.metadata import Metadata
from kdsr.image_files.png_chunks import SIGNATURE, XMP_KEYWORD, png_chunk
from kdsr.image_files.rows import RowBlocks, in_blocks

_BLOCK = 64  # rows that are filtered at a time
_COLOUR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}
_UP, _PAETH = 2, 4


def write_png(file: BinaryIO, rows: RowBlocks, layout: PixelLayout, metadata: Metadata, level: int = 6) -> None:
    """Write a PNG file.

    Args:
        file: Open for writing.
        rows: uint8 or uint16 as `layout` says.
        layout: Of the image.
        metadata: What is written of it: profile, EXIF, XMP, resolution, and PNG chunks as they are.
        level: Of zlib, 0 to 9.
    """
    depth = 16 if layout.deep else 8
    head = struct.pack('>IIBBBBB', layout.width, layout.height, depth, _COLOUR_TYPES[layout.channels], 0, 0, 0)
    file.write(SIGNATURE + png_chunk(b'IHDR', head))
    for kind, data in _make_metadata_chunks(metadata):
        file.write(png_chunk(kind, data))
    compressor = zlib.compressobj(level)
    step = layout.channels * depth // 8
    above = np.zeros(layout.width * step, np.uint8)
    for block in in_blocks(rows, _BLOCK):
        lines = block.astype('>u2' if layout.deep else np.uint8, copy=False).reshape(len(block), -1).view(np.uint8)
        _write_data(file, compressor.compress(_filter_lines(lines, above, step).tobytes()))
        above = lines[-1]
    _write_data(file, compressor.flush())
    file.write(png_chunk(b'IEND', b''))


def _write_data(file: BinaryIO, data: bytes) -> None:
    if data:
        file.write(png_chunk(b'IDAT', data))


def _make_metadata_chunks(metadata: Metadata) -> list[tuple[bytes, bytes]]:
    chunks = list(metadata.png_chunks)
    if metadata.profile is not None:
        chunks.append((b'iCCP', b'ICC profile\0\0' + zlib.compress(metadata.profile)))
    if metadata.dpi is not None and all(kind != b'pHYs' for kind, _ in chunks):
        chunks.append((b'pHYs', struct.pack('>IIB', *(round(value / 0.0254) for value in metadata.dpi), 1)))
    if metadata.exif is not None:
        chunks.append((b'eXIf', metadata.exif.removeprefix(b'Exif\0\0')))
    if metadata.xmp is not None:
        chunks.append((b'iTXt', XMP_KEYWORD + b'\0\0\0\0\0' + metadata.xmp))
    return chunks


def _filter_lines(lines: np.ndarray, above: np.ndarray, step: int) -> np.ndarray:
    """Filter rows: each by the one of Up and Paeth whose bytes are nearer to 0, as the PNG standard advises.

    Args:
        lines: (rows, bytes).
        above: (bytes,), the row before them.
        step: Bytes a pixel.

    Returns:
        (rows, 1 + bytes): the number of the filter and the filtered row.
    """
    before = np.vstack([above[None], lines[:-1]])
    up = lines - before
    paeth = up.copy()
    left, corner = lines[:, :-step].astype(np.int16), before[:, :-step].astype(np.int16)
    over = before[:, step:].astype(np.int16)
    from_left, from_over = np.abs(over - corner), np.abs(left - corner)
    from_corner = np.abs(left + over - 2 * corner)
    guess = np.where(from_over <= from_corner, over, corner)
    guess = np.where((from_left <= from_over) & (from_left <= from_corner), left, guess)
    paeth[:, step:] = lines[:, step:] - guess.astype(np.uint8)
    use_paeth = _weigh(paeth) < _weigh(up)
    result = np.empty((lines.shape[0], 1 + lines.shape[1]), np.uint8)
    result[:, 0] = np.where(use_paeth, _PAETH, _UP)
    result[:, 1:] = np.where(use_paeth[:, None], paeth, up)
    return result


def _weigh(filtered: np.ndarray) -> np.ndarray:
    """Return the sum of the distances of a row's bytes to 0, both ways round."""
    return np.minimum(filtered, 0 - filtered).sum(axis=1, dtype=np.int64)
