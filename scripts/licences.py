"""Write the table of docs/dependencies.md: each direct dependency with its tested version and its licence.

    python scripts/licences.py           # prints the table
    python scripts/licences.py --write   # puts it into docs/dependencies.md

Licences are those that the installed packages state themselves.
"""

import re
import sys
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).parents[1]
DOCUMENT = ROOT / 'docs' / 'dependencies.md'
BEGIN, END = '<!-- written by scripts/licences.py -->\n', '<!-- end -->'


def pins(file):
    """Return name to version of what a requirements file pins, for the newest Python where it differs."""
    found = {}
    for line in (ROOT / file).read_text(encoding='utf-8').splitlines():
        name, pinned, version = line.partition(';')[0].strip().partition('==')
        if pinned and not line.startswith('#'):
            found.setdefault(name, version)
    return found


def direct():
    """Return name to tested version of what requirements.txt pins, and of what the extras of setup.py name."""
    named = re.findall(r"'([\w-]+)(?:>=[\d.]+)?'", (ROOT / 'setup.py').read_text(encoding='utf-8'))
    extras = {name: version for name, version in pins('constraints.txt').items() if name in named}
    return {**pins('requirements.txt'), **extras}


def licence_of(name):
    """Return the licence that an installed package states: expression, classifiers, or first line of text."""
    about = metadata.metadata(name)
    classifiers = [c.split(' :: ')[-1] for c in about.get_all('Classifier') or () if c.startswith('License ::')]
    named = about.get('License-Expression') or ', '.join(
        c for c in classifiers if c not in ('OSI Approved', 'DFSG approved')
    )
    text = (about.get('License') or '').strip().splitlines()
    return re.sub(r'\s+', ' ', named or (text[0] if text else 'not stated'))


def table():
    rows = []
    for name, version in direct().items():
        try:
            rows.append(f'| {name} | {version} | {licence_of(name)} |')
        except metadata.PackageNotFoundError:
            rows.append(f'| {name} | {version} | not installed |')
    return '\n'.join(['| package | tested version | licence |', '|---|---|---|', *rows]) + '\n'


def document():
    before, rest = DOCUMENT.read_text(encoding='utf-8').split(BEGIN)
    return f'{before}{BEGIN}{table()}{END}{rest.split(END)[1]}'


if __name__ == '__main__':
    if sys.argv[1:] == ['--write']:
        DOCUMENT.write_text(document(), encoding='utf-8')
    else:
        sys.stdout.write(table())
