"""BasicSR's PairedImageDataset on raw pixels: the same samples, without decoding what is cropped away."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np
import torch
from basicsr.utils.registry import DATASET_REGISTRY
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms.functional import normalize

from kdsr.data.random_crops import crop_randomly
from kdsr.data.raw_images import RawImages
from kdsr.data.swapped_pairs import describe_swapped
from kdsr.errors import UserError

# of 8-bit R, G, B: what BasicSR's bgr2ycbcr adds up to Y in [0, 1] of an image divided by 255 in float32
_Y_OF_RGB = [
    (np.arange(256, dtype=np.float32) / 255).astype(np.float64) * weight / 255 + offset / 255
    for weight, offset in ((65.481, 0.0), (128.553, 0.0), (24.966, 16.0))
]


@DATASET_REGISTRY.register()
class RawPairedImageDataset(Dataset[dict[str, Any]]):
    """Pairs of LQ and GT from two ``.raw`` folders (`kdsr prepare --raw`).

    It takes the options of BasicSR's PairedImageDataset and draws the same random numbers. On the same images it gives
    the same tensors, bit for bit. `io_backend` is not needed.

    Args:
        opt: Options of the dataset. Needed: `dataroot_gt`, `dataroot_lq`, `scale`, `phase`, and for training `gt_size`,
            `use_hflip`, `use_rot`. Optional:
            `color: y`, `mean`, `std`: as in PairedImageDataset.
            `uint8`: return all images as uint8, a quarter of the memory; kdsr's models divide by 255 on the device.
            `dataroot_teacher`: raw set of the teachers' images, of HR size. They are cropped and flipped with the GT
            and returned as uint8. kdsr sets it for `distillation.cache`.
            `dataroot_code`: raw set of what a teacher's encoder made of the GT, of LR size, returned as stored. kdsr
            sets it, too.

    Raises:
        UserError: a set is missing or damaged, the sets do not belong together, or a crop is larger than an image.
    """

    def __init__(self, opt: Mapping[str, Any]) -> None:
        super().__init__()
        self.opt = opt
        self.mean, self.std = opt.get('mean'), opt.get('std')
        self._check_options()
        self._train: bool = opt['phase'] == 'train'
        self._y = opt.get('color') == 'y'
        names = [name for name in ('lq', 'gt', 'teacher', 'code') if opt.get(f'dataroot_{name}') is not None]
        self.sets = {name: RawImages(opt[f'dataroot_{name}'], f'{opt["name"]}: dataroot_{name}') for name in names}
        self.keys = sorted(self.sets['lq'].keys)  # the order of BasicSR's LMDBs
        self._numbers = {name: self._find_numbers(name) for name in names}
        for name in names[1:]:
            self._check_sizes(name)

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return `lq`, `gt`, `teacher` or `code` if there is one, (C, h, w), RGB or Y, and their keys as `*_path`."""
        key = self.keys[index]
        views = {name: images.image(self._numbers[name][index]) for name, images in self.sets.items()}
        if self._train:
            images = self._crop(views, key)
        else:
            height, width = (self.opt['scale'] * side for side in views['lq'].shape[1:])
            images = {name: view[:, :height, :width].copy() for name, view in views.items()}
        sample: dict[str, Any] = {name: self._make_tensor(name, image) for name, image in images.items()}
        return {**sample, 'lq_path': key, 'gt_path': key}

    def _crop(self, views: Mapping[str, np.ndarray], key: str) -> dict[str, np.ndarray]:
        return crop_randomly(views, self.opt, key)

    def _make_tensor(self, name: str, pixels: np.ndarray) -> Tensor:
        if self.opt.get('uint8') or name in ('teacher', 'code'):
            return torch.from_numpy(pixels)
        tensor = torch.from_numpy(compute_luma(pixels)) if self._y else torch.from_numpy(pixels).float().div_(255)
        if self.mean is not None or self.std is not None:
            normalize(tensor, self.mean, self.std, inplace=True)
        return tensor

    def _check_options(self) -> None:
        name = self.opt['name']
        if self.opt.get('meta_info_file') is not None:
            raise UserError(f'{name}: `meta_info_file` is for folders of files. A raw set is used whole: leave it out.')
        for key in ('mean', 'std', 'color') if self.opt.get('uint8') else ():
            if self.opt.get(key) is not None:
                raise UserError(f'{name}: `{key}` needs values that are no whole numbers. Leave out `uint8`.')

    def _find_numbers(self, name: str) -> list[int]:
        """Return the place of every key in a set."""
        images, lq = self.sets[name], self.sets['lq']
        numbers = {key: number for number, key in enumerate(images.keys)}
        unmatched = sorted(numbers.keys() ^ set(self.keys))
        if unmatched:
            has, lacks = (images, lq) if unmatched[0] in numbers else (lq, images)
            raise UserError(
                f'{self.opt["name"]}: {has.folder} and {lacks.folder} hold different images: {unmatched[0]!r} is only '
                f'in the first ({len(unmatched)} differ). Make both from the same images with the same settings.'
            )
        return [numbers[key] for key in self.keys]

    def _check_sizes(self, name: str) -> None:
        """Refuse a set of another scale than the option says, and crops that are larger than the images."""
        scale = 1 if name == 'code' else self.opt['scale']
        lq, target = (self.sets[n].sizes[self._numbers[n]] for n in ('lq', name))
        wrong = np.flatnonzero(((target != lq * scale) if self._train else (target < lq * scale)).any(axis=1))
        if len(wrong):
            size, lq_size = ('x'.join(map(str, sizes[wrong[0]])) for sizes in (target, lq))
            if name == 'gt' and scale > 1 and (lq == target * scale).all():
                text = describe_swapped(self.keys[wrong[0]], lq_size, size)
                raise UserError(f'{self.opt["name"]}: {text}')
            raise UserError(
                f'{self.opt["name"]}: {self.sets[name].folder} is not {scale} times {self.sets["lq"].folder} '
                f'(`scale`): {self.keys[wrong[0]]!r} has {size} against {lq_size} pixels.'
            )
        if not self._train:
            return
        small = np.flatnonzero((lq < self.opt['gt_size'] // self.opt['scale']).any(axis=1))
        if len(small):
            size = 'x'.join(map(str, target[small[0]]))
            raise UserError(
                f'{self.opt["name"]}: {self.keys[small[0]]!r} in {self.sets[name].folder} has {size} pixels, less than '
                f'a crop of `gt_size: {self.opt["gt_size"]}` ({len(small)} such). Lower `gt_size`.'
            )


def compute_luma(rgb: np.ndarray) -> np.ndarray:
    """Return BasicSR's Y of (3, h, w) uint8 RGB: (1, h, w) float32 in [0, 1], not rounded to 8 bits.

    For each of the 2^24 colours the result is, bit for bit, `bgr2ycbcr(image.astype(float32) / 255, y_only=True)`:
    both add in float64, and no exact value is within 3e-14 (relative) of a point where float32 rounds the other way.
    """
    red, green, blue = (cv2.LUT(plane, table) for plane, table in zip(rgb, _Y_OF_RGB))
    red += green
    red += blue
    return red.astype(np.float32)[None]
