"""The whole images of a training set of any kind: the input of the teachers when a cache is made."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from basicsr.data import build_dataset

from kdsr.compat.lmdb_files import read_meta_info
from kdsr.data.raw_images import RawImages, Window
from kdsr.data.set_headers import read_folder_headers
from kdsr.errors import UserError
from kdsr.experiment import Experiment
from kdsr.lifecycle.bad_samples import NamedSamples
from kdsr.options.table import RAW_SET

_PROBES = 16


class TrainingImages:
    """The whole images of a training set, (3, h, w) uint8, RGB. Base of the two kinds.

    Attributes:
        names: Of the whole images.
        sizes: (h, w) of their low-resolution versions.
        windows: The samples on each of them, in low-resolution pixels.
    """

    names: Sequence[str]
    sizes: Sequence[tuple[int, int]]
    windows: Sequence[Sequence[Window]]

    def pair(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Return a whole image in low and in high resolution."""
        raise NotImplementedError

    def samples(self) -> dict[str, tuple[int, int]]:
        """Return the key and low-resolution size of every sample."""
        return {window.key: (window.height, window.width) for windows in self.windows for window in windows}

    def digest(self) -> str:
        """Digest the low-resolution pixels of some samples: sets of equal names and sizes may have other pixels."""
        places = {window.key: (number, window) for number, ws in enumerate(self.windows) for window in ws}
        keys = sorted(places)
        digest = hashlib.sha256()
        for key in keys[:: max(1, len(keys) // _PROBES)]:
            number, (_, top, left, height, width) = places[key]
            lq, _ = self.pair(number)
            digest.update(lq[:, top : top + height, left : left + width].tobytes())
        return digest.hexdigest()[:16]


class RawTrainingImages(TrainingImages):
    """The images of a RawPairedImageDataset: samples are windows on whole images, which the teachers see once."""

    def __init__(self, opt: Mapping[str, Any]) -> None:
        self._lq, self._gt = (RawImages(opt[f'dataroot_{kind}'], f'dataroot_{kind}') for kind in ('lq', 'gt'))
        self.names, self.sizes, self.windows = self._lq.frames, self._lq.frame_sizes, self._lq.windows()
        scale = opt['scale']
        wanted = [(scale * height, scale * width) for height, width in self.sizes]
        if (self._gt.frames, self._gt.frame_sizes) != (self.names, wanted):
            raise UserError(
                f'{self._lq.folder} and {self._gt.folder} do not hold the same images, x1 and x{scale}. Make both from '
                'the same images with the same settings.'
            )

    def pair(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Return a whole image in low and in high resolution."""
        return self._lq.frame(number), self._gt.frame(number)


class PairedTrainingImages(TrainingImages):
    """The images of BasicSR's PairedImageDataset (LMDB, folders, lists), or of a dataset that reads in the same way."""

    def __init__(self, opt: Mapping[str, Any]) -> None:
        self._dataset: Any = build_dataset({**opt, 'phase': 'val', 'color': None})
        self._named = NamedSamples(self._dataset)
        if not hasattr(self._dataset, 'paths'):
            raise UserError(f'`kdsr cache` works with PairedImageDataset and {RAW_SET}, not with {opt["type"]}.')
        paths = self._dataset.paths
        self.names = [name_sample(path['gt_path']) for path in paths]
        twice = {name for name in self.names if self.names.count(name) > 1} if len(set(self.names)) < len(paths) else ()
        if twice:
            raise UserError(f'the training set has several images named {min(twice)!r}; a cache needs different names.')
        self.sizes = _read_lq_sizes(opt, [path['lq_path'] for path in paths])
        self.windows = [[Window(name, 0, 0, *size)] for name, size in zip(self.names, self.sizes)]

    def pair(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Return a whole image in low and in high resolution."""
        sample = self._named[number]
        lq, gt = (sample[kind].mul(255).round_().byte().numpy() for kind in ('lq', 'gt'))
        return lq, gt


def open_training_images(experiment: Experiment) -> TrainingImages:
    """Open the training set of an experiment.

    Args:
        experiment: Its training set may already be one that reads a cache.

    Raises:
        UserError: the set is of an unknown kind, or its two halves do not belong together.
    """
    train_set = {'name': 'train', **experiment.datasets['train'], 'scale': experiment.scale}
    train_set['type'] = train_set.pop('images', train_set['type'])
    if train_set['type'] == RAW_SET:
        return RawTrainingImages(train_set)
    return PairedTrainingImages(train_set)


def name_sample(path: str) -> str:
    """Return the name of a sample: its file without folder and ending, or its key in an LMDB."""
    return os.path.splitext(os.path.basename(path))[0]


def _read_lq_sizes(opt: Mapping[str, Any], paths: Sequence[str]) -> list[tuple[int, int]]:
    if opt['io_backend']['type'] == 'lmdb':
        sizes = read_meta_info(opt['dataroot_lq'])
        return [sizes[path] for path in paths]
    names = [os.path.relpath(path, opt['dataroot_lq']) for path in paths]
    headers = read_folder_headers(opt['dataroot_lq'], names)
    faults = [f'{path}: {headers[name].fault}' for path, name in zip(paths, names) if headers[name].fault is not None]
    if faults:
        raise UserError(f'{len(faults)} of the training images cannot be used. The first: {faults[0]}')
    return [headers[name].size for name in names]
