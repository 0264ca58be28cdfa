"""Write an image file from a stream of rows, with the metadata that its format holds."""

from __future__ import annotations

from typing import Any, BinaryIO

import numpy as np
from PIL import Image

from kdsr.image_files.formats import WRITABLE, PixelLayout, check_layout
from kdsr.image_files.jpeg_writing import write_jpeg
from kdsr.image_files.metadata import Metadata, fit_metadata
from kdsr.image_files.png_writing import write_png
from kdsr.image_files.rows import RowBlocks, to_8_bits
from kdsr.image_files.tiff_writing import write_tiff


def write_rows(
    file: BinaryIO,
    rows: RowBlocks,
    layout: PixelLayout,
    format_name: str,
    *,
    metadata: Metadata | None = None,
    quality: int | None = None,
    name: str = 'the image',
) -> list[str]:
    """Write an image.

    PNG, JPEG and TIFF take the rows as they come; WebP and BMP are collected first.

    Args:
        file: Open for writing; for TIFF it can seek.
        rows: Blocks of rows from top to bottom; uint16 is kept in PNG and TIFF, and rounded to 8 bits for the others.
        layout: Of the image.
        format_name: A key of `kdsr.image_files.formats.WRITABLE`.
        metadata: Of the source.
        quality: 1 to 100, of JPEG (95 when left out) and WebP (without loss when left out).
        name: For messages.

    Returns:
        One sentence for everything that the format does not hold.

    Raises:
        UserError: the format does not hold such an image.
    """
    check_layout(layout, format_name, name)
    fitting, warnings = fit_metadata(metadata or Metadata(), format_name, layout.height, layout.width)
    if layout.deep and not WRITABLE[format_name].deep:
        rows = to_8_bits(rows)
        layout = PixelLayout(layout.height, layout.width, layout.channels)
    if format_name == 'PNG':
        write_png(file, rows, layout, fitting)
    elif format_name == 'JPEG':
        write_jpeg(file, rows, layout, fitting, quality)
    elif format_name == 'TIFF':
        write_tiff(file, rows, layout, fitting)
    else:
        _write_whole(file, rows, layout, format_name, fitting, quality)
    return warnings


def _write_whole(
    file: BinaryIO, rows: RowBlocks, layout: PixelLayout, format_name: str, metadata: Metadata, quality: int | None
) -> None:
    whole = np.empty((layout.height, layout.width, layout.channels), np.uint8)
    start = 0
    for block in rows:
        whole[start : start + len(block)] = block.reshape(len(block), layout.width, layout.channels)
        start += len(block)
    settings: dict[str, Any] = {}
    if format_name == 'WEBP':
        settings = {'lossless': True, 'exact': True} if quality is None else {'quality': quality}
        settings.update(icc_profile=metadata.profile or b'', exif=metadata.exif or b'', xmp=metadata.xmp or b'')
    elif metadata.dpi is not None:
        settings['dpi'] = metadata.dpi
    Image.fromarray(whole[..., 0] if layout.channels == 1 else whole).save(file, format_name, **settings)
