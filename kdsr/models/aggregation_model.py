"""MTKD, stage 1: train the network that fuses the teachers' images (Jiang et al., ECCV 2024, Sec. 3.2)."""

from __future__ import annotations

from typing import Any

import torch
from basicsr.utils import get_root_logger
from basicsr.utils.registry import MODEL_REGISTRY
from torch import Tensor

from kdsr import options
from kdsr.distillation.checkpoint import read_checkpoint
from kdsr.distillation.health import check_teacher
from kdsr.distillation.outputs import Batch
from kdsr.distillation.teacher import build_teachers, check_trained_for
from kdsr.errors import UserError
from kdsr.models.student_model import StudentModel


@MODEL_REGISTRY.register()
class AggregationModel(StudentModel):
    """StudentModel whose low-quality image is what the frozen teachers make of it.

    `network_g` is the aggregator; its input is (N, 3*T, S*h, S*w), the images of the T teachers in the order of
    `distillation.teachers`. Losses, validation and logs are StudentModel's: Eq. (1) of the paper is its `pixel_opt`.
    The checkpoints remember the teachers' names and order.
    """

    lq: Tensor

    def __init__(self, opt: dict[str, Any]) -> None:
        options.check(opt)
        super().__init__(opt)
        with torch.random.fork_rng(devices=[]):
            self.teachers = build_teachers(opt).to(self.device)
        pretrained = opt['path'].get('pretrain_network_g')
        if pretrained:  # also when a run is resumed
            check_trained_for(read_checkpoint(pretrained), self.teachers.names, pretrained)
        self._unchecked = self.is_train and bool(opt['distillation'].get('health_check', True))

    def feed_data(self, data: dict[str, Any]) -> None:
        """Take a batch and replace its `lq` by the teachers' images."""
        super().feed_data(data)
        batch = Batch(self.lq, getattr(self, 'gt', None))
        if self._unchecked:  # on the first batch: no pair is at hand any earlier
            get_root_logger().info(check_teacher(self.teachers, [batch], self.opt['scale']))
            self._unchecked = False
        images = self.teachers.images(batch)
        if images.shape[-1] != self.lq.shape[-1] * self.opt['scale']:
            raise UserError(
                f'the teachers turn {tuple(self.lq.shape[-2:])} into {tuple(images.shape[-2:])}, '
                f'but this experiment is x{self.opt["scale"]} (`scale`).'
            )
        self.lq = images

    def checkpoint_extras(self) -> dict[str, Any]:
        """Remember which teachers the aggregator was trained for, in which order."""
        return {'teachers': self.teachers.names}
