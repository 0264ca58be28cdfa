"""Any paired training set, with the cached images of the teachers."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from basicsr.data import build_dataset
from basicsr.utils.registry import DATASET_REGISTRY
from torch.utils.data import Dataset

from kdsr.data.random_crops import crop_randomly
from kdsr.data.raw_images import RawImages
from kdsr.data.training_images import name_sample
from kdsr.errors import UserError


@DATASET_REGISTRY.register()
class TeacherImagesDataset(Dataset[dict[str, Any]]):
    """The samples of BasicSR's PairedImageDataset, each with the same crop of a cached image or code.

    kdsr uses it in place of the training set of an option file with `distillation.cache`. A sample does not contain the
    place of its crop and its flips. The dataset therefore draws the random numbers of the sample a second time.

    Args:
        opt: Options of the training set, with its own type as `images`, and the folder of the cache:
            `dataroot_teacher` (images) or `dataroot_code` (codes of low resolution).

    Raises:
        UserError: the cache is missing or damaged.
    """

    def __init__(self, opt: Mapping[str, Any]) -> None:
        super().__init__()
        self.opt = opt
        self.images: Any = build_dataset({**opt, 'type': opt['images']})
        self.kind = 'code' if 'dataroot_code' in opt else 'teacher'
        self.cache = RawImages(opt[f'dataroot_{self.kind}'], 'distillation.cache')
        self._numbers = {key: number for number, key in enumerate(self.cache.keys)}

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return the sample with `teacher`, (C, h, w) uint8, or `code`, (C, h/S, w/S) float32.

        Raises:
            UserError: the cache lacks the image or is damaged, or the training set draws other random numbers than
                PairedImageDataset.
        """
        before = random.getstate()
        sample: dict[str, Any] = self.images[index]
        after = random.getstate()
        key = name_sample(sample['gt_path'])
        if key not in self._numbers:
            raise UserError(f'distillation.cache: {self.cache.folder} has no image {key!r}.')
        view = self.cache.image(self._numbers[key])
        random.setstate(before)
        cached = crop_randomly({**self._make_blank_pair(view), self.kind: view}, self.opt, key)[self.kind]
        if random.getstate() != after:
            random.setstate(after)
            raise UserError(
                f'distillation.cache: {self.opt["images"]} draws other random numbers than PairedImageDataset, so its '
                'crops cannot be followed. Use PairedImageDataset or RawPairedImageDataset, or `exact: true`.'
            )
        return {**sample, self.kind: torch.from_numpy(cached)}

    def _make_blank_pair(self, view: np.ndarray) -> dict[str, np.ndarray]:
        """Return an empty pair of the sizes that belong to a cached image; it takes no memory."""
        scale, (height, width) = self.opt['scale'], view.shape[1:]
        small = (height, width) if self.kind == 'code' else (height // scale, width // scale)
        sizes = {'lq': small, 'gt': (scale * small[0], scale * small[1])}
        return {name: np.broadcast_to(np.uint8(0), (1, *size)) for name, size in sizes.items()}
