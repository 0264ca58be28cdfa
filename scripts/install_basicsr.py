"""Install BasicSR 1.4.2 into the environment of this Python.

    python scripts/install_basicsr.py

BasicSR is published as source code only. Its setup.py reads its own version with `exec` and `locals()`, which ends in
KeyError: '__version__' on Python 3.13 and newer (PEP 667), and it makes pip download PyTorch a second time to build
it. This script lets pip download the sources, writes the version into the unpacked setup.py, and builds and installs
the wheel without its dependencies: `pip install -r requirements.txt` brings those.
"""

import hashlib
import os
import subprocess
import sys
import tarfile
import tempfile
from importlib import metadata
from pathlib import Path

from check_python import CURE, refusal

VERSION = '1.4.2'
SHA256 = 'b89b595a87ef964cda9913b4d99380ddb6554c965577c0c10cb7b78e31301e87'
READS_VERSION = "return locals()['__version__']"

# pip asks the build backend for the version before it keeps a download, and BasicSR's own answer is what fails.
NAMES_THE_VERSION = f"""
import os

class __legacy__:
    def prepare_metadata_for_build_wheel(folder, settings=None):
        name = 'basicsr-{VERSION}.dist-info'
        os.mkdir(os.path.join(folder, name))
        with open(os.path.join(folder, name, 'METADATA'), 'w') as file:
            file.write('Metadata-Version: 2.1\\nName: basicsr\\nVersion: {VERSION}\\n')
        return name
"""

# setup.py asks for torch, numpy and cython, which only its CUDA extensions need.
BACKEND = """
from setuptools.build_meta import *

def get_requires_for_build_wheel(settings=None):
    return []
"""
PROJECT = """
[build-system]
requires = ["setuptools>=64"]
build-backend = "without_torch"
backend-path = ["."]
"""


def pip(*arguments, **env):
    """Run pip of this environment; end with its exit status if it fails."""
    done = subprocess.run([sys.executable, '-m', 'pip', *arguments], env={**os.environ, **env}, check=False)
    if done.returncode:
        sys.exit(done.returncode)


def download(folder):
    """Return the file with BasicSR's sources, downloaded by pip into `folder` and compared with its known SHA-256."""
    stand_in = folder / 'stand_in'
    (stand_in / 'setuptools').mkdir(parents=True)
    (stand_in / 'setuptools' / '__init__.py').touch()
    (stand_in / 'setuptools' / 'build_meta.py').write_text(NAMES_THE_VERSION, encoding='utf-8')
    pip(
        'download', '--quiet', '--no-deps', '--no-binary', 'basicsr', '--no-build-isolation', '--use-pep517',
        '--dest', str(folder), f'basicsr=={VERSION}', PYTHONPATH=str(stand_in),
    )  # fmt: skip
    (sources,) = folder.glob('basicsr-*.tar.gz')
    found = hashlib.sha256(sources.read_bytes()).hexdigest()
    if found != SHA256:
        sys.exit(f'{sources.name} of your package index is not the published one: its SHA-256 is {found}.')
    return sources


def unpack(sources, folder):
    """Unpack the sources, let setup.py name its version, and let the build need only setuptools."""
    with tarfile.open(sources) as archive:
        archive.extractall(folder, **({'filter': 'data'} if hasattr(tarfile, 'data_filter') else {}))
    unpacked = folder / f'basicsr-{VERSION}'
    setup = unpacked / 'setup.py'
    text = setup.read_text(encoding='utf-8')
    if text.count(READS_VERSION) != 1:
        sys.exit(f'{setup} does not read its version in the known way; BasicSR cannot be built.')
    setup.write_text(text.replace(READS_VERSION, f'return {VERSION!r}'), encoding='utf-8')
    (unpacked / 'pyproject.toml').write_text(PROJECT, encoding='utf-8')
    (unpacked / 'without_torch.py').write_text(BACKEND, encoding='utf-8')
    return unpacked


def main():
    """Install BasicSR unless it is installed."""
    reason = refusal()
    if reason:
        sys.exit(f'{sys.executable}: {reason}. {CURE}.')
    try:
        if metadata.version('basicsr') == VERSION:
            return
    except metadata.PackageNotFoundError:
        pass
    sys.stdout.write(f'Building BasicSR {VERSION} from its published sources (0.2 MB).\n')
    sys.stdout.flush()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        unpacked = unpack(download(folder), folder)
        # newer versions of pip print setuptools' warnings about this old setup.py
        quiet = {'PYTHONWARNINGS': 'ignore'}
        pip('wheel', '--quiet', '--no-deps', '--wheel-dir', str(folder / 'wheels'), str(unpacked), **quiet)
        (wheel,) = (folder / 'wheels').glob('*.whl')
        # by name, so that `pip freeze` says basicsr==1.4.2 and not the path of a folder that is gone
        pip('install', '--quiet', '--no-deps', '--no-index', '--find-links', str(wheel.parent), f'basicsr=={VERSION}')


if __name__ == '__main__':
    main()
