"""Room on the disk: checked before a set is begun, reserved while it is written, and named when it is short."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

from kdsr.errors import DISK_IS_FULL, UserError

SLACK = 2**20  # bytes that stay free for the small files of a set
_CANNOT_RESERVE = (errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS, errno.ENODEV)


class DiskFullError(UserError):
    """The disk has too little room."""


def check_room(folder: Path, needed: int) -> None:
    """Refuse to begin what the disk cannot hold.

    Args:
        folder: Where to; it need not exist yet.
        needed: In bytes.

    Raises:
        DiskFullError: there is less room.
    """
    free = free_bytes(folder)
    if free < needed:
        raise make_disk_full_error(folder, needed, free)


def make_disk_full_error(folder: Path, needed: int, free: int | None = None) -> DiskFullError:
    """Make the error that says how much room is missing.

    Args:
        folder: Where to.
        needed: In bytes, of what is not written yet.
        free: In bytes; looked up when left out.
    """
    free = free_bytes(folder) if free is None else free
    if free < needed:
        state = f'{format_size(free)} are free: {format_size(needed - free)} are missing'
    else:
        state = f'the system takes no more, though {format_size(free)} are free; perhaps a quota is used up'
    return DiskFullError(
        f'There is no room in {folder}: about {format_size(needed)} more are needed, and {state}. '
        'Make room and run the same command again; what is finished is kept.'
    )


def free_bytes(folder: Path) -> int:
    """Return how many bytes this user may still write to a folder that need not exist yet."""
    folder = Path(os.path.abspath(folder))
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def reserve_bytes(descriptor: int, size: int) -> bool:
    """Reserve the first `size` bytes of an open file on the disk, so that writing them cannot fail for want of room.

    Returns:
        Whether they are reserved. Some systems cannot (macOS, Windows); there nothing is done.

    Raises:
        OSError: the disk is full.
    """
    if size <= 0 or not hasattr(os, 'posix_fallocate'):
        return False
    try:
        os.posix_fallocate(descriptor, 0, size)
    except OSError as error:
        if error.errno in _CANNOT_RESERVE:
            return False
        raise
    return True


def is_disk_full(error: OSError) -> bool:
    """Say whether an error of the system means that the disk or a quota is full."""
    return error.errno in DISK_IS_FULL


def format_size(size: int) -> str:
    """Write a number of bytes for people."""
    return f'{size / 1e9:.2f} GB' if size >= 1e7 else f'{size / 1e6:.2f} MB'
