"""What kdsr needs: pinned, with its licences told, and no network."""

import runpy
import socket
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / 'scripts' / 'licences.py'
IMPORTS_ALL = """
import pkgutil, socket, sys

def refused(*args, **kwargs):
    raise SystemExit('importing kdsr opens a connection')

for name in ('connect', 'connect_ex', 'bind'):
    setattr(socket.socket, name, refused)
socket.getaddrinfo = socket.create_connection = refused
import kdsr
for module in pkgutil.walk_packages(kdsr.__path__, 'kdsr.'):
    if module.name not in ('kdsr.__main__', 'kdsr.train', 'kdsr.test'):
        __import__(module.name)
print(len([name for name in sys.modules if name.startswith('kdsr.')]))
"""


def test_the_licences_of_all_direct_dependencies_are_told():
    script = runpy.run_path(str(SCRIPT))
    document = script['DOCUMENT'].read_text(encoding='utf-8')
    for name, version in script['direct']().items():
        assert f'| {name} | {version} | ' in document
        try:
            if metadata.version(name) == version:
                assert f'| {name} | {version} | {script["licence_of"](name)} |' in document, (
                    'scripts/licences.py --write'
                )
        except metadata.PackageNotFoundError:
            pass
    assert 'not stated' not in document


def test_every_requirement_of_the_package_is_pinned():
    pinned = {name.lower() for name in runpy.run_path(str(SCRIPT))['direct']()}
    lines = (ROOT / 'setup.py').read_text().split('install_requires=[')[1].split(']')[0].splitlines()
    needed = {line.strip(" ',").split('>')[0].lower() for line in lines if line.strip()}
    assert len(needed) >= 11
    assert needed <= pinned


@pytest.mark.slow
def test_importing_every_module_opens_no_connection():
    done = subprocess.run([sys.executable, '-c', IMPORTS_ALL], cwd=ROOT, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr[-3000:]
    assert int(done.stdout) > 100


def test_a_test_session_refuses_connections_that_leave_the_machine():
    with socket.socket() as one, pytest.raises(AssertionError, match='a test connects to'):
        one.connect(('192.0.2.1', 80))  # an address for documents
