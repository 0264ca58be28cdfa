"""Ask pip whether the pinned set can be installed under other Pythons; nothing is downloaded but descriptions.

python scripts/resolve_pins.py 3.10 3.14
"""

import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path

import licences
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]


def pins(file, python):
    """Return the requirements of a file whose markers hold under a Python such as 3.10, without the markers."""
    environment = {'python_version': python, 'python_full_version': f'{python}.0'}
    lines = (line.partition('#')[0].strip() for line in (ROOT / file).read_text(encoding='utf-8').splitlines())
    wanted = [Requirement(line) for line in lines if line]
    return [f'{r.name}{r.specifier}' for r in wanted if r.marker is None or r.marker.evaluate(environment)]


def resolves(python):
    """Return whether pip finds wheels of all pins, and of what BasicSR needs, that go together under a Python."""
    direct = [pin for pin in pins('requirements.txt', python) if not pin.startswith('basicsr')]  # it has no wheel
    with tempfile.TemporaryDirectory() as folder:
        constraints = Path(folder, 'constraints.txt')
        constraints.write_text('\n'.join(pins('constraints.txt', python)), encoding='utf-8')
        command = [
            sys.executable, '-m', 'pip', 'install', '--dry-run', '--quiet', '--ignore-installed',
            '--only-binary=:all:', '--python-version', python, '--target', folder, '-c', str(constraints),
            *direct, *(metadata.requires('basicsr') or ()), *(name for name in licences.direct() if name != 'basicsr'),
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.stderr.write(done.stderr)
    return done.returncode == 0


if __name__ == '__main__':
    failed = [python for python in sys.argv[1:] if not resolves(python)]
    if failed:
        sys.exit(f'the pinned set cannot be installed under Python {", ".join(failed)}')
