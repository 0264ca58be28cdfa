"""The work of one process that makes a teacher cache: teachers on a device, run on whole images."""

from __future__ import annotations

import numpy as np
import torch
from basicsr.utils.color_util import rgb2ycbcr_pt
from torch import Tensor

from kdsr.data.training_images import TrainingImages
from kdsr.distillation.outputs import Batch
from kdsr.distillation.teacher import TeacherEnsemble, build_teachers
from kdsr.distillation.tiling import run_tiled, self_ensemble
from kdsr.errors import UserError
from kdsr.experiment import Experiment
from kdsr.hourglass import encoder_of

WHOLE = 512 * 512  # low-resolution pixels up to which an image is not cut, unless asked for
TILE, OVERLAP = 384, 64


class TeacherRun:
    """The teachers of one process, on a device. A call runs them on a training image. Picklable until it starts.

    Args:
        experiment: Its teachers are run.
        ensemble: Average over the eight flips and rotations of the image.
        tile: As in :func:`~kdsr.data.teacher_cache.make_cache`.
    """

    def __init__(self, experiment: Experiment, ensemble: bool, tile: int | None) -> None:
        self.experiment, self._ensemble, self._tile = experiment, ensemble, tile
        self._stores_code = experiment.content == 'code'

    def copy_unstarted(self) -> TeacherRun:
        """Return a run for the same work that has not loaded its teachers."""
        return TeacherRun(self.experiment, self._ensemble, self._tile)

    def start(self, device: str, images: TrainingImages) -> None:
        """Load the teachers.

        Args:
            device: Name of the device, for example `cuda:0`.
            images: The training images.

        Raises:
            UserError: the weights of a teacher are missing or do not fit.
        """
        self._images, self._device = images, torch.device(device)
        self.teachers: TeacherEnsemble = build_teachers(self.experiment).to(self._device)
        self._encoder = encoder_of(self.teachers) if self._stores_code else None
        self._multiple = int(np.lcm.reduce([member.multiple for member in self.teachers.members]))

    @torch.no_grad()
    def __call__(self, number: int) -> np.ndarray:
        """Return what is stored for training image `number`: (C, S*h, S*w) uint8, or a code, (C, h, w) float32.

        Raises:
            UserError: the image cannot be read, is too large for the memory of the device, or the teachers' output has
                another size or is not finite.
        """
        batch = self.batch(number)
        height, width = batch.lq.shape[-2:]
        try:
            tile = self._choose_tile(height, width)
            image = run_tiled(self.answer, batch, tile, OVERLAP, self._multiple) if tile else self.answer(batch)
        except torch.cuda.OutOfMemoryError as error:
            raise UserError(
                f'{self._images.names[number]}: {height}x{width} pixels at once need more memory than {self._device} '
                'has. Run the same command with smaller tiles, for example --tile 192. What is finished is kept.'
            ) from error
        self._check(number, image, (height, width))
        image = image[0] if self._stores_code else image[0].clamp(0, 1).mul(255).round_().byte()
        stored: np.ndarray = image.cpu().numpy()
        return stored

    def _check(self, number: int, image: Tensor, size: tuple[int, int]) -> None:
        scale = self.scale
        wanted = tuple(scale * side for side in size)
        if tuple(image.shape[-2:]) == wanted and bool(torch.isfinite(image).all()):
            return
        what = f'of {tuple(image.shape[-2:])} instead of {wanted} pixels'
        raise UserError(
            f'{self._images.names[number]}: the output of the teachers for {size} pixels is '
            f'{"not finite" if tuple(image.shape[-2:]) == wanted else what} (`scale: {self.experiment.scale}`).'
        )

    @property
    def scale(self) -> int:
        """Size of what is stored, relative to the low-resolution image."""
        return 1 if self._stores_code else self.experiment.scale

    def batch(self, number: int, side: int | None = None) -> Batch:
        """Return a training image as a batch of one, or the square of `side` low-resolution pixels at its centre."""
        pair = [torch.from_numpy(np.array(image)) for image in self._images.pair(number)]
        if side is not None:
            pair = _crop_centre(pair, side, self.experiment.scale)
        lq, gt = (image.to(self._device)[None].float().div_(255) for image in pair)
        y_only = self.experiment.channels == 1
        return Batch(*(rgb2ycbcr_pt(image, y_only=True) if y_only else image for image in (lq, gt)))

    def answer(self, batch: Batch) -> Tensor:
        """Return what is stored for a batch: images (N, C, S*h, S*w), or codes (N, C, h, w)."""
        if self._encoder is not None:
            return self._encoder(batch).image
        own_images = self.experiment.content == 'teacher_images'
        plain = self.teachers.images if own_images else lambda b: self.teachers(b).image
        return self_ensemble(plain, batch) if self._ensemble else plain(batch)

    def _choose_tile(self, height: int, width: int) -> int:
        """Return the side of the tiles for an image; 0 where it is not cut."""
        if self._tile is not None:
            return self._tile
        return TILE if height * width > WHOLE else 0


def _crop_centre(pair: list[Tensor], side: int, scale: int) -> list[Tensor]:
    height, width = (min(side, size) for size in pair[0].shape[-2:])
    top, left = (pair[0].shape[-2] - height) // 2, (pair[0].shape[-1] - width) // 2
    return [
        image[..., s * top : s * (top + height), s * left : s * (left + width)] for image, s in zip(pair, (1, scale))
    ]
