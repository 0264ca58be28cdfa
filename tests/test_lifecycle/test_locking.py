"""One process at a time writes to a folder, on every file system."""

import contextlib
import errno
import json
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import time

import filelock
import pytest

from kdsr.errors import report_user_errors
from kdsr.lifecycle import locking
from kdsr.lifecycle.locking import FolderInUseError, FolderLock

HERE = socket.gethostname()


class Child:
    """A forked process that does some work and then waits to be ended."""

    def __init__(self, work):
        read, write = os.pipe()
        self.pid = os.fork()
        if not self.pid:
            work()
            os.write(write, b'.')
            time.sleep(60)
            os._exit(0)
        os.close(write)
        self.ready = os.read(read, 1) == b'.'
        os.close(read)

    def kill(self):
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)


@pytest.fixture
def child():
    """Start children; none outlives the test."""
    children = []

    def start(work):
        children.append(Child(work))
        assert children[-1].ready
        return children[-1]

    yield start
    for one in children:
        with contextlib.suppress(ProcessLookupError):
            one.kill()


@pytest.fixture
def ended_pid():
    done = subprocess.Popen([sys.executable, '-c', ''])
    done.wait()
    return done.pid


@pytest.fixture(params=[errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP], ids=errno.errorcode.get)
def no_locks(request, monkeypatch):
    def acquire(self, *args, **kwargs):
        raise OSError(request.param, os.strerror(request.param))

    monkeypatch.setattr(filelock.FileLock, 'acquire', acquire)
    monkeypatch.setattr(locking, 'SETTLE_SECONDS', 0.01)
    return os.strerror(request.param)


def test_the_holder_is_named_and_the_lock_ends_with_its_process(tmp_path, child):
    folder = tmp_path / 'runs' / 'a'
    holder = child(lambda: FolderLock(folder, 'being trained').acquire())
    with pytest.raises(FolderInUseError) as refused:
        FolderLock(folder, 'being trained').acquire()
    expected = rf'{folder} is being trained by process {holder.pid} on {HERE} since '
    assert str(refused.value).startswith(expected)
    assert str(refused.value).endswith('. Wait until it has ended, or stop it.')
    assert not folder.exists()
    holder.kill()
    with FolderLock(folder, 'being trained') as lock:
        assert json.loads(lock.holder_path.read_text())['pid'] == os.getpid()
    assert not lock.holder_path.exists()
    lock.release()


def test_a_lock_is_given_back_and_can_be_taken_by_another_process(tmp_path, child):
    lock = FolderLock(tmp_path / 'a', 'being written')
    lock.acquire()
    lock.release()
    child(lambda: FolderLock(tmp_path / 'a', 'being written').acquire())
    with pytest.raises(FolderInUseError):
        lock.acquire()


def test_a_starting_process_waits_as_long_as_it_is_told(tmp_path, child):
    holder = child(lambda: FolderLock(tmp_path / 'a', 'being trained').acquire())
    begun = time.monotonic()
    with pytest.raises(FolderInUseError):
        FolderLock(tmp_path / 'a', 'being trained').acquire(wait=0.5)
    assert 0.4 < time.monotonic() - begun < 20
    killer = child(lambda: (time.sleep(0.5), os.kill(holder.pid, signal.SIGKILL)))
    assert killer.ready
    FolderLock(tmp_path / 'a', 'being trained').acquire(wait=20)


def wait_for_ever(ready):
    ready.set()
    time.sleep(60)


def test_a_process_that_the_holder_forked_does_not_keep_the_lock(tmp_path, child):
    """As loader processes do that outlive a killed training by seconds."""
    context = multiprocessing.get_context('fork')
    ready, numbers = context.Event(), context.SimpleQueue()

    def train():
        FolderLock(tmp_path / 'a', 'being trained').acquire()
        worker = context.Process(target=wait_for_ever, args=(ready,))
        worker.start()
        numbers.put(worker.pid)

    holder = child(train)
    assert ready.wait(30)
    worker = numbers.get()
    try:
        with pytest.raises(FolderInUseError):
            FolderLock(tmp_path / 'a', 'being trained').acquire()
        holder.kill()
        FolderLock(tmp_path / 'a', 'being trained').acquire()
        os.kill(worker, 0)  # it lives
    finally:
        os.kill(worker, signal.SIGKILL)


def test_a_process_that_does_not_exist_is_not_named(tmp_path, child, ended_pid):
    lock = FolderLock(tmp_path / 'a', 'being written')
    child(lock.acquire)
    for content in (json.dumps({'pid': ended_pid, 'host': HERE, 'since': 'yesterday'}), '{"pid": 1', ''):
        lock.holder_path.write_text(content)
        with pytest.raises(FolderInUseError, match=r'a is being written by another process\. Wait'):
            lock.acquire()


def test_a_file_system_without_locks_is_named_and_a_file_stands_in(tmp_path, no_locks, capfd):
    lock = FolderLock(tmp_path / 'a', 'being written')
    lock.acquire()
    said = capfd.readouterr().err
    assert f'{tmp_path} cannot be locked ({no_locks}). {lock.holder_path} stands in for the lock' in said
    assert said.count('\n') == 1
    with pytest.raises(FolderInUseError, match=f'a is being written by process {os.getpid()} on {HERE} since'):
        FolderLock(tmp_path / 'a', 'being written').acquire()
    lock.release()
    assert not lock.holder_path.exists()
    FolderLock(tmp_path / 'a', 'being written').acquire()


def test_without_locks_the_file_of_an_ended_process_is_taken_over(tmp_path, no_locks, ended_pid, capfd):
    lock = FolderLock(tmp_path / 'a', 'being written')
    lock.holder_path.write_text(json.dumps({'pid': ended_pid, 'host': HERE, 'since': 'now'}))
    lock.acquire()
    assert str(ended_pid) not in capfd.readouterr().err
    assert json.loads(lock.holder_path.read_text())['pid'] == os.getpid()


def test_without_locks_the_age_decides_about_another_machine(tmp_path, no_locks):
    lock = FolderLock(tmp_path / 'a', 'being written')
    lock.holder_path.write_text(json.dumps({'pid': 7, 'host': 'node7', 'since': 'noon'}))
    with pytest.raises(FolderInUseError, match=r'a is being written by process 7 on node7 since noon\.'):
        lock.acquire()
    long_ago = time.time() - locking.STALE_SECONDS - 5
    os.utime(lock.holder_path, (long_ago, long_ago))
    lock.acquire()
    assert json.loads(lock.holder_path.read_text())['host'] == HERE


def test_without_locks_the_holder_shows_that_it_lives(tmp_path, no_locks, monkeypatch):
    monkeypatch.setattr(locking, 'REFRESH_SECONDS', 0.05)
    with FolderLock(tmp_path / 'a', 'being written') as lock:
        long_ago = time.time() - 1000
        os.utime(lock.holder_path, (long_ago, long_ago))
        deadline = time.monotonic() + 30
        while lock.holder_path.stat().st_mtime < long_ago + 500:
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_without_locks_the_loser_of_two_takeovers_is_refused(tmp_path, no_locks, monkeypatch):
    lock = FolderLock(tmp_path / 'a', 'being written')
    winner = json.dumps({'pid': 7, 'host': 'node7', 'since': 'noon'})
    lock.holder_path.write_text('')
    os.utime(lock.holder_path, (1, 1))
    monkeypatch.setattr(locking.time, 'sleep', lambda seconds: lock.holder_path.write_text(winner))
    with pytest.raises(FolderInUseError, match='by process 7 on node7'):
        lock.acquire()


def test_an_older_filelock_that_hides_the_reason_is_understood(tmp_path, monkeypatch, capfd):
    """It reports every error of the system as a lock that another process holds; a new file cannot be locked either."""

    def acquire(self, *args, **kwargs):
        raise filelock.Timeout(self.lock_file)

    monkeypatch.setattr(filelock.FileLock, 'acquire', acquire)
    lock = FolderLock(tmp_path / 'a', 'being written')
    lock.acquire()
    assert 'cannot be locked' in capfd.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ['.a.holder']


def test_other_errors_are_not_taken_for_missing_locks(tmp_path, monkeypatch):
    def acquire(self, *args, **kwargs):
        raise PermissionError(errno.EACCES, 'Permission denied')

    monkeypatch.setattr(filelock.FileLock, 'acquire', acquire)
    with pytest.raises(PermissionError):
        FolderLock(tmp_path / 'a', 'being written').acquire()


def test_a_full_disk_does_not_keep_a_folder_from_being_locked(tmp_path, monkeypatch, child):
    def full(self, *args, **kwargs):
        raise OSError(errno.ENOSPC, 'No space left on device')

    monkeypatch.setattr(locking.Path, 'write_text', full)
    child(FolderLock(tmp_path / 'a', 'being written').acquire)
    with pytest.raises(FolderInUseError, match='by another process'):
        FolderLock(tmp_path / 'a', 'being written').acquire()
    assert [p.name for p in tmp_path.iterdir()] == ['.a.lock']


def test_a_folder_in_the_place_of_the_lock_is_named(tmp_path):
    (tmp_path / '.a.lock').mkdir()
    with (
        pytest.raises(SystemExit, match=r"\.a\.lock'?: a folder has the name of a file: move it away"),
        report_user_errors(),
    ):
        FolderLock(tmp_path / 'a', 'being trained').acquire()
