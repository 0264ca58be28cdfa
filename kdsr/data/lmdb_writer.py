"""A BasicSR LMDB that is written image by image."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import lmdb

from kdsr.data.growing_folder import GrowingFolder
from kdsr.errors import UserError

PNG_LEVEL = 1
_FIRST_MAP_SIZE = 64 * 2**20

# one sub-image: key, (height, width), PNG file
Entry = tuple[str, tuple[int, int], bytes]


class LmdbWriter(GrowingFolder[Sequence[Entry]]):
    """An LMDB environment and ``meta_info.txt``, as BasicSR reads them; `final` ends in ``.lmdb``."""

    def _open_storage(self, stack: contextlib.ExitStack) -> None:
        try:
            self._env = stack.enter_context(lmdb.open(str(self.partial), map_size=_FIRST_MAP_SIZE))
        except lmdb.Error as error:
            raise UserError(f'{error}. If {self.partial} is damaged, delete it to start again.') from error

    def _store(self, content: Sequence[Entry]) -> dict[str, Any]:
        def put(transaction: lmdb.Transaction) -> None:
            for key, _, png in content:
                transaction.put(key.encode('ascii'), png)

        self._transact(put)
        return {'entries': [[key, *size] for key, size, _ in content]}

    def _transact(self, work: Callable[[lmdb.Transaction], None]) -> None:
        while True:
            try:
                with self._env.begin(write=True) as transaction:
                    work(transaction)
                return
            except lmdb.MapFullError:
                self._env.set_mapsize(2 * self._env.info()['map_size'])
            except lmdb.DiskError as error:
                raise UserError(
                    f'{error}. Make room and run the same command again; what is finished is kept.'
                ) from error

    def _check_stored(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Delete what a killed run committed but did not note, where the image was replaced or removed since."""
        keys = {key.encode('ascii') for record in records for key, _, _ in record['entries']}
        with self._env.begin() as transaction:
            present = set(transaction.cursor().iternext(values=False))
        if keys - present:
            raise UserError(f'{self.partial} is damaged: {len(keys - present)} images are missing. Delete it.')

        def delete(transaction: lmdb.Transaction) -> None:
            for key in present - keys:
                transaction.delete(key)

        self._transact(delete)

    def _index(self, records: Sequence[Mapping[str, Any]]) -> tuple[str, bytes]:
        entries = [entry for record in records for entry in record['entries']]
        meta = ''.join(f'{key}.png ({height},{width},3) {PNG_LEVEL}\n' for key, height, width in entries)
        return 'meta_info.txt', meta.encode('ascii')
