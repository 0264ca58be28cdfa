"""BasicSR's LMDBs: their lists, and one environment for all readers of a process."""

from __future__ import annotations

import os
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from basicsr.data.data_util import paired_paths_from_lmdb as basicsr_paired_paths_from_lmdb
from basicsr.utils.file_client import LmdbBackend

from kdsr.compat.dataset_files import read_image_list
from kdsr.errors import UserError

if TYPE_CHECKING:
    import lmdb

basicsr_open_backend = LmdbBackend.__init__
_READING = {'readonly': True, 'lock': False, 'readahead': False}  # BasicSR's defaults
_open: weakref.WeakValueDictionary[tuple[int, int], Any] = weakref.WeakValueDictionary()

LONGEST_KEY = 511  # bytes; LMDB refuses to look for longer ones


def read_meta_info(folder: str | os.PathLike[str]) -> dict[str, tuple[int, int]]:
    """Return key and (height, width) of every image of a BasicSR LMDB, as its ``meta_info.txt`` lists them.

    Raises:
        UserError: the list is missing or damaged, or names an image twice.
    """
    path = Path(folder) / 'meta_info.txt'
    if not path.is_file():
        raise UserError(f'{folder} is not an LMDB of BasicSR: it has no meta_info.txt.')
    listed = read_image_list(path)
    sizes: dict[str, tuple[int, int]] = {}
    for image in listed:
        key = image.name.split('.')[0]  # as BasicSR does
        if image.size is None:
            raise UserError(
                f'{folder} is not an LMDB of BasicSR: line {image.line} of its meta_info.txt cannot be read, '
                'it must be NAME (height,width,channels) LEVEL.'
            )
        if len(key.encode(errors='surrogateescape')) > LONGEST_KEY:
            raise UserError(f'{path}: the name in line {image.line} is too long for an LMDB. Make the LMDB again.')
        if key in sizes:
            raise UserError(f'{path} lists {key!r} twice (line {image.line}). Make the LMDB again.')
        sizes[key] = image.size
    return sizes


def open_lmdb(folder: str | os.PathLike[str]) -> lmdb.Environment:
    """Open an LMDB for reading. All readers of a process share one environment, which is closed when none is left.

    lmdb 3 refuses to open a file twice in a process. A truncated file is refused here: reading behind its end would
    end the process.

    Returns:
        The environment. Do not close it: drop it.

    Raises:
        UserError: it is missing, damaged or truncated.
    """
    import lmdb

    try:
        found = os.stat(Path(folder) / 'data.mdb')
        identity = (found.st_dev, found.st_ino)
        environment = _open.get(identity) or lmdb.open(os.fspath(folder), readonly=True, lock=False, readahead=False)
    except (lmdb.Error, OSError) as error:
        reason = getattr(error, 'strerror', None) or str(error).replace(f'{os.fspath(folder)}: ', '')
        raise UserError(
            f'{folder} cannot be opened ({reason}). It is damaged or was copied in part; make it again.'
        ) from error
    needed = (environment.info()['last_pgno'] + 1) * environment.stat()['psize']
    if found.st_size < needed:
        raise UserError(
            f'{folder}/data.mdb has {found.st_size} bytes instead of {needed}: it is truncated. Make or copy it again.'
        )
    _open[identity] = environment
    return environment


def open_backend(
    self: Any, db_paths: str | Sequence[str], client_keys: str | Sequence[str] = 'default', **settings: Any
) -> None:
    """Let several datasets of a process read one LMDB; lmdb 3 refuses to open a file twice.

    Raises:
        UserError: an LMDB is missing, damaged or truncated.
        ValueError: the keys are not as many as the paths.
    """
    if {**_READING, **settings} != _READING:
        basicsr_open_backend(self, db_paths, client_keys, **settings)
        return
    self.db_paths = [db_paths] if isinstance(db_paths, (str, os.PathLike)) else list(db_paths)
    keys = [client_keys] if isinstance(client_keys, str) else list(client_keys)
    if len(keys) != len(self.db_paths):
        raise ValueError(f'{len(keys)} client_keys for {len(self.db_paths)} db_paths')
    self._client = {key: open_lmdb(path) for key, path in zip(keys, self.db_paths)}


def paired_paths_from_lmdb(folders: list[str], keys: list[str]) -> list[dict[str, str]]:
    """Read the lists of LMDBs with a byte order mark, blank lines, and names without ending, as `kdsr check` does.

    Raises:
        UserError: a list is missing or damaged, or the two list different images.
    """
    if not all(folder.endswith('.lmdb') for folder in folders):
        return basicsr_paired_paths_from_lmdb(folders, keys)  # it refuses them
    lists = [read_meta_info(folder) for folder in folders]
    if lists[0].keys() != lists[1].keys():
        raise UserError(f'{folders[0]} and {folders[1]} list different images. Make both from the same images.')
    return [{f'{key}_path': name for key in keys} for name in sorted(lists[0])]
