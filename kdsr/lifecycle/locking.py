"""One lock for every folder that only one process may write to: a run, a prepared set, a cache.

The lock file lies beside the folder, because the folder itself may be renamed. The system releases the lock when the
process ends, however it ends. A second file beside it names the holder, for messages.

Some network file systems have no locks. There the file that names the holder is the lock: the holder refreshes it, and
another process takes over a file that nobody refreshes any more.
"""

from __future__ import annotations

import contextlib
import errno
import inspect
import json
import os
import secrets
import socket
import sys
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from kdsr.errors import UserError
from kdsr.foreign import parse_json
from kdsr.foreign.kinds import HOLDER
from kdsr.processes import may_be_running

REFRESH_SECONDS = 30.0
STALE_SECONDS = 300.0  # without a refresh; several times the delay with which NFS shows a new time
SETTLE_SECONDS = 1.0  # after a takeover, until the slower one of two sees that it lost
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP}
_held: set[FolderLock] = set()  # by this process; filelock gives a lock back that nobody refers to


class FolderInUseError(UserError):
    """Another process holds the lock of a folder."""


@dataclass(frozen=True)
class Holder:
    """The process that holds a lock."""

    pid: int
    host: str
    since: str

    @classmethod
    def here(cls) -> Holder:
        """Describe this process."""
        return cls(os.getpid(), socket.gethostname(), time.strftime('%Y-%m-%d %H:%M:%S'))

    @classmethod
    def read(cls, path: Path) -> Holder | None:
        """Read the file that names the holder; return None where there is none, or only a part of one."""
        try:
            content = parse_json(path.read_bytes(), HOLDER)
        except (OSError, ValueError):
            return None
        return cls(content['pid'], content['host'], content['since'])

    def write(self, path: Path) -> None:
        """Replace the file that names the holder."""
        temporary = path.with_name(f'{path.name}.{secrets.token_hex(8)}')
        try:
            temporary.write_text(json.dumps(asdict(self)), encoding='utf-8')
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)

    def __str__(self) -> str:
        return f'process {self.pid} on {self.host} since {self.since}'


class FolderLock:
    """The right to write to a folder, for one process.

    Args:
        folder: It may not exist yet, and it may be renamed while it is locked.
        use: What the holder does, for the message ``f'{folder} is {use} by {holder}'``.
        cure: The end of that message.

    Example:
        >>> with FolderLock('datasets/DF2K_HR_sub.lmdb', 'being written'):  # doctest: +SKIP
        ...     write_images()
    """

    def __init__(
        self, folder: str | os.PathLike[str], use: str, cure: str = 'Wait until it has ended, or stop it.'
    ) -> None:
        self.folder, self.use, self.cure = Path(os.path.normpath(folder)), use, cure
        self.path = self.folder.with_name(f'.{self.folder.name}.lock')
        self.holder_path = self.folder.with_name(f'.{self.folder.name}.holder')
        self._lock: FileLock | None = None
        self._end_refresh: threading.Event | None = None

    def acquire(self, wait: float = 0.0) -> None:
        """Take the lock.

        Args:
            wait: How long to wait for another holder, in seconds.

        Raises:
            FolderInUseError: another process holds it. The message names that process only if it exists.
            OSError: the folder of the lock file cannot be written to.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        lock = _new_lock(self.path)
        try:
            lock.acquire(timeout=wait)
        except (OSError, NotImplementedError) as error:  # Timeout is an OSError
            reason = _reason_against_locks(error, self.path.parent)
            if reason is None:
                raise self._describe_conflict(Holder.read(self.holder_path)) from None
            self._acquire_by_file(reason)
        else:
            self._lock = lock
            with contextlib.suppress(OSError):  # on a full disk, messages name no holder
                Holder.here().write(self.holder_path)
        _held.add(self)

    def release(self, remove: bool = False) -> None:
        """Give the lock back. A second call changes nothing.

        Args:
            remove: Delete the lock file. Only for a folder that is finished: another process may have opened that file,
                and would not exclude a third one, which creates it anew.
        """
        if self._lock is None and self._end_refresh is None:
            return
        with contextlib.suppress(OSError):
            self.holder_path.unlink()
        if self._end_refresh is not None:
            self._end_refresh.set()
        if self._lock is not None:
            self._lock.release()
        if remove:
            with contextlib.suppress(OSError):
                self.path.unlink()
        self._lock = self._end_refresh = None
        _held.discard(self)

    def __enter__(self) -> FolderLock:
        self.acquire()
        return self

    def __exit__(self, *error: object) -> None:
        self.release()

    def _acquire_by_file(self, reason: str) -> None:
        """Take the lock where the file system has none: create the holder's file, which only one process can."""
        sys.stderr.write(
            f'kdsr: {self.path.parent} cannot be locked ({reason}). {self.holder_path} stands in for the lock: do not '
            'start two processes for one folder at the same moment.\n'
        )
        me = Holder.here()
        if not _create(self.holder_path, me):
            holder = Holder.read(self.holder_path)
            if not self._is_left_over(holder):
                raise self._describe_conflict(holder)
            me.write(self.holder_path)
            time.sleep(SETTLE_SECONDS)
            if (winner := Holder.read(self.holder_path)) != me:
                raise self._describe_conflict(winner)
        self._end_refresh = threading.Event()
        threading.Thread(target=_refresh, args=(self.holder_path, self._end_refresh), daemon=True).start()

    def _is_left_over(self, holder: Holder | None) -> bool:
        """Return whether the process that wrote the holder's file has ended."""
        if holder is not None and holder.host == socket.gethostname():
            return not may_be_running(holder.pid, holder.host)
        return _age(self.holder_path) > STALE_SECONDS

    def _describe_conflict(self, holder: Holder | None) -> FolderInUseError:
        exists = holder is not None and may_be_running(holder.pid, holder.host)
        who = str(holder) if exists else 'another process'
        return FolderInUseError(f'{self.folder} is {self.use} by {who}. {self.cure}')


def _new_lock(path: Path) -> FileLock:
    if 'fallback_to_soft' in inspect.signature(FileLock.__init__).parameters:  # not in older versions of filelock
        return FileLock(path, thread_local=False, fallback_to_soft=False)
    return FileLock(path, thread_local=False)


def _reason_against_locks(error: Exception, folder: Path) -> str | None:
    """Say why the file system cannot lock; None when it can, and another process holds the lock.

    Args:
        error: What filelock raised.
        folder: The folder of the lock file.

    Raises:
        OSError: the error has nothing to do with locks.
    """
    if isinstance(error, Timeout):
        return _probe(folder)  # older versions of filelock take every error of the system for a lock of another process
    if isinstance(error, OSError) and error.errno not in _NO_LOCKS:
        raise error
    return getattr(error, 'strerror', None) or str(error)


def _probe(folder: Path) -> str | None:
    """Lock a new file in the folder. Say why that is impossible; None when it is possible."""
    path = folder / f'.{secrets.token_hex(8)}.lock'
    lock = _new_lock(path)
    try:
        lock.acquire(timeout=0)
        lock.release()
    except (OSError, NotImplementedError) as error:
        return getattr(error, 'strerror', None) or 'even a new file in it cannot be locked'
    finally:
        path.unlink(missing_ok=True)
    return None


def _create(path: Path, holder: Holder) -> bool:
    """Create the holder's file; return False when it exists."""
    try:
        with path.open('x', encoding='utf-8') as file:
            file.write(json.dumps(asdict(holder)))
    except FileExistsError:
        return False
    return True


def _age(path: Path) -> float:
    """Return the seconds since a file was written, by the clock of its file system; infinity when it is gone."""
    probe = path.with_name(f'{path.name}.{secrets.token_hex(8)}')
    try:
        probe.touch()
        return probe.stat().st_mtime - path.stat().st_mtime
    except FileNotFoundError:
        return float('inf')
    finally:
        probe.unlink(missing_ok=True)


def _refresh(path: Path, end: threading.Event) -> None:
    """Show every half minute that the holder of a file lives."""
    while not end.wait(REFRESH_SECONDS):
        with contextlib.suppress(OSError):
            os.utime(path)


def _leave_locks_to_parent() -> None:
    """Close the copies of the lock files in a forked process: a lock ends with the process that took it.

    Newer versions of filelock do that themselves. With older ones, a loader process that outlives a killed training
    would keep the run locked.
    """
    for held in list(_held):
        context = getattr(held._lock, '_context', None)
        descriptor = getattr(context, 'lock_file_fd', None)
        if context is not None and descriptor is not None:
            os.close(descriptor)
            context.lock_file_fd = None
        held._lock = held._end_refresh = None
    _held.clear()


if hasattr(os, 'register_at_fork'):
    os.register_at_fork(after_in_child=_leave_locks_to_parent)
