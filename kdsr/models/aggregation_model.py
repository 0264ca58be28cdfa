"""MTKD, stage 1: train the network that fuses the teachers' images (Jiang et al., ECCV 2024, Sec. 3.1)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from basicsr.utils import get_root_logger
from basicsr.utils.registry import MODEL_REGISTRY
from torch import Tensor

from kdsr import options
from kdsr.data.teacher_cache import open_cache
from kdsr.distillation.checkpoint import read_checkpoint
from kdsr.distillation.health import check_teacher
from kdsr.distillation.outputs import Batch
from kdsr.distillation.teacher import TeacherEnsemble, build_teachers
from kdsr.errors import UserError
from kdsr.experiment import rules
from kdsr.models.student_model import StudentModel


@MODEL_REGISTRY.register()
class AggregationModel(StudentModel):
    """StudentModel whose network fuses the images of the frozen teachers.

    `network_g` is the aggregator; its input is (N, 3*T, S*h, S*w), the images of the T teachers in the order of
    `distillation.teachers`. Losses, validation and logs are StudentModel's: Eq. (1) of the paper is its `pixel_opt`.
    The checkpoints remember the teachers' names and order. With `distillation.cache` the training set delivers these
    images, and teachers run only where something is validated.
    """

    _teachers: TeacherEnsemble | None = None

    def __init__(self, opt: dict[str, Any]) -> None:
        options.check(opt)
        super().__init__(opt)
        aggregator, self.names = self.experiment.trained, self.experiment.teacher_names
        if aggregator.weights is not None:  # also when a run is resumed
            content = read_checkpoint(aggregator.weights)
            rules.enforce(rules.find_trained_for_problems(aggregator, content, self.names))
        if not self.is_train or self.experiment.used_cache is None:
            _ = self.teachers
        else:
            self.check_cache()
        self._unchecked = self.is_train and self.experiment.health_check

    def build_teacher(self) -> TeacherEnsemble:
        """Return the live teachers, on the CPU."""
        return build_teachers(self.experiment)

    def check_cache(self) -> None:
        """Refuse a cache that does not fit."""
        open_cache(self.experiment)

    @property
    def teachers(self) -> TeacherEnsemble:
        """The live teachers; beside a cache, they are loaded when something is validated."""
        if self._teachers is None:
            with torch.random.fork_rng(devices=[]):
                self._teachers = self.build_teacher().to(self.device)
        return self._teachers

    def feed_data(self, data: dict[str, Any]) -> None:
        """Take a batch, and run the teachers on it where no cache delivers their images."""
        super().feed_data(data)
        self.teacher_images = self.complete(self.batch()).require('teacher_images')
        size, scale = tuple(self.teacher_images.shape[-2:]), self.experiment.scale
        if size[-1] != self.lq.shape[-1] * scale:
            raise UserError(
                f'the teachers turn {tuple(self.lq.shape[-2:])} into {size}, but this experiment is x{scale} (`scale`).'
            )

    def complete(self, batch: Batch) -> Batch:
        """Return the batch with the images of the teachers."""
        return batch if batch.teacher_images is not None else replace(batch, teacher_images=self._images(batch))

    def _images(self, batch: Batch) -> Tensor:
        if self._unchecked:  # on the first batch: no pair is at hand any earlier
            get_root_logger().info(check_teacher(self.teachers, [batch], self.experiment.scale))
            self._unchecked = False
        return self.teachers.images(batch)

    def checkpoint_extras(self) -> dict[str, Any]:
        """Remember which teachers the aggregator was trained for, in which order."""
        return {**super().checkpoint_extras(), 'teachers': self.names}
