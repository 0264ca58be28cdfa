"""What a training sample costs: BasicSR's PairedImageDataset against kdsr's raw sets.

    OMP_NUM_THREADS=1 python benchmarks/data_path.py            # writes benchmarks/results/data_path_cpu.md

One process, one thread, the loader with collation and without worker processes; the variants take turns, and ratios
are medians over the rounds, of CPU time. The images (scikit-image's sample photos, 480x480 sub-images) are in the page
cache, as they are after the first epoch where the memory suffices.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
import torch

import kdsr
from kdsr import quickstart
from kdsr.data.prepare import prepare_training_set
from kdsr.data.raw_images import RawImages

# isort: split
from basicsr.data import build_dataloader, build_dataset
from basicsr.data.data_sampler import EnlargedSampler

ROOT = Path(__file__).parents[1]
SCALE, GT_SIZE, BATCH, EPOCH = 4, 192, 16, 640
BASE = 'BasicSR, PNG LMDB'


def make_sets(root: Path) -> dict[str, dict]:
    """Write the same sub-images in every form; return the options of each variant."""
    photos = root / 'photos_HR'
    photos.mkdir()
    for name in quickstart.TRAIN_PHOTOS:
        cv2.imwrite(str(photos / f'{name}.png'), quickstart._photo(name))
    lmdb_gt, lmdb_lq = prepare_training_set(photos, root, [SCALE], workers=1, progress=False)
    raw_gt, raw_lq = prepare_training_set(photos, root, [SCALE], workers=1, progress=False, raw=True)
    for name, path in (('gt', raw_gt), ('lq', raw_lq)):
        (root / name).mkdir()
        images = RawImages(path)
        for number, key in enumerate(images.keys):
            cv2.imwrite(str(root / name / f'{key}.png'), images.image(number)[::-1].transpose(1, 2, 0))
    lmdb = {
        'type': 'PairedImageDataset',
        'dataroot_gt': lmdb_gt,
        'dataroot_lq': lmdb_lq,
        'io_backend': {'type': 'lmdb'},
    }
    disk = {**lmdb, 'dataroot_gt': root / 'gt', 'dataroot_lq': root / 'lq', 'io_backend': {'type': 'disk'}}
    raw = {'type': 'RawPairedImageDataset', 'dataroot_gt': raw_gt, 'dataroot_lq': raw_lq}
    teacher = {'dataroot_teacher': raw_gt}  # a cached teacher's image has the size of the GT
    return {
        BASE: lmdb,
        'BasicSR, PNG files': disk,
        'kdsr raw': raw,
        'kdsr raw, uint8': {**raw, 'uint8': True},
        'kdsr raw, with a third image': {**raw, **teacher},
        'kdsr raw, uint8, with a third image': {**raw, **teacher, 'uint8': True},
        'BasicSR, PNG files, color: y': {**disk, 'color': 'y'},
        'kdsr raw, color: y': {**raw, 'color': 'y'},
    }


def milliseconds(loader: torch.utils.data.DataLoader) -> float:
    """Return the CPU time per sample of one pass."""
    start, samples = time.process_time(), 0
    for batch in loader:
        samples += len(batch['lq'])
    return 1000 * (time.process_time() - start) / samples


def build_loader(opt: dict) -> torch.utils.data.DataLoader:
    """Return BasicSR's loader for one variant."""
    common = {
        'name': 'benchmark', 'phase': 'train', 'scale': SCALE, 'gt_size': GT_SIZE, 'use_hflip': True, 'use_rot': True,
        'batch_size_per_gpu': BATCH, 'num_worker_per_gpu': 0,
    }  # fmt: skip
    opt = {**common, **{k: str(v) if isinstance(v, Path) else v for k, v in opt.items()}}
    dataset = build_dataset(opt)
    return build_dataloader(dataset, opt, num_gpu=0, sampler=EnlargedSampler(dataset, 1, 0, ratio=EPOCH / len(dataset)))


def main() -> None:
    """Measure and write the result."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--rounds', type=int, default=15)
    args = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    with tempfile.TemporaryDirectory() as folder:
        loaders = {name: build_loader(opt) for name, opt in make_sets(Path(folder)).items()}
        rounds = [{n: milliseconds(loader) for n, loader in loaders.items()} for _ in range(args.rounds + 1)][1:]
        sizes = {n: folder_size(loader.dataset) for n, loader in loaders.items()}
    write(args, rounds, sizes)


def folder_size(dataset: object) -> float:
    """Return the MB on disk of the GT set."""
    return sum(p.stat().st_size for p in Path(dataset.opt['dataroot_gt']).iterdir()) / 1e6


def write(args: argparse.Namespace, rounds: list[dict[str, float]], sizes: dict[str, float]) -> None:
    """Print the table and keep it beside what it was measured on."""
    commit = subprocess.run(['git', 'rev-parse', '--short', 'HEAD'], cwd=ROOT, capture_output=True, text=True).stdout
    lines = [
        '# One training sample',
        '',
        f'x{SCALE}, HR crops of {GT_SIZE} from 480x480 sub-images, flips and rotations, batch {BATCH} with collation; '
        f'{args.rounds} rounds in turn, CPU time, images in the page cache. cpu '
        f'({platform.processor() or platform.machine()}, 1 thread), OpenCV {cv2.__version__}, NumPy {np.__version__}, '
        f'torch {torch.__version__}, kdsr {kdsr.__version__} at {commit.strip()}, {time.strftime("%Y-%m-%d")}. '
        'Written by `OMP_NUM_THREADS=1 python benchmarks/data_path.py`.',
        '',
        '| data | ms a sample (min / median / max) | samples/s a core | times faster than PNG LMDB | GT on disk, MB |',
        '|---|---|---|---|---|',
    ]
    for name in rounds[0]:
        values = [r[name] for r in rounds]
        spread = f'{min(values):.3f} / {statistics.median(values):.3f} / {max(values):.3f}'
        gained = statistics.median(r[BASE] / r[name] for r in rounds)
        lines.append(
            f'| {name} | {spread} | {1000 / statistics.median(values):.0f} | {gained:.1f} | {sizes[name]:.1f} |'
        )
    text = '\n'.join(lines) + '\n'
    print(text)
    (ROOT / 'benchmarks' / 'results' / 'data_path_cpu.md').write_text(text, encoding='utf-8')


if __name__ == '__main__':
    main()
