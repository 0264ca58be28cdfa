"""Sets that are made on a small file system of their own, which really fills up: one message, and the good set stays.

Mounting needs the rights of root. The work is done in another process: a full disk may end it.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kdsr.data.prepare import prepare_training_set
from kdsr.errors import UserError

MEGABYTE = 2**20

# for every amount of room: fill the disk up to it, run the command, note how it ends, make room, run it again
SCRIPT = """
import json, os, sys, traceback
from pathlib import Path
from kdsr.data.prepare import prepare_training_set
from kdsr.errors import UserError

disk, hr, raw, rooms = Path(sys.argv[1]), sys.argv[2], sys.argv[3] == 'raw', json.loads(sys.argv[4])
last_good = disk / 'good.bin'
last_good.write_bytes(bytes(1000))
for room in rooms:
    free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
    with (disk / 'ballast').open('wb') as file:
        if free > room:
            os.posix_fallocate(file.fileno(), 0, free - room)
    out = disk / f'out{room}'
    print(json.dumps(['begin', room]), flush=True)
    make = lambda: prepare_training_set(hr, out, [2], 64, 64, workers=1, progress=False, raw=raw)
    try:
        make()
        print(json.dumps(['done', room]), flush=True)
    except UserError as error:
        print(json.dumps(['refused', str(error)]), flush=True)
        assert not list(out.glob('*.lmdb')) and not list(out.glob('*.raw')), 'half a set has the final name'
    except BaseException:
        print(json.dumps(['traceback', traceback.format_exc()]), flush=True)
    assert last_good.read_bytes() == bytes(1000)
    (disk / 'ballast').unlink()
    make()
    for path in sorted(out.rglob('*'), reverse=True):
        if path.name in ('data.mdb', 'pixels.bin'):
            print(json.dumps(['size', path.parent.name, path.stat().st_size]), flush=True)
        path.unlink() if path.is_file() else path.rmdir()
    out.rmdir()
"""


@pytest.fixture
def disk(tmp_path):
    """An empty file system of 8 MB."""
    folder = tmp_path / 'disk'
    folder.mkdir()
    if not sys.platform.startswith('linux') or os.geteuid() != 0:
        pytest.skip('mounting a small file system needs Linux and the rights of root')
    mounted = subprocess.run(
        ['mount', '-t', 'tmpfs', '-o', 'size=8m', 'tmpfs', str(folder)], capture_output=True, text=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip(f'no file system can be mounted here: {mounted.stderr.strip()}')
    try:
        yield folder
    finally:
        subprocess.run(['umount', '-l', str(folder)], check=True)


@pytest.fixture
def hr(tmp_path):
    """Eight HR images of 128x128 noise: 0.4 MB raw, and about as much in PNG files."""
    folder = tmp_path / 'set_HR'
    folder.mkdir()
    for seed in range(8):
        pixels = np.random.default_rng(seed).integers(0, 256, (128, 128, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f'{seed}.png')
    return folder


@pytest.mark.timeout(250)
@pytest.mark.parametrize('kind', ['lmdb', 'raw'])
def test_a_full_disk_is_one_message_and_the_next_run_continues(disk, hr, tmp_path, kind):
    rooms = [0, 4096, 20_000, 300_000, *(MEGABYTE + extra for extra in (0, 60_000, 150_000, 300_000, 420_000, 480_000))]
    done = subprocess.run(
        [sys.executable, '-W', 'ignore', '-c', SCRIPT, str(disk), str(hr), kind, json.dumps(rooms)],
        capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert done.returncode == 0, (done.returncode, done.stdout[-2000:], done.stderr[-2000:])
    events = [json.loads(line) for line in done.stdout.splitlines()]
    refused = [text for what, text, *_ in events if what == 'refused']
    assert not [text for what, text, *_ in events if what == 'traceback']
    assert len(refused) >= 6
    for text in refused:
        assert re.search(
            r'There is no room in \S+out\d+: about [\d.]+ MB more are needed, and [\d.]+ MB are free', text
        )
        assert re.search(r'[\d.]+ MB are missing\. Make room and run the same command again; what is finished is', text)
    sizes = {(name, size) for what, name, *size in events if what == 'size' for size in size}
    prepare_training_set(hr, tmp_path / 'whole', [2], 64, 64, workers=1, progress=False, raw=kind == 'raw')
    whole = [p for p in (tmp_path / 'whole').rglob('*') if p.name in ('data.mdb', 'pixels.bin')]
    if kind == 'raw':
        assert sizes == {(p.parent.name, p.stat().st_size) for p in whole}
    else:  # LMDB may leave pages unused when it goes on; what was reserved is given back
        largest = {p.parent.name: p.stat().st_size for p in whole}
        assert all(size <= 1.2 * largest[name] + 65536 for name, size in sizes)


@pytest.mark.timeout(120)
def test_what_is_missing_is_the_room_of_all_sets_together(disk, hr):
    for room in (400_000, 100_000):
        with (disk / 'ballast').open('wb') as file:
            free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
            os.posix_fallocate(file.fileno(), 0, free - room)
        with pytest.raises(UserError, match=r'about 0\.49 MB more are needed'):  # 8 * 3 * 128 * 128 * 5/4 bytes
            prepare_training_set(hr, disk / 'out', [2], 64, 64, workers=1, progress=False, raw=True)
        assert not (disk / 'out').exists()
        (disk / 'ballast').unlink()
