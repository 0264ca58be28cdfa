"""Several processes at one target, and finished folders that are not whole."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kdsr.compat.lmdb_files import open_lmdb
from kdsr.data.growing_folder import JOURNAL_FILE
from kdsr.data.lmdb_writer import LmdbWriter
from kdsr.data.prepare import prepare_training_set
from kdsr.data.raw_images import RawImages, Window
from kdsr.data.raw_writer import RawWriter
from kdsr.errors import UserError

prepare = functools.partial(
    prepare_training_set, scales=(2,), crop_size=48, step=48, workers=1, progress=False
)  # fmt: skip
SCRIPT = """
import sys
from kdsr.data.prepare import prepare_training_set
from kdsr.errors import report_user_errors
with report_user_errors():
    prepare_training_set(sys.argv[1], sys.argv[2], [2], 48, 48, 1, progress=False, raw=sys.argv[3] == 'raw')
"""


@pytest.fixture
def hr(tmp_path):
    folder = tmp_path / 'set_HR'
    folder.mkdir()
    for seed in range(6):
        pixels = np.random.default_rng(seed).integers(0, 256, (96, 96, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f'{seed}.png')
    return folder


def pixels_of(folder):
    images = RawImages(folder)
    return {key: images.image(n).tobytes() for n, key in enumerate(images.keys)}


@pytest.mark.skipif(not hasattr(os, 'fork'), reason='forks')
@pytest.mark.parametrize('moment', ['before the rename', 'after the rename'])
def test_the_lock_covers_the_rename(hr, tmp_path, moment):
    """One process stands still beside its rename; another one must neither begin anew nor finish its work."""
    out = tmp_path / 'out'
    child = os.fork()
    if child == 0:
        rename, stopped = Path.rename, []

        def stop_once(self, target):
            if moment == 'after the rename':
                rename(self, target)
            if not stopped:
                stopped.append(True)
                os.kill(os.getpid(), signal.SIGSTOP)
            if moment == 'before the rename':
                rename(self, target)

        Path.rename = stop_once
        try:
            prepare(hr, out, raw=True)
        finally:
            os._exit(0)
    try:
        os.waitpid(child, os.WUNTRACED)
        with pytest.raises(UserError, match=r'set_\w+_sub\.raw is being written by process'):
            prepare(hr, out, raw=True)
    finally:
        os.kill(child, signal.SIGCONT)
        os.waitpid(child, 0)
    assert sorted(path.name for path in out.glob('[!.]*')) == ['set_HR_sub.raw', 'set_LR_bicubic_X2_sub.raw']
    prepare(hr, out, raw=True)
    assert len(pixels_of(out / 'set_HR_sub.raw')) == 24


@pytest.mark.slow
@pytest.mark.parametrize('kind', ['lmdb', 'raw'])
def test_commands_that_start_together_make_one_good_set(hr, tmp_path, kind):
    out = tmp_path / 'out'
    command = [sys.executable, '-W', 'ignore', '-c', SCRIPT, str(hr), str(out), kind]
    runs = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    errors = [run.communicate(timeout=200)[1] for run in runs]
    for run, error in zip(runs, errors):
        assert run.returncode == 0 or error.startswith('\nkdsr: '), error
    assert any(run.returncode == 0 for run in runs)
    assert not list(out.glob('*.partial'))
    prepare(hr, out, raw=kind == 'raw')
    prepare(hr, tmp_path / 'alone', raw=kind == 'raw')
    for path in (tmp_path / 'alone').rglob('[!.]*.*'):
        if path.name in ('pixels.bin', 'index.json', 'meta_info.txt', 'checksums.json'):
            assert (out / path.relative_to(tmp_path / 'alone')).read_bytes() == path.read_bytes()


def write(writer, names):
    writer.open()
    for name in names:
        writer.add(name, 0, (np.full((3, 4, 4), 7, np.uint8), [Window(name, 0, 0, 4, 4)]))


def test_a_set_that_another_process_has_finished_meanwhile_is_complete(tmp_path):
    late = RawWriter(tmp_path / 'a.raw', {}, {'x': 0, 'y': 0})
    early = RawWriter(tmp_path / 'a.raw', {}, {'x': 0, 'y': 0})
    write(early, ['x', 'y'])
    early.finish()
    assert not late.complete
    late.open()
    assert late.complete
    assert not (tmp_path / 'a.raw.partial').exists()
    late.close()


def test_a_set_that_another_process_has_carried_on_is_carried_on_from_there(tmp_path):
    late = RawWriter(tmp_path / 'a.raw', {}, {'x': 0, 'y': 0})
    early = RawWriter(tmp_path / 'a.raw', {}, {'x': 0, 'y': 0})
    write(early, ['x'])
    early.close()
    write(late, ['y'])
    assert late.finished == {'x', 'y'}
    late.finish()
    assert sorted(pixels_of(tmp_path / 'a.raw')) == ['x', 'y']


@pytest.mark.parametrize('kind', ['lmdb', 'raw'])
@pytest.mark.parametrize('damage', ['data', 'index', 'list'])
def test_a_finished_set_that_is_not_whole_is_not_called_finished(hr, tmp_path, kind, damage):
    gt, _ = prepare(hr, tmp_path / 'out', raw=kind == 'raw')
    data, index = ('pixels.bin', 'index.json') if kind == 'raw' else ('data.mdb', 'meta_info.txt')
    path = gt / (data if damage == 'data' else index)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    if damage == 'list' and kind == 'raw':
        path.write_bytes(content.replace(b'"5.png"', b'"4.png"'))
    elif damage == 'list':
        path.write_bytes(b''.join(content.splitlines(keepends=True)[:-1]))
    with pytest.raises(UserError, match=r'set_HR_sub\.\w+ exists, but it is damaged: .*Delete .* to make it again'):
        prepare(hr, tmp_path / 'out', raw=kind == 'raw')


def test_a_kill_between_the_rename_and_the_end_leaves_nothing_behind(hr, tmp_path):
    gt, _ = prepare(hr, tmp_path / 'out', raw=True)
    (gt / JOURNAL_FILE).write_text('left by a kill')
    prepare(hr, tmp_path / 'out', raw=True)
    assert not (gt / JOURNAL_FILE).exists()


@pytest.fixture
def default_interrupt():
    """Python's own answer to SIGINT, which a process that was started in the background does not have."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_a_signal_while_an_lmdb_commits_cuts_nothing_off(hr, tmp_path, default_interrupt):
    """Python handles a signal after the commit, before the writer notes the new end of the file.

    A file that was cut at the old end gave a bus error when the next run read it.
    """
    commits = []

    class StoppedInCommit:
        def __init__(self, environment):
            self.environment = environment

        def __getattr__(self, name):
            return getattr(self.environment, name)

        @contextlib.contextmanager
        def begin(self, **arguments):
            with self.environment.begin(**arguments) as transaction:
                yield transaction
            commits.append(arguments)
            signal.raise_signal(signal.SIGINT)

    settings, sources = {}, dict.fromkeys('abc', 0)
    images = {name: bytes([number]) * 50_000 for number, name in enumerate(sources)}
    writer = LmdbWriter(tmp_path / 'set.lmdb', settings, sources)
    writer.open()
    writer.add('a', 0, [('a', (4, 4), images['a'])])
    writer._env = StoppedInCommit(writer._env)
    with pytest.raises(KeyboardInterrupt):
        writer.add('b', 0, [('b', (4, 4), images['b'])])
    writer.close()
    assert commits == [{'write': True}]
    data = writer.partial / 'data.mdb'
    found = open_lmdb(writer.partial)  # it refuses a file that is shorter than its pages
    assert data.stat().st_size > 100_000
    assert found.stat()['entries'] == 2
    del found, writer

    again = LmdbWriter(tmp_path / 'set.lmdb', settings, sources)
    again.open()
    assert again.finished == {'a'}
    for name in 'bc':
        again.add(name, 0, [(name, (4, 4), images[name])])
    again.finish()
    with open_lmdb(again.final).begin() as content:
        assert {key.decode(): value for key, value in content.cursor()} == images


def test_a_begun_lmdb_that_is_shorter_than_its_pages_is_named(hr, tmp_path):
    """Reading behind the end of a mapped file would end the process with a bus error."""
    writer = LmdbWriter(tmp_path / 'set.lmdb', {}, {'a': 0, 'b': 0})
    writer.open()
    writer.add('a', 0, [('a', (4, 4), bytes(100_000))])
    writer.close()
    os.truncate(writer.partial / 'data.mdb', 40_000)
    with pytest.raises(UserError, match=r'set\.lmdb\.partial is damaged: data\.mdb has 40000 bytes instead of \d+'):
        LmdbWriter(tmp_path / 'set.lmdb', {}, {'a': 0, 'b': 0}).open()
