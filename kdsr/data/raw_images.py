"""Raw sets, read through a memory map: only the pixels of a crop are touched."""

from __future__ import annotations

import mmap
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kdsr.errors import UserError
from kdsr.foreign import parse_json
from kdsr.foreign.kinds import RAW_INDEX
from kdsr.wording import counted

FORMAT = 'kdsr raw 1'
INDEX_FILE = 'index.json'
PIXEL_FILE = 'pixels.bin'


class Window(NamedTuple):
    """A named part of an image, in pixels."""

    key: str
    top: int
    left: int
    height: int
    width: int


class RawImages:
    """The images of a finished ``.raw`` folder. Each process that uses the object opens the memory map itself.

    The checksum of a whole image is compared when it is read first; forked processes share what they have compared.
    Sets of older versions have no checksums.

    Args:
        folder: Made by `kdsr prepare --raw` or `kdsr cache`.
        what: Begins messages, for example the name of the option.

    Attributes:
        dtype: Type of a value: uint8 for images, float32 for codes.
        keys: Names of the images, in the order of the file.
        channels: Planes per image; 3 is RGB.
        sizes: (N, 2), height and width of every image.
        frames: Names of the whole images, of which images are parts.
        frame_sizes: Their (height, width).
        has_checksums: The set can be compared with the checksums that it was written with.
        seconds, cpu_seconds: What the images cost (`kdsr cache`): time of the clock, and of all processors; None where
            that is not known.

    Raises:
        UserError: the folder is missing, unfinished, of another kind, or damaged.
    """

    def __init__(self, folder: str | Path, what: str = 'raw set') -> None:
        self.folder = Path(folder).expanduser()
        self._what = what
        try:
            self._read(self._read_index())
        except UserError:
            raise
        except ValueError as error:
            path = self.folder / INDEX_FILE
            raise UserError(f'{what}: {path} is damaged ({error}). Make or copy {self.folder} again.') from None
        self._pixels: np.ndarray | None = None

    def _read(self, index: dict[str, Any]) -> None:
        self.channels: int = index['channels']
        self.dtype = np.dtype(index.get('dtype', 'uint8'))
        self.keys: list[str] = [window[1] for window in index['windows']]
        self.frames: list[str] = [frame[0] for frame in index['frames']]
        self.frame_sizes: list[tuple[int, int]] = [(frame[2], frame[3]) for frame in index['frames']]
        self._offsets: list[int] = [frame[1] for frame in index['frames']]
        self._windows = np.array([[w[0], *w[2:]] for w in index['windows']], dtype=np.int64).reshape(-1, 5)
        self.sizes: np.ndarray = self._windows[:, 3:]
        self._checksums: list[int] | None = index.get('crc32')
        self.has_checksums = self._checksums is not None
        self.seconds: float | None = index.get('seconds')
        self.cpu_seconds: float | None = index.get('cpu_seconds')
        self._compared = mmap.mmap(-1, max(1, len(self.frames)))  # one byte an image, shared with forked processes
        self._check_places(index['bytes'])

    def _check_places(self, size: int) -> None:
        """Refuse an index whose images do not lie in the file, or whose windows do not lie in the images.

        Raises:
            ValueError: says which.
        """
        if self._checksums is not None and len(self._checksums) != len(self.frames):
            raise ValueError(f'{counted(len(self._checksums), "checksum")} for {counted(len(self.frames), "image")}')
        for name, offset, (height, width) in zip(self.frames, self._offsets, self.frame_sizes):
            if min(offset, height, width) < 0 or offset + self._frame_bytes(height, width) > size:
                raise ValueError(f'image {name!r} does not lie in {PIXEL_FILE}')
        frame, *_ = self._windows.T
        if len(frame) and not (frame.min() >= 0 and frame.max() < len(self.frames)):
            raise ValueError('a window of an image that is not there')
        inside = np.array(self.frame_sizes, dtype=np.int64).reshape(-1, 2)[frame]
        ends = self._windows[:, 1:3] + self._windows[:, 3:]
        wrong = np.flatnonzero((self._windows[:, 1:] < 0).any(axis=1) | (ends > inside).any(axis=1))
        if len(wrong):
            raise ValueError(f'{self.keys[wrong[0]]!r} does not lie in its image')

    def __len__(self) -> int:
        return len(self.keys)

    def image(self, number: int) -> np.ndarray:
        """Return image `number` as a read-only view, (C, h, w)."""
        frame, top, left, height, width = self._windows[number].tolist()
        return self.frame(frame)[:, top : top + height, left : left + width]

    def frame(self, number: int) -> np.ndarray:
        """Return the whole image `number` as a read-only view, (C, H, W).

        Raises:
            UserError: its checksum is another than when it was written.
        """
        offset, (height, width) = self._offsets[number], self.frame_sizes[number]
        content = self._map()[offset : offset + self._frame_bytes(height, width)]
        if self._checksums is not None and not self._compared[number]:
            self._compare(number, content)
        return content.view(self.dtype).reshape(self.channels, height, width)

    def _compare(self, number: int, content: np.ndarray) -> None:
        if not self._is_whole(number, content):
            raise UserError(
                f'{self._what}: the pixels of {self.frames[number]!r} in {self.folder} are damaged: their checksum is '
                'another than when they were written. Make or copy the set again.'
            )
        self._compared[number] = 1

    def _is_whole(self, number: int, content: np.ndarray) -> bool:
        return self._checksums is None or zlib.crc32(content.data) == self._checksums[number]

    def find_damaged(self) -> Iterator[str | None]:
        """Compare the checksums of all whole images; yield None for each that is right, and the name of each other."""
        for number, (offset, size) in enumerate(zip(self._offsets, self.frame_sizes)):
            content = self._map()[offset : offset + self._frame_bytes(*size)]
            yield None if self._is_whole(number, content) else self.frames[number]

    def digest(self) -> str:
        """Return a digest of the index. With checksums it depends on every pixel."""
        return f'{zlib.crc32((self.folder / INDEX_FILE).read_bytes()):08x}'

    def _frame_bytes(self, height: int, width: int) -> int:
        return self.channels * height * width * self.dtype.itemsize

    def windows(self) -> list[list[Window]]:
        """Return the images of every whole image."""
        windows: list[list[Window]] = [[] for _ in self.frames]
        for key, (frame, *place) in zip(self.keys, self._windows.tolist()):
            windows[frame].append(Window(key, *place))
        return windows

    def _map(self) -> np.ndarray:
        if self._pixels is None:
            self._pixels = np.memmap(self.folder / PIXEL_FILE, mode='r').view(np.ndarray)
        return self._pixels

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != '_compared'} | {'_pixels': None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._compared = mmap.mmap(-1, max(1, len(self.frames)))

    def _read_index(self) -> dict[str, Any]:
        path = self.folder / INDEX_FILE
        if not path.is_file():
            raise UserError(f'{self._what}: {self.folder} {self._describe_absence()}')
        index: dict[str, Any] = parse_json(path.read_bytes(), RAW_INDEX)
        if index['format'] != FORMAT:
            found = f'is in the format {index["format"]!r}, not {FORMAT!r}'
            raise UserError(f'{self._what}: {self.folder} {found}. Make it again.')
        self._check_size(index['bytes'])
        return index

    def _check_size(self, expected: int) -> None:
        path = self.folder / PIXEL_FILE
        found = path.stat().st_size if path.is_file() else 0
        if found != expected:
            raise UserError(
                f'{self._what}: {path} has {found} bytes instead of {expected}. It is damaged or was copied in part; '
                f'make or copy {self.folder} again.'
            )

    def _describe_absence(self) -> str:
        if self.folder.with_name(f'{self.folder.name}.partial').exists():
            return 'is not finished: run the command that began it again.'
        if self.folder.exists():
            return f'has no {INDEX_FILE}, so it is not a raw set. `kdsr prepare --raw` makes one.'
        return 'does not exist.'
