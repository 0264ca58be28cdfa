"""The headers of all images of a folder, in parallel and remembered, and of the images of an LMDB."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import os
import time
import zlib
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from kdsr.compat.lmdb_files import open_lmdb, read_meta_info
from kdsr.data.image_headers import ImageHeader, read_header, read_open_header
from kdsr.data.parallel import run_ahead
from kdsr.durable import write_durably

LMDB_PROBES = 512  # images of an LMDB whose headers are read: it is one file, in which reading here and there is slow
_THREADS = 8
_RUN = 64  # files that one thread reads in a row
_WORTH_KEEPING = 256  # files; reading fewer headers takes no time
_SETTLED = 5.0  # seconds; a file that was changed later may be changed again at the same time of change
_VERSION = 2  # of the files that keep headers

Known = dict[str, tuple[list[int], ImageHeader]]


def user_cache_folder() -> Path:
    """Return the folder of what kdsr keeps for later runs: `kdsr` in the user's cache folder."""
    return Path(os.environ.get('XDG_CACHE_HOME') or os.path.expanduser('~/.cache')) / 'kdsr'


def read_folder_headers(folder: str | os.PathLike[str], names: Iterable[str]) -> dict[str, ImageHeader]:
    """Read the headers of many files of a folder.

    Those of large folders are kept in the user's cache folder, and read again where a file's size or time of change
    is another.

    Args:
        folder: The folder.
        names: Of the files, relative to it.

    Returns:
        The headers by name. A file that is not an image has a `fault`.
    """
    names = list(names)
    place = _place(folder)
    known = _load(place) if len(names) >= _WORTH_KEEPING else {}
    now = time.time_ns()
    versions = {name: _version(os.path.join(folder, name)) for name in names}
    headers = {name: known[name][1] for name in names if name in known and known[name][0] == versions[name]}
    missing = [name for name in names if name not in headers]
    runs = [missing[start : start + _RUN] for start in range(0, len(missing), _RUN)]
    with ThreadPoolExecutor(_THREADS) as pool:
        for run, found in zip(runs, run_ahead(partial(_read_run, folder), runs, pool, 2 * _THREADS)):
            headers.update(zip(run, found))
    if len(names) >= _WORTH_KEEPING and missing:
        settled = {n: h for n, h in headers.items() if versions[n] and versions[n][1] < now - _SETTLED * 1e9}
        _save(place, {name: (versions[name], header) for name, header in settled.items()})
    return {name: headers[name] for name in names}


def read_lmdb_headers(folder: str | os.PathLike[str], most: int = LMDB_PROBES) -> dict[str, ImageHeader]:
    """Read the headers of images of an LMDB, spread evenly over its keys.

    Args:
        folder: The LMDB.
        most: So many of them at most.

    Returns:
        The headers by key. Keys that the LMDB lacks are left out.

    Raises:
        UserError: the LMDB cannot be opened.
    """
    keys = sorted(read_meta_info(folder))
    headers = {}
    with open_lmdb(folder).begin(buffers=True) as content:
        for key in spread(keys, most):
            found = content.get(key.encode('utf-8', 'surrogateescape'))
            if found is not None:
                headers[key] = read_open_header(io.BufferedReader(_Bytes(found), 4096))
    return headers


def spread(items: Sequence[str], most: int) -> list[str]:
    """Return at most so many items, evenly spread."""
    return [items[index * len(items) // most] for index in range(most)] if len(items) > most else list(items)


def digest_headers(headers: Mapping[str, ImageHeader]) -> str:
    """Digest the names and marks of images: 8 hexadecimal digits."""
    digest = 0
    for name in sorted(headers):
        digest = zlib.crc32(f'{name}\0{headers[name].mark}\0'.encode(errors='surrogateescape'), digest)
    return f'{digest:08x}'


class _Bytes(io.RawIOBase):
    """A read-only file on bytes in memory; only what is read is touched."""

    def __init__(self, content: memoryview) -> None:
        super().__init__()
        self._content = content
        self._place = 0

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a place."""
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: len(self._content)}[whence]
        self._place = max(0, start + offset)
        return self._place

    def readinto(self, buffer: Any) -> int:
        """Copy the next bytes."""
        part = self._content[self._place : self._place + len(buffer)]
        buffer[: len(part)] = part
        self._place += len(part)
        return len(part)


def _read_run(folder: str | os.PathLike[str], names: Sequence[str]) -> list[ImageHeader]:
    return [read_header(os.path.join(folder, name)) for name in names]


def _version(path: str) -> list[int]:
    """Return size and time of change in nanoseconds; nothing where the file cannot be looked at."""
    try:
        found = os.stat(path)
    except OSError:
        return []
    return [found.st_size, found.st_mtime_ns]


def _place(folder: str | os.PathLike[str]) -> Path:
    name = hashlib.sha256(os.fsencode(os.path.realpath(folder))).hexdigest()[:32]
    return user_cache_folder() / 'headers' / f'{name}.json'


def _load(place: Path) -> Known:
    try:
        checksum, _, content = place.read_bytes().partition(b'\n')
    except OSError:
        return {}
    if checksum != _checksum(content):
        return {}  # damaged, or of another version: the headers are read again
    return {
        name: (version, ImageHeader((size[0], size[1]), *rest))
        for name, (version, (size, *rest)) in json.loads(content).items()
    }


def _checksum(content: bytes) -> bytes:
    return f'{_VERSION} {zlib.crc32(content):08x}'.encode()


def _save(place: Path, known: Known) -> None:
    files = {name: (version, dataclasses.astuple(header)) for name, (version, header) in known.items()}
    with suppress(OSError):  # without it the next start takes longer
        place.parent.mkdir(parents=True, exist_ok=True)
        content = json.dumps(files).encode()
        write_durably(place, _checksum(content) + b'\n' + content)
