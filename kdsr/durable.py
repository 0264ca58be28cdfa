"""Files that are either complete under their name or not there, whatever happens to the process or the machine."""

from __future__ import annotations

import contextlib
import functools
import os
import re
import secrets
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from kdsr.processes import may_be_running

_LONGEST_NAME = 100  # of the target, inside the name of its temporary file; file systems allow 255 bytes


def write_durably(path: Path, content: bytes | memoryview) -> None:
    """Write `content` to a hidden temporary file beside `path`, flush it to the disk, and rename it to `path`.

    Missing folders of `path` are made. Every call has a temporary file of its own, so several processes may write to
    one target: the last one wins, and the file is whole at every moment.

    Raises:
        OSError: the disk is full, or the folder cannot be written to.
    """
    with replace_durably(path) as file:
        file.write(content)


@contextlib.contextmanager
def replace_durably(path: Path) -> Iterator[BinaryIO]:
    """Open the temporary file of :func:`write_durably`, for content that is written piece by piece.

    If the block raises, the temporary file is removed, and `path` is as it was. Before its first file in a folder, a
    process removes those that killed processes left there.

    Raises:
        OSError: the disk is full, or the folder cannot be written to.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _tidy_once(path.parent.absolute())
    target = os.fsdecode(os.fsencode(path.name)[:_LONGEST_NAME])
    writer = f'{secrets.token_hex(4)}-{os.getpid()}-{socket.gethostname()[:64]}'
    temporary = path.with_name(f'.{target}.{writer}.partial')
    try:
        with temporary.open('xb+') as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    sync_folder(path.parent)


@functools.cache
def _tidy_once(folder: Path) -> None:
    with contextlib.suppress(OSError):  # they may belong to another user
        remove_partial_files(folder)


def remove_partial_files(folder: Path) -> None:
    """Remove the temporary files that killed processes of this machine left in a folder."""
    for path in folder.glob('.*.partial') if folder.is_dir() else ():
        writer = re.search(r'\.[0-9a-f]{8}-(\d+)-(.*)\.partial$', path.name)
        if writer and not may_be_running(int(writer[1]), writer[2]):
            path.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Flush the names in `folder` to the disk, where the platform can."""
    if os.name == 'nt':  # Windows cannot open folders
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def tells_case_apart(path: Path) -> bool:
    """Return whether names that differ only in capitals are two files there. On Windows and most Macs they are one.

    Args:
        path: A file or folder that need not exist.
    """
    for one in (path.absolute(), *path.absolute().parents):
        swapped = one.with_name(one.name.swapcase()) if one.name else one
        if swapped != one and one.exists():
            return not (swapped.exists() and swapped.samefile(one))
    return os.name != 'nt'
