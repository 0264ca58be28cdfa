"""A student that learns from frozen teachers, beside whatever BasicSR's SRModel already teaches it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from basicsr.utils import get_root_logger
from basicsr.utils.registry import MODEL_REGISTRY
from torch import Tensor, nn

from kdsr import options
from kdsr.distillation.building import build_loss_at
from kdsr.distillation.checkpoint import load_weights
from kdsr.distillation.distillation_loss import DistillationLoss
from kdsr.distillation.feature_tap import FeatureTap
from kdsr.distillation.health import check_teacher
from kdsr.distillation.outputs import Batch, NetworkOutput
from kdsr.distillation.padding import run_padded
from kdsr.distillation.quadrants import run_in_quadrants
from kdsr.distillation.teacher import build_teachers, window_of
from kdsr.errors import UserError
from kdsr.models.checkpointing import CheckpointedSRModel


@MODEL_REGISTRY.register()
class DistillationModel(CheckpointedSRModel):
    """BasicSR's SRModel plus the `distillation:` block: teachers, tapped features, distillation losses.

    The student is `network_g`; its checkpoints hold nothing else and load wherever BasicSR's do. Trainable helpers of
    the losses (regressors, estimators) share the student's optimiser and are saved as `net_distill_<iter>.pth`.
    `train.pixel_opt` may be left out when the image term stands among the distillation losses.
    """

    lq: Tensor
    gt: Tensor
    net_g: nn.Module
    in_quadrants = False

    def init_training_settings(self) -> None:
        """Build teachers, taps and losses, then let SRModel build EMA, image losses, optimiser and schedulers."""
        options.check(self.opt)
        with torch.random.fork_rng(devices=[]):  # the student's own random stream stays that of its baseline
            self.teacher = build_teachers(self.opt).to(self.device)
            points = {n: p['student'] for n, p in (self.opt['distillation'].get('features') or {}).items()}
            self.tap = FeatureTap(self.get_bare_model(self.net_g), points)
            self.losses = self._build_losses()
        self._unchecked = bool(self.opt['distillation'].get('health_check', True))
        train_opt = self.opt['train']
        without_image_loss = not train_opt.get('pixel_opt') and not train_opt.get('perceptual_opt')
        if without_image_loss:  # SRModel insists on one
            train_opt['pixel_opt'] = {'type': 'L1Loss'}
        super().init_training_settings()
        if without_image_loss:
            del train_opt['pixel_opt']
            self.cri_pix = None

    def _build_losses(self) -> nn.ModuleDict:
        loss_opts = {n: o for n, o in (self.opt['distillation'].get('losses') or {}).items() if o is not None}
        if not loss_opts:
            raise UserError('`distillation.losses` is empty, so nothing is distilled. For the baseline: SRModel.')
        student, teacher, batch = self._dry_run()
        losses = nn.ModuleDict()
        for name, loss_opt in loss_opts.items():
            loss = build_loss_at(f'distillation.losses.{name}', loss_opt)
            if not isinstance(loss, DistillationLoss):
                raise UserError(
                    f'distillation.losses.{name}: {type(loss).__name__} is no distillation loss; '
                    'image losses of BasicSR belong into `train.pixel_opt`.'
                )
            try:  # what does not fit shows here, before the first iteration
                loss.build_helpers(student, teacher)
                with torch.no_grad():
                    loss.to(self.device)(student, teacher, batch)
            except ValueError as error:
                raise UserError(f'distillation.losses.{name}: {error}') from None
            losses[name] = loss
        if self.opt['dist']:
            for tensor in losses.state_dict().values():
                torch.distributed.broadcast(tensor, src=0)
        return losses

    @torch.no_grad()
    def _dry_run(self) -> tuple[NetworkOutput, NetworkOutput, Batch]:
        """Run student and teachers once on a grey ramp of the training size, to learn shapes and in-place changes."""
        scale, train_set = self.opt['scale'], self.opt['datasets']['train']
        network: nn.Module = self.get_bare_model(self.net_g)
        gt_size = int(train_set['gt_size'])
        self._check_crop(gt_size, scale)
        channels = 1 if train_set.get('color') == 'y' else 3
        ramp = torch.linspace(0, 1, gt_size * gt_size, device=self.device).view(1, 1, gt_size, gt_size)
        gt = ramp.expand(2, channels, -1, -1).contiguous()
        batch = Batch(gt[..., ::scale, ::scale].contiguous(), gt)
        buffers = {name: buffer.clone() for name, buffer in network.named_buffers()}
        self.tap.calibrate(lambda: network.train()(batch.lq))  # what training changes in place, dropout included
        for name, buffer in network.named_buffers():
            buffer.copy_(buffers[name])
        network.eval()
        with self.tap as features:
            student = NetworkOutput(network(batch.lq), features)
        network.train()
        self.teacher.calibrate(batch)
        teacher = self.teacher(batch)
        if student.sr.shape != gt.shape or teacher.sr.shape != gt.shape:
            raise UserError(
                f'`scale: {scale}` turns {tuple(batch.lq.shape[-2:])} into {tuple(gt.shape[-2:])}, but the student '
                f'gives {tuple(student.sr.shape[-2:])} and the teacher {tuple(teacher.sr.shape[-2:])}: '
                "make `scale`, `network_g.upscale` and the teachers' `upscale` agree."
            )
        for name in sorted(self.tap.copied):
            get_root_logger().info(
                f'feature {name}: {type(network).__name__} changes {self.tap.points[name]} in place later; '
                'a copy from before the change is compared.'
            )
        return student, teacher, batch

    def _check_crop(self, gt_size: int, scale: int) -> None:
        """Refuse crops that do not fit: the student sees them unpadded, and features of padded ones do not compare."""
        if gt_size % scale:
            raise UserError(f'`datasets.train.gt_size: {gt_size}` must be a multiple of `scale: {scale}`.')
        windows = {'the student': window_of(self.opt['network_g'])}
        for name, member in zip(self.teacher.names, self.teacher.members):
            if member.tap.points:
                windows[f'teacher {name}, which is tapped,'] = member.multiple
        for who, window in windows.items():
            if (gt_size // scale) % window:
                fitting = (gt_size // scale // window + 1) * window * scale
                raise UserError(
                    f'`datasets.train.gt_size: {gt_size}` gives LR crops of {gt_size // scale}, but {who} needs a '
                    f'multiple of its window, {window}: for example gt_size: {fitting}.'
                )

    def helpers(self) -> Iterator[nn.Parameter]:
        """Yield the trainable parameters of the losses, in a fixed order."""
        return self.losses.parameters()

    def setup_optimizers(self) -> None:
        """Give the losses' helpers the student's optimiser and learning rate."""
        super().setup_optimizers()
        helpers = list(self.helpers())
        if helpers:
            self.optimizer_g.add_param_group({'params': helpers})

    def optimize_parameters(self, current_iter: int) -> None:
        """Take one training step on the batch that was fed."""
        self.optimizer_g.zero_grad()
        batch = Batch(self.lq, self.gt)
        if self._unchecked:  # on the first batch: no pair is at hand any earlier
            get_root_logger().info(check_teacher(self.teacher, [batch], self.opt['scale']))
            self._unchecked = False
        teacher = self.teacher(batch)
        with self.tap as features:
            self.output = self.net_g(self.lq)
        student = NetworkOutput(self.output, features)

        terms = self._image_terms()
        terms.update({name: loss(student, teacher, batch) for name, loss in self.losses.items()})
        total = torch.stack(list(terms.values())).sum()
        if self.opt['dist']:  # DDP waits for every parameter, also for those behind the last tap of a feature loss
            total = total + 0 * self.output.mean()
        total.backward()
        self._average_helper_gradients()
        self.optimizer_g.step()
        self._terms = {name: term.detach() for name, term in terms.items()}
        if self.ema_decay > 0:
            self.model_ema(decay=self.ema_decay)

    def _image_terms(self) -> dict[str, Tensor]:
        """Return SRModel's own losses under SRModel's own names."""
        terms = {}
        if self.cri_pix:
            terms['l_pix'] = self.cri_pix(self.output, self.gt)
        if self.cri_perceptual:
            parts = zip(('l_percep', 'l_style'), self.cri_perceptual(self.output, self.gt))
            terms.update({name: part for name, part in parts if part is not None})
        return terms

    def _average_helper_gradients(self) -> None:
        """Do for the helpers what DistributedDataParallel does for the student."""
        if not self.opt['dist']:
            return
        for parameter in self.helpers():
            if parameter.grad is not None:
                torch.distributed.all_reduce(parameter.grad)
                parameter.grad /= self.opt['world_size']

    def get_current_log(self) -> dict[str, float]:
        """Return the last step's losses; only here does the step wait for the device."""
        self.log_dict = self.reduce_loss_dict(self._terms)
        return self.log_dict

    def validation(self, dataloader: Any, current_iter: int | str, tb_logger: Any, save_img: bool = False) -> None:
        """Validate on one set as SRModel does; `val.quadrants` may depend on which one it is."""
        chosen = (self.opt.get('val') or {}).get('quadrants', False)
        self.in_quadrants = dataloader.dataset.opt['name'] in chosen if isinstance(chosen, list) else bool(chosen)
        super().validation(dataloader, current_iter, tb_logger, save_img)

    def test(self) -> None:
        """Run the student on `self.lq` of any size, padded to its window; with `val.quadrants` in four parts (SAN)."""
        network: nn.Module = getattr(self, 'net_g_ema', self.net_g)
        network.eval()
        with torch.no_grad():
            padded = partial(run_padded, network, multiple=window_of(self.opt['network_g']))
            self.output = run_in_quadrants(padded, self.lq) if self.in_quadrants else padded(self.lq)
        if network is self.net_g:
            network.train(self.is_train)

    def _helper_path(self, label: int | str) -> str:
        return os.path.join(self.opt['path']['models'], f'net_distill_{label}.pth')

    def save(self, epoch: int, current_iter: int) -> None:
        """Save the helpers, then what SRModel saves (the training state last: it marks a complete checkpoint)."""
        if any(True for _ in self.helpers()):
            self.save_network(self.losses, 'net_distill', current_iter)
        super().save(epoch, current_iter)

    def resume_training(self, resume_state: dict[str, Any]) -> None:
        """Restore optimisers and schedulers, and the helpers that belong to them."""
        super().resume_training(resume_state)
        if any(True for _ in self.helpers()):
            load_weights(self.losses, self._helper_path(resume_state['iter']), 'params', 'distillation helpers')
