"""Run kdsr's commands on a small file system that really fills up, and show that they say so and go on later.

    OMP_NUM_THREADS=1 python benchmarks/full_disk.py                    # as root on Linux: makes a file system of 8 MB
    OMP_NUM_THREADS=1 python benchmarks/full_disk.py --disk /mnt/small  # an empty one of yours, of 6 to 64 MB

Writes benchmarks/results/full_disk_cpu.md. A file leaves only some room, from nothing to what the command needs; or it
takes all room while the command works. The command must end well, or with one message and status 1: no traceback, no
bus error. What was finished before must still be there. Then there is room again, and the same command must make what
an undisturbed command makes. Anything else ends the script with status 1.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import torch
from side_by_side import keep, machine
from stress_commands import PATIENCE, finish, make_inputs, read_made, start, wait
from stress_kill import kinds

from kdsr import options

SHARES = (0.0, 0.02, 0.5, 0.9, 1.2)  # of the bytes that the command needs
MOMENTS = 4  # at which the disk fills up while a command works


def mount(folder: Path) -> None:
    """Make a file system of 8 MB; needs Linux and the rights of root."""
    folder.mkdir()
    command = ['mount', '-t', 'tmpfs', '-o', 'size=8m', 'tmpfs', str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f'no file system can be made here ({done.stderr.strip()}): name an empty one with --disk.')


def free_bytes(disk: Path) -> int:
    """Return how many bytes are free."""
    return os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize


def fill(disk: Path, room: int) -> None:
    """Fill a disk until so many bytes are free; a command may write at the same time."""
    with (disk / 'ballast').open('wb') as file:
        step = free_bytes(disk) - room
        while step >= 512:
            try:
                os.posix_fallocate(file.fileno(), os.fstat(file.fileno()).st_size, step)
                step = free_bytes(disk) - room
            except OSError:
                step = min(step, free_bytes(disk)) // 2


class Attack:
    """One command on one disk.

    Args:
        folder: Where the inputs lie.
        disk: The small file system.
        words: The command.
        made: Folder on the disk that the command makes.
    """

    def __init__(self, folder: Path, disk: Path, words: list[str], made: Path) -> None:
        self.folder, self.disk, self.words, self.made = folder, disk, words, made
        self.current = disk if words[0] == 'train' else folder  # it writes to the current folder
        self.good = disk / 'good.bin'
        self.good.write_bytes(bytes(1000))
        before = free_bytes(disk)
        finish(folder, words, self.current)  # what is in memory afterwards takes no more time
        self.needs = before - free_bytes(disk)
        self.expected = read_made(made)
        self._clear()
        self.seconds = finish(folder, words, self.current)
        self._clear()

    def _clear(self) -> None:
        for path in self.disk.iterdir():
            if path.is_dir():
                shutil.rmtree(path)

    def with_room(self, room: int) -> str:
        """Run the command where so many bytes are free; return 'done' or 'refused'."""
        fill(self.disk, room)
        return self._judge(start(self.folder, self.words, self.current), f'with {room} bytes free')

    def while_it_works(self, share: float) -> str:
        """Fill the disk after a share of the command's time; return 'done' or 'refused'."""
        child = start(self.folder, self.words, self.current)
        time.sleep(share * self.seconds)
        fill(self.disk, 0)
        return self._judge(child, f'on a disk that was full after {share:.0%} of its time')

    def _judge(self, child: int, where: str) -> str:
        status = wait(child, PATIENCE)
        output = (self.folder / 'output.txt').read_text()
        (self.disk / 'ballast').unlink()
        if status not in (0, 1) or 'Traceback' in output or (status == 1 and output.count('kdsr: ') != 1):
            raise SystemExit(f'{self.words} {where} ended with {status}:\n{output[-4000:]}')
        if self.good.read_bytes() != bytes(1000):
            raise SystemExit(f'{self.words} {where} changed another file')
        finish(self.folder, self.words, self.current)
        found = read_made(self.made)
        if found != self.expected:
            wrong = [name for name in {**self.expected, **found} if self.expected.get(name) != found.get(name)]
            raise SystemExit(f'{self.words} {where}: {", ".join(wrong)} differ from the undisturbed command')
        self._clear()
        return 'refused' if status else 'done'


def make_commands(folder: Path, disk: Path) -> dict[str, tuple[list[str], str]]:
    """Return the commands and the folders that they make."""
    commands = make_inputs(folder, made=str(disk / 'made'), side=96, workers=1)
    del commands['compare']  # it starts trainings, which are here
    _, opt = kinds(folder).values()
    opt['train']['total_iter'] = 6  # two validations and three states
    opt['train']['scheduler']['milestones'] = [2, 4]
    opt['val']['val_freq'] = 3
    (folder / 'run.yml').write_text(options.dump(opt))
    words = ['train', '-opt', str(folder / 'run.yml'), '--auto_resume']
    return {**commands, 'train': (words, str(disk / 'experiments/run/models'))}


def main() -> None:
    """Try every command with every room and at several moments, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--disk', type=Path, help='an empty small file system')
    parser.add_argument('--seed', type=int, default=0, help='of the moments')
    parser.add_argument('--only', nargs='+', default=[], metavar='COMMAND')
    args = parser.parse_args()
    random.seed(args.seed)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the file system is unmounted
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
            for name, (words, made) in make_commands(folder, disk).items():
                if args.only and name.split(',')[0] not in args.only:
                    continue
                attack = Attack(folder, disk, words, Path(made))
                full = [attack.with_room(int(share * attack.needs)) for share in SHARES]
                filling = [attack.while_it_works(random.random()) for _ in range(MOMENTS)]
                counts = ' | '.join(f'{each.count("refused")} | {each.count("done")}' for each in (full, filling))
                lines.append(f'| {name} | {attack.needs / 1e6:.2f} MB | {counts} | none |')
                print(lines[-1], flush=True)
            (disk / 'good.bin').unlink()
        finally:
            if args.disk is None:
                subprocess.run(['umount', '-l', str(disk)], check=True)
    about = (
        f'The disk was full before (room for {", ".join(f"{share:.0%}" for share in SHARES)} of what the command '
        f'makes), or became full at {MOMENTS} random moments of it; {(time.monotonic() - began) / 60:.1f} min. '
        f'{machine()} Written by `OMP_NUM_THREADS=1 python benchmarks/full_disk.py`.'
    )
    head = [
        '| command | makes | full before: one message | done | full meanwhile: one message | done | differences |',
        '|---|---|---|---|---|---|---|',
    ]
    if not args.only:
        keep('full_disk', ['# Commands on a full disk', '', about, '', *head, *lines])


if __name__ == '__main__':
    main()
    sys.stdout.flush()
