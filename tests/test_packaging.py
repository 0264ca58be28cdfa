"""What `pip install kdsr` brings, without a checkout."""

import os
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[1]
OPTIONS = {path.relative_to(ROOT / 'options').as_posix() for path in (ROOT / 'options').rglob('*.yml')}


def run(*command, cwd, **env):
    done = subprocess.run(command, cwd=cwd, env={**os.environ, **env}, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope='module')
def packages(tmp_path_factory):
    """A copy of the tracked files, and the sdist and wheel built from it."""
    folder = tmp_path_factory.mktemp('packages')
    listed = subprocess.run(['git', 'ls-files', '-z'], cwd=ROOT, capture_output=True, check=False)
    if listed.returncode:
        pytest.skip('no git checkout')
    for name in filter(None, listed.stdout.decode().split('\0')):
        if (ROOT / name).is_file():
            (folder / 'source' / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / 'source' / name).write_bytes((ROOT / name).read_bytes())
    build = 'from setuptools import build_meta as b; print(b.build_sdist({0!r})); print(b.build_wheel({0!r}))'
    run(sys.executable, '-c', build.format(str(folder)), cwd=folder / 'source')
    return folder


def test_the_wheel_holds_package_and_options_and_nothing_else(packages):
    (wheel,) = packages.glob('*.whl')
    names = {name for name in zipfile.ZipFile(wheel).namelist() if '.dist-info/' not in name}
    assert {name.split('/')[0] for name in names} == {'kdsr'}
    inside = 'kdsr/option_files/'
    assert {n[len(inside) :] for n in names if n.startswith(inside) and n.endswith('.yml')} == OPTIONS
    code = {path.relative_to(ROOT).as_posix() for path in (ROOT / 'kdsr').rglob('*.py')}
    assert code <= names
    zoo = {path.relative_to(ROOT).as_posix() for path in (ROOT / 'kdsr/zoo').iterdir() if path.is_file()}
    assert zoo <= names
    tables = {path.relative_to(ROOT).as_posix() for path in (ROOT / 'kdsr').rglob('*.csv')}
    assert {'kdsr/comparison/templates/report.html', *tables} <= names


def test_the_sdist_holds_what_a_checkout_does(packages):
    (sdist,) = packages.glob('*.tar.gz')
    with tarfile.open(sdist) as archive:
        names = {name.split('/', 1)[-1] for name in archive.getnames()}
    for needed in ('README.md', 'LICENSE', 'Makefile', 'requirements.txt', 'tests/conftest.py', 'docs/methods/rfdn.md'):
        assert needed in names
    assert {f'options/{name}' for name in OPTIONS} <= names
    assert {f'kdsr/zoo/{path.name}' for path in (ROOT / 'kdsr/zoo').glob('*.safetensors')} <= names


@pytest.fixture(scope='module')
def clean(packages):
    """The programs of an environment that holds the wheel, and of the tests' own environment only its dependencies."""
    (wheel,) = packages.glob('*.whl')
    place = packages / 'clean'
    venv.create(place, with_pip=False)
    (program,) = (path for path in (place / 'bin', place / 'Scripts') if path.is_dir())
    run(sys.executable, '-m', 'pip', '--python', str(program / 'python'), 'install', '-q', '--no-deps', '--no-index',
        str(wheel), cwd=packages)  # fmt: skip
    where = run(str(program / 'python'), '-c', 'import sysconfig; print(sysconfig.get_path("purelib"))', cwd=packages)
    Path(where.strip(), 'dependencies.pth').write_text(f'{sysconfig.get_path("purelib")}\n', encoding='utf-8')
    return program


def test_an_installed_wheel_lists_and_copies_options_and_trains(clean, workspace):
    names = {'PYTHONPATH': '', 'OMP_NUM_THREADS': '1', 'CUDA_VISIBLE_DEVICES': '', 'PYTHONWARNINGS': 'ignore'}
    kdsr = str(clean / 'kdsr')
    where = run(str(clean / 'python'), '-c', 'import kdsr; print(kdsr.__file__)', cwd=workspace.root, **names)
    assert where.startswith(str(clean.parent))
    listed = run(kdsr, 'options', 'ablations/rfdn/*', cwd=workspace.root, **names).splitlines()
    listed = [line for line in listed if line.startswith('ablations/rfdn/')]
    assert len(listed) == sum(name.startswith('ablations/rfdn/') for name in OPTIONS) > 0
    assert 'e_rfdn*_x4.yml (8 files)' in run(kdsr, 'methods', 'rfdn', cwd=workspace.root, **names)
    photo = Image.fromarray(np.arange(20 * 24 * 3, dtype=np.uint8).reshape(20, 24, 3))
    photo.save(workspace.root / 'photo.png')
    run(kdsr, 'upscale', 'photo.png', '-o', 'large.png', cwd=workspace.root, **names)
    with Image.open(workspace.root / 'large.png') as large:
        assert large.size == (48, 40)
    file = workspace.write(workspace.options(iterations=1))
    run(str(clean / 'python'), '-m', 'kdsr.train', '-opt', file, cwd=workspace.root, **names)
    assert (workspace.root / 'experiments' / 'run' / 'models' / 'net_g_latest.pth').is_file()
