"""What the checksums of raw sets cost: the loader's time with and without them, as a ratio.

    OMP_NUM_THREADS=1 python benchmarks/checksums.py            # writes benchmarks/results/checksums_cpu.md

A whole image is compared with its checksum when it is read first, so the first epoch pays for all of them and every
later one for none. Two datasets of the same files take turns, one with checksums; CPU time, images in the page cache.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import subprocess
import tempfile
import time
import zlib
from pathlib import Path

import cv2
import numpy as np
import torch

import kdsr
from kdsr import quickstart
from kdsr.data.prepare import prepare_training_set

# isort: split
from basicsr.data import build_dataset

ROOT = Path(__file__).parents[1]
SCALE, GT_SIZE = 4, 192


def build(folder: Path, uint8: bool, checksums: bool) -> torch.utils.data.Dataset:
    """Return a training set that compares checksums, or one that does not."""
    gt, lq = sorted(folder.glob('*.raw'))
    dataset = build_dataset({
        'name': 'benchmark', 'type': 'RawPairedImageDataset', 'dataroot_gt': str(gt), 'dataroot_lq': str(lq),
        'phase': 'train', 'scale': SCALE, 'gt_size': GT_SIZE, 'use_hflip': True, 'use_rot': True, 'uint8': uint8,
    })  # fmt: skip
    if not checksums:
        for images in dataset.sets.values():
            images._checksums = None
    return dataset


def time_epochs(dataset: torch.utils.data.Dataset, epochs: int, order: np.random.Generator) -> list[float]:
    """Return the CPU seconds of each epoch."""
    seconds = []
    for _ in range(epochs):
        start = time.process_time()
        for index in order.permutation(len(dataset)).tolist():
            dataset[index]
        seconds.append(time.process_time() - start)
    return seconds


def measure(folder: Path, uint8: bool, epochs: int, rounds: int) -> dict[str, float]:
    """Return the extra time of the first epoch, of a later one, and of all, relative to no checksums."""
    with_, without = [], []
    for number in range(rounds):
        pair = [(with_, True), (without, False)]
        for kept, checksums in pair if number % 2 else reversed(pair):
            kept.append(time_epochs(build(folder, uint8, checksums), epochs, np.random.default_rng(number)))
    epoch = statistics.median(seconds for run in without for seconds in run)
    first = statistics.median(run[0] for run in with_) - epoch
    later = statistics.median(seconds for run in with_ for seconds in run[1:]) / epoch - 1
    return {'samples': len(build(folder, uint8, True)), 'epoch': epoch, 'first': first, 'later': later}


def main() -> None:
    """Measure and write the result."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--rounds', type=int, default=8)
    parser.add_argument('--epochs', type=int, default=12)
    args = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / 'photos_HR').mkdir()
        for photo in quickstart.TRAIN_PHOTOS:
            cv2.imwrite(str(folder / 'photos_HR' / f'{photo}.png'), quickstart._photo(photo))
        prepare_training_set(folder / 'photos_HR', folder, [SCALE], workers=1, progress=False, raw=True)
        megabytes = sum(p.stat().st_size for p in folder.rglob('pixels.bin')) / 1e6
        content = np.frombuffer(next(folder.rglob('pixels.bin')).read_bytes(), np.uint8)
        start = time.process_time()
        for _ in range(10):
            zlib.crc32(content)
        speed = 10 * content.size / 1e9 / (time.process_time() - start)
        results = {kind: measure(folder, kind == 'uint8', args.epochs, args.rounds) for kind in ('float', 'uint8')}
    write(args, results, megabytes, speed)


def write(args: argparse.Namespace, results: dict[str, dict[str, float]], megabytes: float, speed: float) -> None:
    """Print the table and keep it beside what it was measured on."""
    commit = subprocess.run(['git', 'rev-parse', '--short', 'HEAD'], cwd=ROOT, capture_output=True, text=True).stdout
    processor = platform.processor() or platform.machine()
    lines = [
        '# The checksums of raw sets',
        '',
        f'x{SCALE}, crops of {GT_SIZE}, {megabytes:.1f} MB of whole images; {args.rounds} rounds of {args.epochs} '
        'epochs in turn, medians of CPU time, images in the page cache. crc32 of zlib '
        f'{zlib.ZLIB_RUNTIME_VERSION}: {speed:.1f} GB/s. cpu ({processor}, 1 thread), NumPy {np.__version__}, torch '
        f'{torch.__version__}, kdsr {kdsr.__version__} at {commit.strip()}, {time.strftime("%Y-%m-%d")}. Written by '
        '`OMP_NUM_THREADS=1 python benchmarks/checksums.py`.',
        '',
        '| samples | an epoch without, ms | more in the first, ms | relative | each later epoch | over 20 | over 100 |',
        '|---|---|---|---|---|---|---|',
    ]
    for kind, found in results.items():
        share = {n: found['first'] / (n * found['epoch']) for n in (1, 20, 100)}
        lines.append(
            f'| {found["samples"]} of {kind} | {1000 * found["epoch"]:.1f} | {1000 * found["first"]:.1f} | '
            f'{share[1]:+.0%} | {found["later"]:+.1%} | {share[20]:+.1%} | {share[100]:+.2%} |'
        )
    lines += [
        '',
        'The first epoch reads every image for the first time and compares it, once in all forked processes of a '
        'loader; the last two columns spread that over the epochs of a run.',
    ]
    text = '\n'.join(lines) + '\n'
    print(text)
    (ROOT / 'benchmarks' / 'results' / 'checksums_cpu.md').write_text(text, encoding='utf-8')


if __name__ == '__main__':
    main()
