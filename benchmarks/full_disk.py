"""Run kdsr's commands on a small file system that really fills up, and show that they say so and go on later.

    OMP_NUM_THREADS=1 python benchmarks/full_disk.py                    # as root on Linux: makes a file system of 8 MB
    OMP_NUM_THREADS=1 python benchmarks/full_disk.py --disk /mnt/small  # an empty one of yours, of 6 to 64 MB

Writes benchmarks/results/full_disk_cpu.md. For every amount of free room a file fills the disk up to it, and the
command runs. It must end well, or with one message and status 1: no traceback, no bus error. What was finished before
must still be there. Then there is room again, and the same command must make what an undisturbed command makes.
Anything else ends the script with status 1.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import torch
from side_by_side import keep, machine
from stress_commands import PATIENCE, finish, make_inputs, read_made, start, wait

ROOMS = (0, 4096, 20_000, 60_000, 120_000, 250_000, 500_000, 900_000, 1_500_000)  # bytes


def mount(folder: Path) -> None:
    """Make a file system of 8 MB; needs Linux and the rights of root."""
    folder.mkdir()
    command = ['mount', '-t', 'tmpfs', '-o', 'size=8m', 'tmpfs', str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f'no file system can be made here ({done.stderr.strip()}): name an empty one with --disk.')


def fill(disk: Path, room: int) -> None:
    """Fill a disk until so many bytes are free."""
    free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
    with (disk / 'ballast').open('wb') as file:
        if free > room:
            os.posix_fallocate(file.fileno(), 0, free - room)


def try_room(folder: Path, disk: Path, words: list[str], room: int) -> str:
    """Run a command with so much room; return 'done' or 'refused'."""
    fill(disk, room)
    child = start(folder, words)
    status = wait(child, PATIENCE)
    output = (folder / 'output.txt').read_text()
    (disk / 'ballast').unlink()
    if status not in (0, 1) or 'Traceback' in output or (status == 1 and output.count('kdsr: ') != 1):
        raise SystemExit(f'{words} with {room} bytes free ended with {status}:\n{output[-4000:]}')
    return 'refused' if status else 'done'


def main() -> None:
    """Try every command with every room, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--disk', type=Path, help='an empty small file system')
    args = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    began, lines = time.monotonic(), []
    with tempfile.TemporaryDirectory(prefix='kdsr_disk_') as temporary:
        folder = Path(temporary) / 'work'
        folder.mkdir()
        disk = args.disk or Path(temporary) / 'disk'
        if args.disk is None:
            mount(disk)
        try:
            good = disk / 'good.bin'
            good.write_bytes(bytes(1000))
            for name, (words, made) in make_inputs(folder, made=str(disk / 'made'), side=96).items():
                if name == 'compare':  # writes to the current folder
                    continue
                finish(folder, words)
                expected = read_made(Path(made))
                shutil.rmtree(made)
                told = []
                for room in ROOMS:
                    told.append(try_room(folder, disk, words, room))
                    if good.read_bytes() != bytes(1000):
                        raise SystemExit(f'{words} with {room} bytes free changed another file')
                    finish(folder, words)
                    if read_made(Path(made)) != expected:
                        raise SystemExit(f'{words} with {room} bytes free differs from the undisturbed command')
                    shutil.rmtree(made)
                lines.append(f'| {name} | {len(told)} | {told.count("refused")} | {told.count("done")} | none |')
                print(lines[-1], flush=True)
            good.unlink()
        finally:
            if args.disk is None:
                subprocess.run(['umount', '-l', str(disk)], check=True)
    about = (
        f'From {ROOMS[0]} to {ROOMS[-1]:,} bytes free; {(time.monotonic() - began) / 60:.1f} min. {machine()} '
        'Written by `OMP_NUM_THREADS=1 python benchmarks/full_disk.py`.'
    )
    head = ['| command | rooms | one message | enough room | differences later |', '|---|---|---|---|---|']
    keep('full_disk', ['# Commands on a full disk', '', about, '', *head, *lines])


if __name__ == '__main__':
    main()
    sys.stdout.flush()
