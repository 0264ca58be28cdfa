"""One pass of a network in training: its input, its precision, its image losses."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from basicsr.models.sr_model import SRModel
from basicsr.utils import get_root_logger
from basicsr.utils.registry import ARCH_REGISTRY
from torch import Tensor, nn

from kdsr import options
from kdsr.distillation.building import check_arguments
from kdsr.distillation.outputs import Batch
from kdsr.distillation.precision import (
    at_least_float32,
    autocast,
    find_slow_precision,
    set_memory_format,
    to_memory_format,
)
from kdsr.errors import UserError
from kdsr.experiment import Experiment, Training, read_experiment, rules
from kdsr.models.number_guard import NumberGuard


class StudentPass(SRModel):
    """SRModel that runs its network as `train.amp` and `train.channels_last` say.

    Attributes:
        experiment: What the options describe.
        lq: Of the batch at hand, (N, C, h, w) in [0, 1].
        gt: Of the batch at hand, (N, C, S*h, S*w) in [0, 1]; there is none where the batch has none.
        teacher_images: See :class:`~kdsr.distillation.outputs.Batch`.
        code: See :class:`~kdsr.distillation.outputs.Batch`.
        output: Image of the last pass through the network.
        scaler: Of `amp: fp16`; disabled otherwise.
        precision: 'bf16' or 'fp16' for the network's pass in training; None for single precision.
        guard: Checks the numbers of every step.
        measured: What the last step measured and did not minimise, by its name in the log.

    Args:
        opt: All options, as BasicSR's pipeline parses them.

    Raises:
        UserError: several GPUs in one process, which BasicSR would run with DataParallel; options that do not fit
            together (:mod:`kdsr.experiment.rules`).
    """

    opt: dict[str, Any]
    experiment: Experiment
    net_g: nn.Module
    lq: Tensor
    gt: Tensor
    output: Tensor
    scaler: torch.amp.GradScaler
    teacher_images: Tensor | None = None
    code: Tensor | None = None

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
        training = self.experiment.training if opt['is_train'] else Training()
        self.precision, self.channels_last = training.amp, training.channels_last
        self.accumulate, self.clip_grad_norm = training.accumulate, training.clip_grad_norm
        self.guard = NumberGuard(training.skip_nonfinite)
        self.measured: dict[str, Tensor] = {}
        self._to_compile = training.compile
        self._input, self._multiple = self.experiment.trained.input, self.experiment.trained.multiple
        super().__init__(opt)
        of_teachers = (network.precision for network in self.experiment.frozen if not network.device)
        for precision in dict.fromkeys([self.precision, *of_teachers]) if opt['is_train'] else ():
            warning = find_slow_precision(self.device, precision)
            if warning:
                get_root_logger().warning(warning)

    def model_to_device(self, net: nn.Module) -> nn.Module:
        """Lay the weights out in memory before DistributedDataParallel, if any, learns how they lie."""
        return super().model_to_device(set_memory_format(net, self.channels_last))

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

    def batch(self) -> Batch:
        """Return the batch that was fed."""
        return Batch(self.lq, getattr(self, 'gt', None), self.teacher_images, self.code)

    def take_cached(self, data: Mapping[str, Any]) -> None:
        """Take what a cache delivers with a batch: the teachers' images (uint8), or a code."""
        self.teacher_images = data['teacher'].to(self.device).float().div_(255) if 'teacher' in data else None
        self.code = data['code'].to(self.device) if 'code' in data else None

    def network_input(self, batch: Batch) -> Tensor:
        """Return the network's input, as the table of model classes names it; by default the low-quality image."""
        return batch.require(self._input, type(self).__name__)

    def window(self) -> int:
        """Return the multiple that the sides of the network's input must have."""
        return self._multiple

    def run(self, image: Tensor, network: nn.Module | None = None) -> Tensor:
        """Run the network in training as `train.amp` and `train.channels_last` say.

        Args:
            image: Its input, (N, C, h, w).
            network: The bare network where the wrapper of a distributed run must not be called.

        Returns:
            (N, C', S*h, S*w), in single precision.
        """
        with autocast(self.device, self.precision):
            own = to_memory_format(image.clone(), self.channels_last)  # networks may change their input in place
            output = (self.net_g if network is None else network)(own)
        return at_least_float32(output.contiguous() if self.channels_last else output)

    def image_terms(self, image: Tensor, gt: Tensor | None) -> dict[str, Tensor]:
        """Return SRModel's own losses of an image under SRModel's own names."""
        terms = {}
        if self.cri_pix:
            terms['l_pix'] = self.cri_pix(image, gt)
        if self.cri_perceptual:
            parts = zip(('l_percep', 'l_style'), self.cri_perceptual(image, gt))
            terms.update({name: part for name, part in parts if part is not None})
        return terms

    def learnt(self) -> list[nn.Parameter]:
        """Return all parameters that the network's optimiser changes."""
        return [p for group in self.optimizer_g.param_groups for p in group['params']]

    @contextlib.contextmanager
    def without_wrapper(self) -> Iterator[None]:
        """Let `self.net_g` be the bare network: passes of one process alone must not wait for the others."""
        wrapped = self.net_g
        self.net_g = self.get_bare_model(wrapped)
        try:
            yield
        finally:
            self.net_g = wrapped


def mean_of_parts(parts: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Return the mean of each value over the parts of a batch."""
    return parts[0] if len(parts) == 1 else {n: torch.stack([part[n] for part in parts]).mean() for n in parts[0]}
