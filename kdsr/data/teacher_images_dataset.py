"""Any paired training set, with what the teachers made of its images before."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from basicsr.data import build_dataset
from basicsr.utils.registry import DATASET_REGISTRY
from torch.utils.data import Dataset

from kdsr.data.random_crops import random_crops
from kdsr.data.raw_images import RawImages
from kdsr.data.training_images import key_of
from kdsr.errors import UserError


@DATASET_REGISTRY.register()
class TeacherImagesDataset(Dataset[dict[str, Any]]):
    """The samples of BasicSR's PairedImageDataset, and the same crop of a cached image as `teacher`.

    kdsr puts it in the place of the training set of an option file with `distillation.cache`. Where the crop lies and
    how it is turned is not told by a sample, so the random numbers that the sample was made with are drawn once more.

    Args:
        opt: Of the training set, with its own type as `images`, and `dataroot_teacher`, the cache.

    Raises:
        UserError: the cache is missing or damaged.
    """

    def __init__(self, opt: Mapping[str, Any]) -> None:
        super().__init__()
        self.opt = opt
        self.images: Any = build_dataset({**opt, 'type': opt['images']})
        self.cache = RawImages(opt['dataroot_teacher'], 'distillation.cache')
        self._numbers = {key: number for number, key in enumerate(self.cache.keys)}

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return the sample and `teacher`, (C, h, w) uint8."""
        before = random.getstate()
        sample: dict[str, Any] = self.images[index]
        after = random.getstate()
        key = key_of(sample['gt_path'])
        if key not in self._numbers:
            raise UserError(f'distillation.cache: {self.cache.folder} has no image {key!r}.')
        view = self.cache.image(self._numbers[key])
        scale = self.opt['scale']
        lq = np.broadcast_to(np.uint8(0), (1, view.shape[1] // scale, view.shape[2] // scale))
        random.setstate(before)
        teacher = random_crops({'lq': lq, 'teacher': view}, self.opt, key)['teacher']
        if random.getstate() != after:
            random.setstate(after)
            raise UserError(
                f'distillation.cache: {self.opt["images"]} draws other random numbers than PairedImageDataset, so its '
                'crops cannot be followed. Use PairedImageDataset or RawPairedImageDataset, or `exact: true`.'
            )
        return {**sample, 'teacher': torch.from_numpy(teacher)}
