"""Image files of unusual kinds, made by a few lines each."""

import struct
import zlib

import numpy as np


def pixels(channels, dtype, height=9, width=14, seed=None):
    """Noise (H, W) or (H, W, C)."""
    shape = (height, width) if channels == 1 else (height, width, channels)
    rng = np.random.default_rng(channels if seed is None else seed)
    return rng.integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


def tiff(strips, width, height, *, bits=(16,), photometric=1, planar=1, extra=(), more=(), next_page=0, subfile=None):
    """Return a little-endian TIFF file, written tag by tag and independently of any library.

    Args:
        strips: Bytes of each strip; one for all rows, or one for each plane.
        width: Of the image.
        height: Of the image.
        bits: Of each sample.
        photometric: 0 inverted grey, 1 grey, 2 RGB.
        planar: 1 pixel by pixel, 2 plane by plane.
        extra: Meaning of each channel beside the colours.
        more: Other tags, (number, type, values).
        next_page: Where the file says that the next page is.
        subfile: NewSubfileType.
    """
    body = b''.join(strips)
    offsets = [8 + sum(map(len, strips[:i])) for i in range(len(strips))]
    tags = [
        (256, 4, [width]), (257, 4, [height]), (258, 3, list(bits)), (259, 3, [1]), (262, 3, [photometric]),
        (273, 4, offsets), (277, 3, [len(bits)]), (278, 4, [height]), (279, 4, [len(s) for s in strips]),
        (284, 3, [planar]), *more,
    ]  # fmt: skip
    tags += [(338, 3, list(extra))] if extra else []
    tags += [(254, 4, [subfile])] if subfile is not None else []
    tags.sort()
    start = 8 + len(body) + len(body) % 2
    outside = start + 2 + 12 * len(tags) + 4
    entries, values = b'', b''
    for number, kind, given in tags:
        data = struct.pack(f'<{len(given)}{"H" if kind == 3 else "I"}', *given)
        if len(data) > 4:
            data, values = struct.pack('<I', outside + len(values)), values + data
        entries += struct.pack('<HHI', number, kind, len(given)) + data.ljust(4, b'\0')
    head = b'II*\0' + struct.pack('<I', start) + body + b'\0' * (len(body) % 2)
    return head + struct.pack('<H', len(tags)) + entries + struct.pack('<I', next_page) + values


def png(image, bits, colour_type, *chunks):
    """Return a PNG file of rows (H, W[, C]) without filters, with chunks (kind, data) before the pixels."""
    rows = image.astype('>u2' if bits == 16 else 'u1').reshape(image.shape[0], -1).view(np.uint8)
    data = b''.join(b'\0' + row.tobytes() for row in rows)
    head = struct.pack('>IIBBBBB', image.shape[1], image.shape[0], bits, colour_type, 0, 0, 0)
    parts = [(b'IHDR', head), *chunks, (b'IDAT', zlib.compress(data)), (b'IEND', b'')]
    return b'\x89PNG\r\n\x1a\n' + b''.join(
        struct.pack('>I', len(d)) + k + d + struct.pack('>I', zlib.crc32(k + d)) for k, d in parts
    )


def read_png_chunks(content):
    """Return kind and data of all chunks."""
    position, found = 8, []
    while position < len(content):
        (length,) = struct.unpack_from('>I', content, position)
        found.append((content[position + 4 : position + 8], content[position + 8 : position + 8 + length]))
        position += 12 + length
    return found
