"""Processor time of kdsr's quick commands, and which imports it goes to: ``python benchmarks/command_line.py``.

Each command runs several times in a process of its own; the median counts. ``--imports COMMAND`` prints the slowest
imports of one command, as ``python -X importtime`` measures them.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import statistics
import subprocess
import sys
from collections.abc import Sequence

COMMANDS = (
    '--help', '--version', 'methods', 'zoo', 'options',
    'check --options-only options/mtkd_edsr_x4.yml',
)  # fmt: skip


def processor_seconds(command: Sequence[str], repeats: int) -> float:
    """Return the median processor time of a command, in seconds, user and system together."""
    seconds = []
    for _ in range(repeats):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)
    return statistics.median(seconds)


def slowest_imports(command: Sequence[str], count: int = 15) -> str:
    """Return the imports of a command with the longest time of their own: microseconds, then the module."""
    timed = [command[0], '-X', 'importtime', *command[1:]]
    done = subprocess.run(timed, check=True, capture_output=True, text=True)
    rows = [line.partition(':')[2].split('|') for line in done.stderr.splitlines() if line.startswith('import time:')]
    own = sorted(((int(row[0]), row[2].strip()) for row in rows if row[0].strip().isdecimal()), reverse=True)
    return '\n'.join(f'{microseconds:>9,}  {module}' for microseconds, module in own[:count])


def main() -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--repeats', type=int, default=5, help='runs of each command (default: 5)')
    parser.add_argument('--imports', metavar='COMMAND', help="for example 'check --options-only FILE.yml'")
    args = parser.parse_args()
    kdsr = [sys.executable, '-m', 'kdsr']
    if args.imports is not None:
        print(slowest_imports([*kdsr, *args.imports.split()]))
        return
    print(f'Python {platform.python_version()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}\n')
    print('| command | processor seconds |\n|---|---:|')
    for command in COMMANDS:
        print(f'| `kdsr {command}` | {processor_seconds([*kdsr, *command.split()], args.repeats):.2f} |', flush=True)


if __name__ == '__main__':
    main()
