"""A BasicSR LMDB that is written image by image."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import lmdb

from kdsr.compat.lmdb_files import open_lmdb, read_meta_info
from kdsr.data.disk_room import SLACK, free_bytes, is_disk_full, reserve_bytes
from kdsr.data.growing_folder import GrowingFolder
from kdsr.errors import UserError
from kdsr.foreign.kinds import LMDB_JOURNAL_LINE
from kdsr.wording import counted

PNG_LEVEL = 1
CHECKSUM_FILE = 'checksums.json'
_FIRST_MAP_SIZE = 64 * 2**20
_RESERVED = 64 * 2**20  # bytes that are reserved at a time
_PAGES = 64  # that a transaction may need for its trees, besides the images

# one sub-image: key, (height, width), PNG file
Entry = tuple[str, tuple[int, int], bytes]


class LmdbWriter(GrowingFolder[Sequence[Entry]]):
    """An LMDB environment, ``meta_info.txt``, as BasicSR reads them, and checksums; `final` ends in ``.lmdb``."""

    journal_line = LMDB_JOURNAL_LINE
    _used = _reserved = 0  # where in the file the pages and the reserved room end

    def _open_storage(self, stack: contextlib.ExitStack) -> None:
        try:  # without LMDB's lock file, which is mapped into memory: on a full disk that ends the process
            self._env = stack.enter_context(lmdb.open(str(self.partial), map_size=_FIRST_MAP_SIZE, lock=False))
        except lmdb.Error as error:
            self._raise_if_full(error)
            raise UserError(f'{error}. If {self.partial} is damaged, delete it to start again.') from error
        self._data = stack.enter_context((self.partial / 'data.mdb').open('r+b', buffering=0))
        self._check_length()
        self._used = self._find_end()
        self._forget_others()
        stack.callback(self._cut)

    def _store(self, content: Sequence[Entry]) -> dict[str, Any]:
        def put(transaction: lmdb.Transaction) -> None:
            for key, _, png in content:
                transaction.put(key.encode('ascii'), png)

        self._transact(put, sum(len(png) for _, _, png in content), len(content))
        return {'entries': [[key, *size, zlib.crc32(png)] for key, size, png in content]}

    def _bytes_stored(self) -> int:
        return self._used

    def _find_end(self) -> int:
        return int((self._env.info()['last_pgno'] + 1) * self._env.stat()['psize'])

    def _check_length(self) -> None:
        """Refuse a file that lacks pages: LMDB maps it into memory, and reading behind its end ends the process."""
        size, needed = os.fstat(self._data.fileno()).st_size, self._find_end()
        if size < needed:
            raise UserError(
                f'{self.partial} is damaged: data.mdb has {size} bytes instead of {needed}. Delete it to start again.'
            )

    def _transact(self, work: Callable[[lmdb.Transaction], None], size: int = 0, count: int = 0) -> None:
        """Write in one transaction, for which room is reserved before.

        Raises:
            OSError: the disk is full.
        """
        page = self._env.stat()['psize']
        self._reserve(self._used + size + (2 * count + _PAGES) * page)
        while True:
            try:
                with self._env.begin(write=True) as transaction:
                    work(transaction)
                self._used = self._find_end()
                return
            except lmdb.MapFullError:
                self._env.set_mapsize(2 * self._env.info()['map_size'])
            except lmdb.Error as error:
                self._raise_if_full(error)
                raise

    def _reserve(self, end: int) -> None:
        """Reserve the file up to `end`, and more where there is room."""
        if end <= self._reserved:
            return
        for wanted in (end + _RESERVED, end):
            try:
                if not reserve_bytes(self._data.fileno(), wanted) and free_bytes(self.partial) < end - self._used:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                self._reserved = wanted
                return
            except OSError as error:
                os.ftruncate(self._data.fileno(), max(self._used, self._reserved))
                if wanted == end or not is_disk_full(error):
                    raise

    def _raise_if_full(self, error: lmdb.Error) -> None:
        """Raise what the system says where LMDB could not write; it calls a short write an input/output error."""
        if isinstance(error, lmdb.DiskError) or free_bytes(self.partial) < SLACK:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from error

    def _cut(self) -> None:
        """Give reserved room back.

        LMDB itself says where its pages end: a signal that comes during a commit is handled before `_used` is set.
        """
        if not self._data.closed:
            os.ftruncate(self._data.fileno(), self._find_end())

    def _forget_others(self) -> None:
        """Delete what a killed run committed but did not note: the image may have been replaced or removed since."""
        noted = [key for record in self._journal.values() for key, *_ in record['entries']]
        keys = {key.encode('ascii', 'backslashreplace') for key in noted}
        with self._env.begin() as transaction:
            present = set(transaction.cursor().iternext(values=False))
        if keys - present:
            raise UserError(f'{self.partial} is damaged: it lacks {counted(len(keys - present), "image")}. Delete it.')

        def delete(transaction: lmdb.Transaction) -> None:
            for key in present - keys:
                transaction.delete(key)

        if present - keys:
            self._transact(delete, count=len(present))

    def _close_storage(self, records: Sequence[Mapping[str, Any]]) -> None:
        self._forget_others()
        self._cut()
        os.fsync(self._data.fileno())
        self._data.close()
        self._env.close()
        (self.partial / 'lock.mdb').unlink(missing_ok=True)  # of an older version that began the set

    def _make_index(self, records: Sequence[Mapping[str, Any]]) -> dict[str, bytes]:
        entries = [entry for record in records for entry in record['entries']]
        meta = ''.join(f'{key}.png ({height},{width},3) {PNG_LEVEL}\n' for key, height, width, *_ in entries)
        checksums = {key: checksum[0] for key, _, _, *checksum in entries if checksum}
        return {'meta_info.txt': meta.encode('ascii'), CHECKSUM_FILE: json.dumps(checksums).encode()}

    def _prove(self, folder: Path) -> None:
        listed = read_meta_info(folder)
        found = open_lmdb(folder).stat()['entries']
        if found != len(listed) or not listed:
            raise UserError(f'{folder} holds {found} images, and its meta_info.txt lists {len(listed)}.')
