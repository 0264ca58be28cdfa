"""Degrade the LR images of test sets as RawDegradedImageDataset degrades training crops, once and with a fixed seed.

    python benchmarks/degraded_test_sets.py datasets/Set5 datasets/Set14     # writes datasets/<set>/LRbicx4_degraded

The random numbers of an image depend on its name only, so every machine makes the same images. The ranges are those of
the training set in options/studies/real_world_student.yml.
"""

from __future__ import annotations

import argparse
import random
import zlib
from pathlib import Path

import kdsr
from kdsr import options

# isort: split
import cv2
import numpy as np
from side_by_side import ROOT

from kdsr.data.raw_degraded_image_dataset import degrade_lightly

assert kdsr.__version__  # kdsr comes first: it repairs BasicSR's import
STUDENT = ROOT / 'options' / 'studies' / 'real_world_student.yml'


def degrade_set(folder: Path) -> Path:
    """Write a degraded copy of `<folder>/LRbicx4` and return its folder."""
    degradation = options.load(str(STUDENT))['datasets']['train']['degradation']
    out = folder / 'LRbicx4_degraded'
    out.mkdir(exist_ok=True)
    for file in sorted((folder / 'LRbicx4').glob('*.png')):
        seed = zlib.crc32(file.stem.encode())
        random.seed(seed)
        np.random.seed(seed)
        rgb = cv2.imread(str(file), cv2.IMREAD_COLOR)[..., ::-1].transpose(2, 0, 1)
        degraded = degrade_lightly(np.ascontiguousarray(rgb), **degradation)
        cv2.imwrite(str(out / file.name), degraded.transpose(1, 2, 0)[..., ::-1])
    return out


def main() -> None:
    """Degrade every set."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('sets', nargs='+', type=Path, metavar='SET')
    for folder in parser.parse_args().sets:
        print(degrade_set(folder))


if __name__ == '__main__':
    main()
