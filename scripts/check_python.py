"""Say in one line why the pinned PyTorch has no wheel for this Python, before anything is downloaded.

    python scripts/check_python.py                        # silent and 0, or one line and 1
    python scripts/check_python.py --environment .venv    # also when .venv was made with another Python

It runs under every Python from 2.7 on, since an old one is the most likely mistake.
"""

import io
import os
import platform
import re
import struct
import sys

OLDEST, NEWEST = (3, 10), (3, 14)
CURE = 'Choose another one: make quickstart PYTHON=python3.12 (a Python from %d.%d to %d.%d)' % (OLDEST + NEWEST)


def refusal(version=None, system=None, machine=None, bits=None, libc=None):
    """Return the reason why kdsr cannot be installed here, or None. Every argument defaults to what runs this."""
    version = tuple(version or sys.version_info[:2])
    system, machine = system or platform.system(), (machine or platform.machine()).lower()
    if not OLDEST <= version <= NEWEST:
        return 'PyTorch 2.13, which kdsr pins, has no wheel for Python %d.%d' % version
    if (bits or 8 * struct.calcsize('P')) != 64:
        return 'PyTorch has no wheels for a 32-bit Python'
    if system == 'Darwin' and machine == 'x86_64':
        return 'PyTorch 2.13 has no wheels for a Mac with an Intel processor, or for a Python that emulates one'
    if system == 'Linux' and (libc if libc is not None else platform.libc_ver()[0]) != 'glibc':
        return 'PyTorch has no wheels for a Linux without glibc, such as Alpine'
    return None


def other_python(environment, version=None):
    """Return in one line that a virtual environment belongs to another Python than this, or None."""
    version = '%d.%d' % tuple(version or sys.version_info[:2])
    settings = os.path.join(environment, 'pyvenv.cfg')
    if not os.path.isfile(settings):
        return None
    with io.open(settings, encoding='utf-8') as file:
        found = re.search(r'^version(?:_info)? *= *(\d+\.\d+)', file.read(), re.MULTILINE)
    if not found or found.group(1) == version:
        return None
    made = (environment, found.group(1), version)
    return '%s holds Python %s, not %s: remove it (make clean), or name another folder: VENV=.venv-new' % made


def main(arguments):
    """Print the reason, if there is one; return the exit status."""
    found = refusal()
    message = '%s: %s. %s.' % (sys.executable, found, CURE) if found else None
    if not message and arguments[:1] == ['--environment']:
        message = other_python(arguments[1])
    if message:
        sys.stderr.write(message + '\n')
    return int(message is not None)


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
