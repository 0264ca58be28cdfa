"""The images that an experiment is looked at with: its validation sets, or folders of test sets."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from itertools import islice

from basicsr.data import build_dataset
from basicsr.utils.color_util import rgb2ycbcr_pt
from torch import Tensor

from kdsr.data.benchmark_sets import find_sets, locate_lr_cache, read_pair
from kdsr.errors import UserError
from kdsr.experiment import Experiment
from kdsr.pictures.images import make_batch

ShownImage = tuple[str, Tensor, Tensor]


class ShownImages:
    """Pairs of low-quality image and ground truth, set after set.

    Args:
        experiment: Its validation sets are taken where no folders are named.
        folders: Folders of test sets, as `kdsr benchmark --sets` takes them.

    Raises:
        UserError: there is no validation set, or a folder has no images for the scale.
    """

    def __init__(self, experiment: Experiment, folders: Sequence[str] = ()) -> None:
        self.experiment = experiment
        self.folders = {one.name: one for one in find_sets(folders, experiment.scale)} if folders else {}
        self.validation = {key: d for key, d in experiment.datasets.items() if key.startswith('val')}
        if not self.folders and not self.validation:
            raise UserError('there is no validation set (`datasets.val`) to look at; name test sets with --sets.')

    def names(self) -> list[str]:
        """Return the names of the sets."""
        return list(self.folders) or [str(d.get('name', phase)) for phase, d in self.validation.items()]

    def images(self, name: str, count: int | None = None) -> Iterator[ShownImage]:
        """Yield (file name, lq, gt) for the first `count` images of a set; for all of them when None.

        The images are (1, C, h, w) and (1, C, S*h, S*w), RGB (or Y with `color: y`), in [0, 1], on the CPU.

        Raises:
            UserError: the set has no ground truth.
        """
        pairs = self._of_folder(name) if self.folders else self._of_validation(name)
        for file, lq, gt in islice(pairs, count):
            if self.experiment.luminance and gt.shape[1] == 3:
                lq, gt = (rgb2ycbcr_pt(image, y_only=True) for image in (lq, gt))
            yield file, lq, gt

    def _of_folder(self, name: str) -> Iterator[ShownImage]:
        for pair in self.folders[name].pairs:
            lq, gt = read_pair(pair, self.experiment.scale, locate_lr_cache())
            yield pair.name, make_batch(lq), make_batch(gt)

    def _of_validation(self, name: str) -> Iterator[ShownImage]:
        phase = list(self.validation)[self.names().index(name)]
        dataset = build_dataset({**self.validation[phase], 'phase': 'val', 'scale': self.experiment.scale})
        for i in range(len(dataset)):
            data = dataset[i]
            if 'gt' not in data:
                raise UserError(f'the validation set {name!r} has no ground truth (`dataroot_gt`).')
            lq, gt = (data[key].unsqueeze(0) for key in ('lq', 'gt'))
            yield os.path.splitext(os.path.basename(data['lq_path']))[0], lq, gt
