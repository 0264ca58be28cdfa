"""What stands between a fresh clone and the first import: the Python, BasicSR's sources, the Makefile."""

import os
import re
import runpy
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPTS = ROOT / 'scripts'
SETUP = """
version_file = 'basicsr/version.py'

def get_version():
    with open(version_file, 'r') as f:
        exec(compile(f.read(), version_file, 'exec'))
    return locals()['__version__']

print(get_version())
"""


@pytest.fixture
def script(monkeypatch):
    """Run a script of scripts/ as a module and return its names."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    return lambda name: runpy.run_path(str(SCRIPTS / name))


@pytest.mark.parametrize(
    ('place', 'reason'),
    [
        ({'version': (3, 9)}, 'no wheel for Python 3.9'),
        ({'version': (3, 15)}, 'no wheel for Python 3.15'),
        ({'version': (2, 7)}, 'no wheel for Python 2.7'),
        ({'bits': 32}, '32-bit'),
        ({'system': 'Darwin', 'machine': 'x86_64'}, 'Intel'),
        ({'system': 'Linux', 'libc': ''}, 'glibc'),
    ],
)
def test_a_python_without_a_wheel_of_pytorch_is_refused_with_the_reason(script, place, reason):
    here = {'version': (3, 12), 'bits': 64, 'system': 'Linux', 'machine': 'x86_64', 'libc': 'glibc'}
    assert reason in script('check_python.py')['refusal'](**{**here, **place})


@pytest.mark.parametrize('version', [(3, 10), (3, 11), (3, 12), (3, 13), (3, 14)])
@pytest.mark.parametrize(('system', 'machine'), [('Linux', 'x86_64'), ('Darwin', 'arm64'), ('Windows', 'AMD64')])
def test_other_pythons_are_not_refused(script, version, system, machine):
    assert script('check_python.py')['refusal'](version, system, machine, 64, 'glibc') is None


def test_setup_and_readme_name_the_pythons_that_the_check_lets_through(script):
    names = script('check_python.py')
    oldest, newest = ('.'.join(map(str, names[key])) for key in ('OLDEST', 'NEWEST'))
    assert f"python_requires='>={oldest}'" in (ROOT / 'setup.py').read_text(encoding='utf-8')
    assert f'Python {oldest} to {newest}' in (ROOT / 'README.md').read_text(encoding='utf-8')
    assert f'Python {oldest} to {newest}' in (ROOT / 'Makefile').read_text(encoding='utf-8')
    pinned = re.search(r'^torch==(\d+\.\d+)', (ROOT / 'requirements.txt').read_text(encoding='utf-8'), re.MULTILINE)[1]
    assert f'PyTorch {pinned},' in names['refusal']((3, 9))


def test_an_environment_of_another_python_is_named(script, tmp_path):
    other = script('check_python.py')['other_python']
    assert other(str(tmp_path), (3, 13)) is None  # there is none yet
    (tmp_path / 'pyvenv.cfg').write_text('home = /usr/bin\nversion = 3.11.7\n', encoding='utf-8')
    assert other(str(tmp_path), (3, 11)) is None
    assert '3.11, not 3.13' in other(str(tmp_path), (3, 13))


@pytest.mark.skipif(shutil.which('make') is None, reason='no make')
def test_make_refuses_a_python_in_one_line_and_makes_nothing(tmp_path):
    old = tmp_path / 'old_python'
    program = (
        f'import sys, runpy; sys.version_info = (3, 9, 2); sys.argv = sys.argv[1:]; sys.path[0] = {str(SCRIPTS)!r}\n'
    )
    (tmp_path / 'old.py').write_text(program + "runpy.run_path(sys.argv[0], run_name='__main__')", encoding='utf-8')
    old.write_text(f'#!/bin/sh\n[ "$1" = -c ] && echo 3.9.2 && exit\nexec {sys.executable} {tmp_path}/old.py "$@"\n')
    old.chmod(0o755)
    made = subprocess.run(
        ['make', 'quickstart', f'PYTHON={old}', f'VENV={tmp_path}/venv'], cwd=ROOT, capture_output=True, text=True,
        env={k: v for k, v in os.environ.items() if k != 'MAKEFLAGS'}, check=False,
    )  # fmt: skip
    assert made.returncode == 2
    assert not (tmp_path / 'venv').exists()
    assert [line for line in made.stdout.splitlines() if not line.startswith('make')] == []  # a make in a make speaks
    told = [line for line in made.stderr.splitlines() if not line.startswith('make')]
    assert len(told) == 1
    assert 'Python 3.9' in told[0]
    assert 'PYTHON=python3.12' in told[0]


def archive_of(tmp_path, text):
    sources = tmp_path / 'sources' / 'basicsr-1.4.2'
    (sources / 'basicsr').mkdir(parents=True)
    (sources / 'setup.py').write_text(text, encoding='utf-8')
    (sources / 'basicsr' / 'version.py').write_text("__version__ = 'something else'\n", encoding='utf-8')
    with tarfile.open(tmp_path / 'basicsr-1.4.2.tar.gz', 'w:gz') as archive:
        archive.add(sources, 'basicsr-1.4.2')
    return tmp_path / 'basicsr-1.4.2.tar.gz'


def test_basicsrs_setup_gets_its_version_on_every_python(script, tmp_path):
    unpacked = script('install_basicsr.py')['unpack'](archive_of(tmp_path, SETUP), tmp_path / 'out')
    told = subprocess.run([sys.executable, 'setup.py'], cwd=unpacked, capture_output=True, text=True, check=True)
    assert told.stdout == '1.4.2\n'


def test_the_build_of_basicsr_asks_for_setuptools_only(script, tmp_path):
    unpacked = script('install_basicsr.py')['unpack'](archive_of(tmp_path, SETUP), tmp_path / 'out')
    asked = 'import without_torch as b; print(b.get_requires_for_build_wheel(), b.build_wheel.__name__)'
    told = subprocess.run([sys.executable, '-c', asked], cwd=unpacked, capture_output=True, text=True, check=True)
    assert told.stdout.startswith('[] ')


def test_other_sources_than_the_published_ones_are_refused(script, tmp_path, monkeypatch):
    names = script('install_basicsr.py')
    with pytest.raises(SystemExit, match='does not read its version'):
        names['unpack'](archive_of(tmp_path, "print('1.4.2')\n"), tmp_path / 'out')
    scope = names['download'].__globals__
    monkeypatch.setitem(scope, 'pip', lambda *arguments, **env: archive_of(tmp_path / 'a', SETUP))
    (tmp_path / 'a').mkdir()
    with pytest.raises(SystemExit, match='is not the published one'):
        names['download'](tmp_path / 'a')


def test_what_pip_is_answered_while_it_downloads_names_the_version(script, tmp_path):
    scope = {}
    exec(script('install_basicsr.py')['NAMES_THE_VERSION'], scope)
    made = scope['__legacy__'].prepare_metadata_for_build_wheel(str(tmp_path))
    assert made == 'basicsr-1.4.2.dist-info'
    assert 'Name: basicsr\nVersion: 1.4.2\n' in (tmp_path / made / 'METADATA').read_text(encoding='utf-8')


def test_users_get_no_linters_and_no_test_tools():
    user = (ROOT / 'requirements.txt').read_text(encoding='utf-8').lower()
    for tool in ('pytest', 'ruff', 'mypy', 'onnx', 'spandrel'):
        assert tool not in user


def test_pins_of_other_pythons_are_chosen_by_their_markers(script):
    pins = script('resolve_pins.py')['pins']
    assert 'numpy==2.2.6' in pins('requirements.txt', '3.10')
    assert 'numpy==2.4.6' in pins('requirements.txt', '3.14')
    assert not any(pin.startswith('absl') for pin in pins('constraints.txt', '3.10'))


def find_python(name):
    """Return the path of a Python that runs, on the PATH or among pyenv's; None where there is none."""
    pyenv = Path(os.environ.get('PYENV_ROOT') or Path.home() / '.pyenv')
    version = name.removeprefix('python')
    for python in filter(None, [shutil.which(name), *sorted(pyenv.glob(f'versions/{version}.*/bin/python'))]):
        if subprocess.run([python, '-c', ''], capture_output=True, check=False).returncode == 0:
            return python
    return None


@pytest.mark.parametrize('other', ['python3.10', 'python3.12', 'python3.13', 'python3.14'])
def test_every_file_compiles_under_the_other_pythons_of_this_machine(other, tmp_path):
    python = find_python(other)
    if python is None:
        pytest.skip(f'no {other} here')
    env = {**os.environ, 'PYTHONPYCACHEPREFIX': str(tmp_path), 'PYTHONWARNINGS': 'error'}
    command = [python, '-m', 'compileall', '-q', 'kdsr', 'scripts', 'tests', 'benchmarks', 'setup.py']
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_make_says_how_much_it_downloads_before_it_does_and_what_comes_next():
    """The recipe of `make install` in the order in which it runs."""
    recipe = (ROOT / 'Makefile').read_text(encoding='utf-8').split('$(INSTALLED):')[1].split('$(TESTABLE):')[0]
    order = [recipe.index(words) for words in ('GB to download', 'install_basicsr.py', 'pip install', 'Next: ')]
    assert order == sorted(order)
    assert '-q' not in recipe  # pip shows its progress
    assert "'.[dev]'" not in recipe
