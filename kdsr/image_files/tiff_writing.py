"""Write TIFF files strip by strip, 8 and 16 bits a channel, deflated."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np
import tifffile

from kdsr.image_files.formats import PixelLayout
from kdsr.image_files.metadata import Metadata, exif_texts
from kdsr.image_files.rows import RowBlocks, in_blocks

_STRIP = 64  # rows
_CLASSIC_LIMIT = 4_000_000_000  # bytes; the offsets of a classic TIFF have 32 bits
_XMP_TAG = 700
_BYTES, _ASCII = 1, 2


def write_tiff(file: BinaryIO, rows: RowBlocks, layout: PixelLayout, metadata: Metadata, level: int = 6) -> None:
    """Write a TIFF file, a BigTIFF where the pixels have 4 GB and more.

    Args:
        file: Open for writing, and able to seek.
        rows: uint8 or uint16 as `layout` says.
        layout: Of the image.
        metadata: What is written of it: profile, XMP, resolution.
        level: Of zlib, 0 to 9.
    """
    dtype = np.dtype('<u2' if layout.deep else 'u1')
    shape = (layout.height, layout.width, *([layout.channels] if layout.channels > 1 else []))
    with tifffile.TiffWriter(file, bigtiff=int(np.prod(shape)) * dtype.itemsize > _CLASSIC_LIMIT, byteorder='<') as out:
        out.write(
            _make_strips(rows, layout, dtype, level),
            shape=shape,
            dtype=dtype,
            photometric='rgb' if layout.channels > 2 else 'minisblack',
            planarconfig='contig' if layout.channels > 1 else None,
            extrasamples=['unassalpha'] if layout.has_alpha else None,
            rowsperstrip=_STRIP,
            compression='zlib',
            predictor=True,
            iccprofile=metadata.profile,
            resolution=metadata.dpi,
            resolutionunit=None if metadata.dpi is None else 'INCH',
            extratags=_make_extra_tags(metadata),
            metadata=None,
            software=False,
        )


def _make_extra_tags(metadata: Metadata) -> list[tuple[int, int, int, bytes | str, bool]]:
    """Return tags as tifffile takes them: number, type, count, value, only once."""
    texts = {} if metadata.exif is None else exif_texts(metadata.exif)
    tags: list[tuple[int, int, int, bytes | str, bool]] = [
        (tag, _ASCII, 0, text.encode('ascii', 'replace').decode(), True) for tag, text in texts.items()
    ]
    if metadata.xmp is not None:
        tags.append((_XMP_TAG, _BYTES, len(metadata.xmp), metadata.xmp, True))
    return tags


def _make_strips(rows: RowBlocks, layout: PixelLayout, dtype: np.dtype, level: int) -> Iterator[bytes]:
    """Yield deflated strips; each pixel is stored as its difference to the one on its left (predictor 2)."""
    for block in in_blocks(rows, _STRIP):
        pixels = block.reshape(len(block), layout.width, layout.channels).astype(dtype, copy=True)
        pixels[:, 1:] -= pixels[:, :-1].copy()
        yield zlib.compress(pixels.tobytes(), level)
