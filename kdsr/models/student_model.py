"""A student alone: BasicSR's SRModel, in colour or on luminance, and the base of kdsr's other models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from basicsr.utils.registry import ARCH_REGISTRY, MODEL_REGISTRY

from kdsr import options
from kdsr.distillation.building import check_arguments
from kdsr.distillation.outputs import Batch
from kdsr.errors import UserError
from kdsr.experiment import read_experiment, rules
from kdsr.models.step import SteppingModel


@MODEL_REGISTRY.register()
class StudentModel(SteppingModel):
    """BasicSR's SRModel with the same files, logs and losses, and what small networks need besides.

    `color: y` trains a network of one channel on the luminance of RGB images, and writes colour images when it
    validates. Batches may be uint8. Validation takes images of any size (padded to the network's window; with
    `val.quadrants` in four parts), and its metrics do not hold up the network. Files are written whole or not at all.

    What makes a step faster or smaller is off unless `train` asks for it, and then the step is SRModel's, bit by bit:
    `amp` and `channels_last` for the network (losses, weights and validation stay in single precision), `compile`,
    `accumulate`, and `clip_grad_norm`.

    Its concerns stand in files of their own, each a class on top of the one before: `saving.py` (checkpoints and
    states), `validated.py` (images in, whole images out), `step.py` (the training step, with `number_guard.py`).
    Subclasses override `loss_terms`, and `checkpoint_extras` to save more. The network's input stands in the table of
    model classes (:mod:`kdsr.options.model_classes`).

    Args:
        opt: All options, as BasicSR's pipeline parses them.

    Raises:
        UserError: several GPUs in one process, which BasicSR would run with DataParallel; options that do not fit
            together (:mod:`kdsr.experiment.rules`).
    """

    def __init__(self, opt: dict[str, Any]) -> None:
        if not opt['dist'] and opt['num_gpu'] > 1:
            raise UserError(
                f'`num_gpu: {opt["num_gpu"]}` without a launcher would use DataParallel, whose copies of a network '
                "overwrite each other's features. Start one process a GPU: torchrun --nproc_per_node="
                f'{opt["num_gpu"]} kdsr/train.py -opt FILE --launcher pytorch; or use one GPU: --force_yml num_gpu=1'
            )
        options.check_values(opt)
        self.experiment = read_experiment(opt)
        rules.enforce(rules.find_channel_problems(self.experiment))
        rules.enforce(rules.find_step_problems(self.experiment) if opt['is_train'] else ())
        check_arguments(ARCH_REGISTRY, 'network_g', opt['network_g'])
        super().__init__(opt)

    def example_batch(self, multiples: Mapping[str, int] | None = None) -> Batch:
        """Return a grey ramp of the training size, for dry runs.

        Args:
            multiples: See :func:`kdsr.experiment.rules.find_crop_problems`.

        Raises:
            UserError: the training size does not fit the scale or a network.
        """
        scale, crop = self.experiment.scale, self.experiment.training.crop
        if not crop:
            raise UserError('`datasets.train.gt_size` is missing: how large are the crops?')
        rules.enforce(rules.find_crop_problems(self.experiment, multiples))
        ramp = torch.linspace(0, 1, crop * crop, device=self.device).view(1, 1, crop, crop)
        gt = ramp.expand(2, self.experiment.channels, -1, -1).contiguous()
        lq = gt[..., ::scale, ::scale].contiguous()
        return Batch(lq, gt, teacher_images=gt, code=lq)
