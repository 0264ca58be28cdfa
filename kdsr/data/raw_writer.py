"""A set of raw pixels that is written image by image; `raw_images` reads it."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kdsr.data.growing_folder import GrowingFolder
from kdsr.data.raw_images import FORMAT, INDEX_FILE, PIXEL_FILE, Window
from kdsr.errors import UserError

# one image, (C, H, W), and what datasets see of it
Frame = tuple[np.ndarray, Sequence[Window]]


class RawWriter(GrowingFolder[Frame]):
    """One file of pixels, image after image, channel after channel (RGB), and an index; ends in ``.raw``.

    Sub-images are windows on whole images, so where they overlap nothing is stored twice.

    Args:
        channels: Planes per image; 3 for RGB.
        dtype: Of a value: uint8, or float32 where the images are none (codes).
    """

    def __init__(
        self,
        final: Path,
        settings: Mapping[str, Any],
        sources: Mapping[str, Any],
        channels: int = 3,
        dtype: str = 'uint8',
    ) -> None:
        super().__init__(final, settings, sources)
        self.channels = channels
        self.dtype = np.dtype(dtype)

    @property
    def bytes_per_pixel(self) -> int:
        """Size of all planes of a pixel."""
        return self.channels * self.dtype.itemsize

    @property
    def bytes_stored(self) -> int:
        """Size of the images that are finished."""
        return sum(self._size(record) for record in self._journal.values())

    def _size(self, record: Mapping[str, Any]) -> int:
        height, width = record['frame']
        return self.bytes_per_pixel * int(height) * int(width)

    def _bytes_on_disk(self) -> int:
        return os.fstat(self._pixels.fileno()).st_size

    def _open_storage(self, stack: contextlib.ExitStack) -> None:
        self._pixels = stack.enter_context((self.partial / PIXEL_FILE).open('ab', buffering=0))
        if self._bytes_on_disk() < self.bytes_stored:
            raise UserError(f'{self.partial} is damaged: {PIXEL_FILE} is too short. Delete the folder.')
        self._pixels.truncate(self.bytes_stored)  # a kill may have left part of an image

    def _store(self, content: Frame) -> dict[str, Any]:
        image, windows = content
        rest = np.ascontiguousarray(image).reshape(-1).view(np.uint8).data
        while rest:
            rest = rest[self._pixels.write(rest) :]
        os.fsync(self._pixels.fileno())
        return {'frame': list(image.shape[1:]), 'entries': [list(window) for window in windows]}

    def _check_stored(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Compare sizes; images lie in the file in the order of the journal."""
        if self._bytes_on_disk() != self.bytes_stored:
            raise UserError(f'{self.partial} is damaged: {PIXEL_FILE} has another size than noted. Delete the folder.')

    def _index(self, records: Sequence[Mapping[str, Any]]) -> tuple[str, bytes]:
        offsets, end = {}, 0
        for source, record in self._journal.items():
            offsets[source] = end
            end += self._size(record)
        index = {
            'format': FORMAT,
            'channels': self.channels,
            'dtype': self.dtype.name,
            'bytes': end,
            'frames': [[record['file'], offsets[record['file']], *record['frame']] for record in records],
            'windows': [[number, *entry] for number, record in enumerate(records) for entry in record['entries']],
        }
        return INDEX_FILE, json.dumps(index).encode()


def check_room(folder: Path, needed: int) -> None:
    """Refuse to begin what the disk cannot hold.

    Args:
        folder: Where to; it need not exist yet.
        needed: In bytes.

    Raises:
        UserError: there is less room.
    """
    folder = Path(os.path.abspath(folder))
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise UserError(f'{gigabytes(needed)} are needed in {folder}, and {gigabytes(free)} are free. Make room.')


def gigabytes(size: int) -> str:
    """Write a size for people."""
    return f'{size / 1e9:.2f} GB' if size >= 1e7 else f'{size / 1e6:.2f} MB'
