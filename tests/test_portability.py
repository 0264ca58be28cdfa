"""What Windows and macOS lack or do otherwise, tried on Linux with it taken away."""

import ast
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[1]

# Python on Windows has no such modules, signals and functions, and cannot open a folder.
WINDOWS = """
import os, signal, sys

for name in ('fcntl', 'resource', 'pwd', 'grp', 'termios', 'tty', 'pty', 'posix_ipc', 'syslog'):
    sys.modules[name] = None
import multiprocessing, subprocess, tempfile  # Python's own have what they need
for name in ('SIGUSR1', 'SIGUSR2', 'SIGHUP', 'SIGQUIT', 'SIGALRM', 'SIGBUS', 'pthread_sigmask', 'pause', 'alarm'):
    delattr(signal, name)
for name in ('getuid', 'geteuid', 'sched_getaffinity', 'killpg', 'setsid', 'getpgid', 'getloadavg'):
    delattr(os, name)

if __name__ == '__main__':
    from kdsr.cli import main
    main(sys.argv[1:])
"""


@pytest.fixture
def on_windows(workspace):
    """Run the kdsr command as far as possible as on Windows."""
    script = workspace.root / 'windows.py'
    script.write_text(WINDOWS)

    def run(*arguments, status=0):
        env = {**os.environ, 'OMP_NUM_THREADS': '1', 'CUDA_VISIBLE_DEVICES': ''}
        command = [sys.executable, str(script), *map(str, arguments)]
        done = subprocess.run(command, cwd=workspace.root, env=env, capture_output=True, text=True, timeout=200)
        assert done.returncode == status, done.stdout[-2000:] + done.stderr[-3000:]
        assert 'Traceback' not in done.stderr
        return done.stdout + done.stderr

    return run


@pytest.mark.slow
def test_training_caching_and_resuming_need_nothing_of_unix(workspace, on_windows):
    opt = workspace.options(model_type='DistillationModel', iterations=2)
    opt['datasets']['train']['num_worker_per_gpu'] = 1
    opt['distillation'] = {
        'teachers': [workspace.teacher('EDSR')], 'losses': {'l_kd': {'type': 'ResponseLoss'}}, 'cache': 'cache.raw',
    }  # fmt: skip
    file = workspace.write(opt)
    on_windows('cache', file)
    on_windows('train', '-opt', file)
    opt['train']['total_iter'] = 4
    assert 'iter' in on_windows('train', '-opt', workspace.write(opt), '--auto_resume')
    assert (workspace.root / 'experiments' / 'run' / 'models' / 'net_g_4.pth').is_file()


@pytest.mark.slow
def test_preparing_and_enlarging_need_nothing_of_unix(workspace, on_windows):
    workspace.images(count=2, size=64, name='hr')
    on_windows('prepare', 'hr/gt', '--out', 'data', '--scale', '2', '--crop-size', '32', '--step', '32')
    assert any(workspace.root.glob('data/*.lmdb'))
    Image.fromarray(np.zeros((20, 24, 3), np.uint8)).save(workspace.root / 'photo.png')
    on_windows('upscale', 'photo.png', '-o', 'large.png')
    with Image.open(workspace.root / 'large.png') as large:
        assert large.size == (48, 40)


def tracked():
    listed = subprocess.run(['git', 'ls-files', '-z'], cwd=ROOT, capture_output=True, check=False)
    if listed.returncode:
        pytest.skip('no git checkout')
    return [PurePosixPath(name) for name in listed.stdout.decode().split('\0') if name]


def test_every_file_of_the_project_has_a_name_that_windows_and_macos_can_hold():
    paths = {folder for path in tracked() for folder in (path, *path.parents)}
    same = Counter(str(path).casefold() for path in paths)
    assert [name for name, count in same.items() if count > 1] == []
    reserved = re.compile(r'(con|prn|aux|nul|com\d|lpt\d)(\..*)?|.*[<>:"|?*\\\x00-\x1f].*|.*[. ]', re.IGNORECASE)
    assert [path for path in paths if path.name and reserved.fullmatch(path.name)] == []
    assert max(len(str(path)) for path in paths) < 150  # of 260, below a user's own folders


def opens_text_without_encoding(call):
    """Is a call of open(), Path.open(), read_text() or write_text() for text, and names no encoding?"""
    name = call.func.id if isinstance(call.func, ast.Name) else getattr(call.func, 'attr', '')
    owner = getattr(getattr(call.func, 'value', None), 'id', '')
    if name not in ('open', 'fdopen', 'read_text', 'write_text') or owner in ('Image', 'writer'):
        return False
    if name == 'open' and owner == 'os':
        return False
    modes = [
        a.value for a in call.args if isinstance(a, ast.Constant) and isinstance(a.value, str) and len(a.value) < 4
    ]
    opens_something_else = isinstance(call.func, ast.Attribute) and name == 'open' and call.args and not modes
    binary = any('b' in mode for mode in modes)
    return not (binary or opens_something_else or 'encoding' in {keyword.arg for keyword in call.keywords})


def test_text_files_have_an_encoding():
    """Windows takes its code page where none is named."""
    found = [
        f'{path.relative_to(ROOT)}:{node.lineno}'
        for folder in ('kdsr', 'scripts')
        for path in (ROOT / folder).rglob('*.py')
        for node in ast.walk(ast.parse(path.read_text(encoding='utf-8')))
        if isinstance(node, ast.Call) and opens_text_without_encoding(node)
    ]
    assert found == [], found


def test_signals_that_only_unix_has_are_asked_for():
    """`signal.SIGKILL` is an AttributeError on Windows; `getattr` and `hasattr` are not."""
    everywhere = {'SIGINT', 'SIGTERM', 'SIGABRT', 'SIGFPE', 'SIGILL', 'SIGSEGV', 'SIG_IGN', 'SIG_DFL'}
    found = {
        f'{path.relative_to(ROOT)}: signal.{node.attr}'
        for path in (ROOT / 'kdsr').rglob('*.py')
        for node in ast.walk(ast.parse(path.read_text(encoding='utf-8')))
        if isinstance(node, ast.Attribute) and getattr(node.value, 'id', '') == 'signal'
        if node.attr.startswith('SIG') and node.attr not in everywhere
    }
    assert found == set()
