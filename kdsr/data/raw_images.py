"""Reading a set of raw pixels: a memory map, so that a crop costs no more than the crop."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kdsr.errors import UserError

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
    """The images of a finished ``.raw`` folder. Each process that uses the object maps the file for itself.

    Args:
        folder: Made by `kdsr prepare --raw` or `kdsr cache`.
        what: Who asks, for messages, such as the option's name.

    Attributes:
        dtype: Of a value: uint8 of images, float32 of codes.
        keys: Names of the images, in the order of the file.
        channels: Planes per image; 3 is RGB.
        sizes: (N, 2), height and width of every image.
        frames: Names of the whole images, of which images are parts.
        frame_sizes: Their (height, width).

    Raises:
        UserError: the folder is missing, unfinished, of another kind, or damaged.
    """

    def __init__(self, folder: str | Path, what: str = 'raw set') -> None:
        self.folder = Path(folder).expanduser()
        index = self._read_index(what)
        self.channels: int = index['channels']
        self.dtype = np.dtype(index.get('dtype', 'uint8'))
        self.keys: list[str] = [window[1] for window in index['windows']]
        self.frames: list[str] = [frame[0] for frame in index['frames']]
        self.frame_sizes: list[tuple[int, int]] = [(frame[2], frame[3]) for frame in index['frames']]
        self._offsets = [frame[1] for frame in index['frames']]
        self._windows = np.array([[w[0], *w[2:]] for w in index['windows']], dtype=np.int64).reshape(-1, 5)
        self.sizes: np.ndarray = self._windows[:, 3:]
        self._pixels: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.keys)

    def image(self, number: int) -> np.ndarray:
        """Return image `number` as a read-only view, (C, h, w)."""
        frame, top, left, height, width = self._windows[number].tolist()
        return self.frame(frame)[:, top : top + height, left : left + width]

    def frame(self, number: int) -> np.ndarray:
        """Return the whole image `number` as a read-only view, (C, H, W)."""
        offset, (height, width) = self._offsets[number], self.frame_sizes[number]
        size = self.channels * height * width * self.dtype.itemsize
        return self._map()[offset : offset + size].view(self.dtype).reshape(self.channels, height, width)

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
        return {**self.__dict__, '_pixels': None}

    def _read_index(self, what: str) -> dict[str, Any]:
        path = self.folder / INDEX_FILE
        if not path.is_file():
            raise UserError(f'{what}: {self.folder} {self._absence()}')
        try:
            index = json.loads(path.read_bytes())
            if index['format'] != FORMAT:
                raise UserError(
                    f'{what}: {self.folder} is in the format {index["format"]!r}, not {FORMAT!r}. Make it again.'
                )
            self._check_size(index['bytes'], what)
        except (ValueError, KeyError, TypeError) as error:
            if isinstance(error, UserError):
                raise
            raise UserError(f'{what}: {path} is damaged ({error}). Make or copy {self.folder} again.') from None
        return index

    def _check_size(self, expected: int, what: str) -> None:
        path = self.folder / PIXEL_FILE
        found = path.stat().st_size if path.is_file() else 0
        if found != expected:
            raise UserError(
                f'{what}: {path} has {found} bytes instead of {expected}. It is damaged or was copied in part; make '
                f'or copy {self.folder} again.'
            )

    def _absence(self) -> str:
        if self.folder.with_name(f'{self.folder.name}.partial').exists():
            return 'is not finished: run the command that began it again.'
        if self.folder.exists():
            return f'holds no {INDEX_FILE}: it is no raw set. `kdsr prepare --raw` makes one.'
        return 'does not exist.'
