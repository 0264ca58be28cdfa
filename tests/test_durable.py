"""Files that are whole or not there."""

import errno
import multiprocessing
import os
import signal
import socket
import sys
import threading

import pytest

from kdsr import durable
from kdsr.durable import remove_partial_files, tells_case_apart, write_durably


def write_often(path, letter, start):
    start.wait(60)
    for _ in range(40):
        write_durably(path, letter * 100_000)


def test_four_parallel_writers_of_one_file_do_not_collide(tmp_path):
    target = tmp_path / 'scores.json'
    context = multiprocessing.get_context('fork')
    start = context.Event()
    writers = [context.Process(target=write_often, args=(target, letter, start)) for letter in (b'a', b'b', b'c', b'd')]
    for writer in writers:
        writer.start()
    start.set()
    while any(writer.is_alive() for writer in writers):
        content = target.read_bytes() if target.exists() else b''
        assert len(set(content)) <= 1
        assert len(content) in (0, 100_000)
    assert [writer.exitcode for writer in writers] == [0] * 4
    assert os.listdir(tmp_path) == ['scores.json']


def test_two_threads_have_temporary_files_of_their_own(tmp_path, monkeypatch):
    both, names = threading.Barrier(2, timeout=30), []

    def replace(source, target):
        names.append(source)
        both.wait()
        os.rename(source, target)

    monkeypatch.setattr(durable.os, 'replace', replace)
    threads = [threading.Thread(target=write_durably, args=(tmp_path / 'a', content)) for content in (b'1', b'2')]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(names)) == 2
    assert (tmp_path / 'a').read_bytes() in (b'1', b'2')


def test_the_first_file_in_a_folder_tidies_up_after_killed_processes(tmp_path):
    child = multiprocessing.get_context('fork').Process(target=int)
    child.start()
    child.join()
    host = socket.gethostname()
    names = {pid: f'.a.png.0123abcd-{pid}-{host}.partial' for pid in (child.pid, os.getpid())}
    for name in (*names.values(), '.mine.partial'):
        (tmp_path / name).touch()
    write_durably(tmp_path / 'b.png', b'')
    assert sorted(os.listdir(tmp_path)) == sorted([names[os.getpid()], '.mine.partial', 'b.png'])


def test_a_full_disk_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, 'No space left on device')

    (tmp_path / 'a').write_bytes(b'old')
    monkeypatch.setattr(durable.os, 'fsync', full)
    with pytest.raises(OSError, match='No space left'):
        write_durably(tmp_path / 'a', b'new')
    assert [p.name for p in tmp_path.iterdir()] == ['a']
    assert (tmp_path / 'a').read_bytes() == b'old'


def test_a_name_of_the_full_length_can_be_written(tmp_path):
    name = 'é' * 127
    write_durably(tmp_path / name, b'1')
    assert (tmp_path / name).read_bytes() == b'1'


def test_files_have_the_permissions_that_the_user_asks_for(tmp_path):
    before = os.umask(0o027)
    try:
        write_durably(tmp_path / 'a', b'1')
    finally:
        os.umask(before)
    assert (tmp_path / 'a').stat().st_mode & 0o777 == 0o640


def test_what_a_killed_writer_left_is_removed_and_what_a_living_one_writes_is_not(tmp_path):
    killed = os.fork()
    if not killed:
        durable.os.fsync = lambda descriptor: os.kill(os.getpid(), signal.SIGKILL)
        write_durably(tmp_path / 'a', b'1')
    os.waitpid(killed, 0)
    left = list(tmp_path.iterdir())
    assert len(left) == 1
    living = left[0].with_name(left[0].name.replace(f'-{killed}-', f'-{os.getpid()}-'))
    elsewhere = left[0].with_name('.a.01234567-1-another-machine.partial')
    foreign = left[0].with_name('.a.partial')
    for path in (living, elsewhere, foreign):
        path.touch()
    remove_partial_files(tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted([living, elsewhere, foreign])
    remove_partial_files(tmp_path / 'nowhere')


@pytest.mark.skipif(sys.platform != 'linux', reason='plays both kinds of file system')
def test_a_file_system_that_does_not_tell_case_apart_is_known(tmp_path):
    folder = tmp_path / 'Photos'
    folder.mkdir()
    (tmp_path / 'pHOTOS').mkdir()
    assert tells_case_apart(folder / '1.png')
    (tmp_path / 'pHOTOS').rmdir()
    (tmp_path / 'pHOTOS').symlink_to(folder)  # as Windows and macOS answer
    assert not tells_case_apart(folder)
    assert not tells_case_apart(folder / 'new' / '1.png')
