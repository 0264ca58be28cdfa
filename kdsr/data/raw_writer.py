"""A set of raw pixels that is written image by image; `raw_images` reads it."""

from __future__ import annotations

import contextlib
import json
import os
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from kdsr.data.disk_room import is_disk_full, make_disk_full_error, reserve_bytes
from kdsr.data.growing_folder import GrowingFolder
from kdsr.data.raw_images import FORMAT, INDEX_FILE, PIXEL_FILE, RawImages, Window
from kdsr.errors import UserError
from kdsr.foreign.kinds import RAW_JOURNAL_LINE
from kdsr.wording import counted

# one image, (C, H, W), and what datasets see of it
Frame = tuple[np.ndarray, Sequence[Window]]


class RawWriter(GrowingFolder[Frame]):
    """One file of pixels, image after image, channel after channel (RGB), and an index; ends in ``.raw``.

    Sub-images are windows on whole images, so where they overlap nothing is stored twice.

    Args:
        final: Where the finished set goes.
        settings: What the content depends on, besides the sources.
        sources: The source images and their versions.
        channels: Planes per image; 3 for RGB.
        dtype: Of a value; float32 where the images are none (codes).
        pixels: Of all images together, for which room is reserved; 0 where that is unknown.
    """

    journal_line = RAW_JOURNAL_LINE

    def __init__(
        self,
        final: Path,
        settings: Mapping[str, Any],
        sources: Mapping[str, Any],
        channels: int = 3,
        dtype: Literal['uint8', 'float32'] = 'uint8',
        *,
        pixels: int = 0,
    ) -> None:
        self.channels = channels
        self.dtype = np.dtype(dtype)
        self._expected = pixels * self.bytes_per_pixel
        super().__init__(final, settings, sources)

    @property
    def bytes_per_pixel(self) -> int:
        """Size of all planes of a pixel."""
        return self.channels * self.dtype.itemsize

    def estimate_needed(self) -> int:
        """Return how many bytes are not written yet; exact where the number of pixels is known."""
        return max(0, self._expected - self._bytes_stored()) or super().estimate_needed()

    def _bytes_stored(self) -> int:
        return sum(self._size(record) for record in self._journal.values())

    def _size(self, record: Mapping[str, Any]) -> int:
        height, width = record['frame']
        return self.bytes_per_pixel * int(height) * int(width)

    def _open_storage(self, stack: contextlib.ExitStack) -> None:
        path, stored = self.partial / PIXEL_FILE, self._bytes_stored()
        path.touch()
        self._pixels = stack.enter_context(path.open('r+b', buffering=0))
        if os.fstat(self._pixels.fileno()).st_size < stored:
            raise UserError(f'{self.partial} is damaged: {PIXEL_FILE} is too short. Delete the folder.')
        self._end = stored
        self._cut()
        try:
            reserve_bytes(self._pixels.fileno(), self._expected)
        except OSError as error:
            self._cut()
            if not is_disk_full(error):
                raise
            raise make_disk_full_error(self.final.parent, self._expected - stored) from error
        stack.callback(self._cut)  # what was reserved is free again when the run stops early

    def _cut(self) -> None:
        """Leave nothing behind the images that are written: part of an image after a kill, or reserved room."""
        if not self._pixels.closed:
            self._pixels.truncate(self._end)

    def _store(self, content: Frame) -> dict[str, Any]:
        image, windows = content
        self._pixels.seek(self._end)
        rest = np.ascontiguousarray(image).reshape(-1).view(np.uint8).data
        checksum = zlib.crc32(rest)
        while rest:
            rest = rest[self._pixels.write(rest) :]
        os.fsync(self._pixels.fileno())
        self._end = self._pixels.tell()
        entries = [list(window) for window in windows]
        return {'frame': list(image.shape[1:]), 'crc32': checksum, 'entries': entries}

    def _close_storage(self, records: Sequence[Mapping[str, Any]]) -> None:
        self._cut()
        os.fsync(self._pixels.fileno())
        self._pixels.close()

    def _make_index(self, records: Sequence[Mapping[str, Any]]) -> dict[str, bytes]:
        offsets, end = {}, 0
        for source, record in self._journal.items():  # images lie in the file in the order of the journal
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
        if all('crc32' in record for record in records):  # an older version may have begun the set
            index['crc32'] = [record['crc32'] for record in records]
        if all('cost' in record for record in records):  # `kdsr cache` says what the teachers' images cost
            seconds, cpu_seconds = (sum(record['cost'][i] for record in records) for i in (0, 1))
            index.update(seconds=round(seconds, 1), cpu_seconds=round(cpu_seconds, 1))
        return {INDEX_FILE: json.dumps(index).encode()}

    def _prove(self, folder: Path) -> None:
        images = RawImages(folder)
        if sorted(images.frames) != sorted(self._sources):
            raise UserError(f'{folder} holds {counted(len(images.frames), "image")} of {len(self._sources):,}.')
