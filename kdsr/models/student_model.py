"""A student alone: BasicSR's SRModel, in colour or on luminance, and the base of kdsr's other models."""

from __future__ import annotations

import contextlib
import math
import os
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from basicsr.models.sr_model import SRModel
from basicsr.utils import get_root_logger
from basicsr.utils.color_util import rgb2ycbcr_pt
from basicsr.utils.registry import ARCH_REGISTRY, MODEL_REGISTRY
from torch import Tensor, nn

from kdsr import options
from kdsr.distillation.building import check_arguments
from kdsr.distillation.outputs import Batch
from kdsr.distillation.padding import run_padded
from kdsr.distillation.precision import at_least_float32, autocast, laid_out, lay_out
from kdsr.distillation.quadrants import run_in_quadrants
from kdsr.errors import UserError
from kdsr.experiment import Training, read_experiment, rules
from kdsr.lifecycle.saving import FOR_INSPECTION, save_checkpoint, training_state
from kdsr.models.compiling import compile_for_training
from kdsr.models.validation import validate
from kdsr.models.watching import GRADIENT, SCALE, NumberWatch, collapsed, gradient_norm, norms_by_term


def _means(parts: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Return the mean of each value over the parts of a batch."""
    return parts[0] if len(parts) == 1 else {n: torch.stack([part[n] for part in parts]).mean() for n in parts[0]}


@MODEL_REGISTRY.register()
class StudentModel(SRModel):
    """BasicSR's SRModel with the same files, logs and losses, and what small networks need besides.

    `color: y` trains a network of one channel on the luminance of RGB images, and writes colour images when it
    validates. Batches may be uint8. Validation takes images of any size (padded to the network's window; with
    `val.quadrants` in four parts), and its metrics do not hold up the network. Files are written whole or not at all.

    What makes a step faster or smaller is off unless `train` asks for it, and then the step is SRModel's, bit by bit:
    `amp` and `channels_last` for the network (losses, weights and validation stay in single precision), `compile`,
    `accumulate`, and `clip_grad_norm`.

    Subclasses give other terms to :meth:`loss_terms`, remember more in :meth:`checkpoint_extras`, or are shown
    something else than the low-quality image (:meth:`shown`).

    Args:
        opt: All options, as BasicSR's pipeline parses them.

    Raises:
        UserError: several GPUs in one process, which BasicSR would run with DataParallel; a network of three channels
            with `color: y`.
    """

    lq: Tensor
    gt: Tensor
    net_g: nn.Module
    opt: dict[str, Any]
    teacher_images: Tensor | None = None
    code: Tensor | None = None
    in_quadrants = False

    def __init__(self, opt: dict[str, Any]) -> None:
        if not opt['dist'] and opt['num_gpu'] > 1:
            raise UserError(
                f'`num_gpu: {opt["num_gpu"]}` without a launcher would use DataParallel, whose copies of a network '
                "overwrite each other's features. Start one process a GPU: torchrun --nproc_per_node="
                f'{opt["num_gpu"]} kdsr/train.py -opt FILE --launcher pytorch; or use one GPU: --force_yml num_gpu=1'
            )
        options.check_values(opt)
        self.experiment = read_experiment(opt)
        training = self.experiment.training if opt['is_train'] else Training()
        rules.enforce(rules.channel_problems(self.experiment))
        rules.enforce(rules.step_problems(self.experiment) if opt['is_train'] else ())
        check_arguments(ARCH_REGISTRY, 'network_g', opt['network_g'])
        self.luminance = self.experiment.luminance
        self._shown, self._multiple = self.experiment.trained.shown, self.experiment.trained.multiple
        self.chroma_source: Tensor | None = None
        self.measured: dict[str, Tensor] = {}  # of the last step: logged, not minimised
        self.precision = training.amp
        self.channels_last = training.channels_last
        self.accumulate = training.accumulate
        self.clip_grad_norm = training.clip_grad_norm
        self._to_compile = training.compile
        self.skip_nonfinite, self.skipped = training.skip_nonfinite, 0
        self.watch = NumberWatch()
        self._averaged: tuple[list[Tensor], list[Tensor]] | None = None
        super().__init__(opt)

    def model_to_device(self, net: nn.Module) -> nn.Module:
        """Lay the weights out in memory before DistributedDataParallel, if any, learns how they lie."""
        return super().model_to_device(lay_out(net, self.channels_last))

    def init_training_settings(self) -> None:
        """Let SRModel build EMA, losses, optimiser and schedulers."""
        super().init_training_settings()
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.precision == 'fp16')
        if self.ema_decay > 0:
            lay_out(self.net_g_ema, self.channels_last)

    def feed_data(self, data: dict[str, Any]) -> None:
        """Take a batch of float images in [0, 1], or of uint8 images."""
        if hasattr(self, 'gt'):  # of another batch; this one may have none
            del self.gt
        super().feed_data({key: data[key] for key in ('lq', 'gt') if key in data})
        self.teacher_images = data['teacher'].to(self.device).float().div_(255) if 'teacher' in data else None
        self.code = data['code'].to(self.device) if 'code' in data else None
        self.chroma_source = None
        for name in ('lq', 'gt') if 'gt' in data else ('lq',):
            image = getattr(self, name)
            if image.dtype == torch.uint8:
                image = image.float().div_(255)
            if self.luminance and image.shape[1] == 3:
                if name == 'lq':
                    self.chroma_source = image
                image = rgb2ycbcr_pt(image, y_only=True)
            setattr(self, name, image)

    def example_batch(self, multiples: Mapping[str, int] | None = None) -> Batch:
        """Return a grey ramp of the training size, for dry runs.

        Args:
            multiples: See :func:`kdsr.experiment.rules.crop_problems`.

        Raises:
            UserError: the training size does not fit the scale or a network.
        """
        scale, crop = self.experiment.scale, self.experiment.training.crop
        if not crop:
            raise UserError('`datasets.train.gt_size` is missing: how large are the crops?')
        rules.enforce(rules.crop_problems(self.experiment, multiples))
        ramp = torch.linspace(0, 1, crop * crop, device=self.device).view(1, 1, crop, crop)
        gt = ramp.expand(2, self.experiment.channels, -1, -1).contiguous()
        lq = gt[..., ::scale, ::scale].contiguous()
        return Batch(lq, gt, teacher_images=gt, code=lq)

    def shown(self, batch: Batch) -> Tensor:
        """Return the network's input: the low-quality image, or what the table of model classes says instead."""
        return batch.shown(self._shown, type(self).__name__)

    def optimize_parameters(self, current_iter: int) -> None:
        """Take one training step on the batch that was fed, in `train.accumulate` parts."""
        self.optimizer_g.zero_grad()
        parts = Batch(self.lq, self.gt, self.teacher_images, self.code).split(self.accumulate)
        if current_iter == 1:
            self.look_at_terms(parts[0])
        if self._to_compile:
            self._compile(parts[0])
        logged = [self._backward(part, last=part is parts[-1]) for part in parts]
        self.after_backward()
        norm = self._gradient_norm()
        self._terms, self.measured = (_means(of_all_parts) for of_all_parts in zip(*logged))
        self.watch.note(current_iter, {**self._terms, **norm})
        if self._skips(current_iter, parts):
            return
        self.scaler.step(self.optimizer_g)
        self.scaler.update()
        if self.ema_decay > 0:
            self.model_ema(decay=self.ema_decay)

    def _gradient_norm(self) -> dict[str, Tensor]:
        """Clip the gradient if `train.clip_grad_norm` says so; return what tells whether it is finite.

        With fp16 single steps may have none: the scaler leaves them out. It is at its end when its scale collapses.
        """
        learnt = [p for group in self.optimizer_g.param_groups for p in group['params']]
        norm = None
        if self.clip_grad_norm is not None:
            self.scaler.unscale_(self.optimizer_g)
            norm = nn.utils.clip_grad_norm_(learnt, self.clip_grad_norm)
        if self.scaler.is_enabled():
            return {SCALE: collapsed(self.scaler.scale(torch.ones((), device=self.device)))}
        return {GRADIENT: gradient_norm(learnt) if norm is None else norm}

    def _skips(self, current_iter: int, parts: Sequence[Batch]) -> bool:
        """Stop the run when numbers are not finite, or say whether this step is left out (`train.skip_nonfinite`).

        Raises:
            UserError: they are not; it names the terms, and what was saved to look at.
        """
        bad = self.watch.first_bad(wait=self.skip_nonfinite > 0)
        if self.skip_nonfinite and self.opt['dist']:  # all processes leave out the same steps
            flag = torch.tensor(float(bad is not None), device=self.device)
            torch.distributed.all_reduce(flag)
            bad = (current_iter, ['the numbers of another process']) if bad is None and flag.item() else bad
        if bad is None:
            return False
        iteration, names = bad
        if iteration == current_iter and names == [GRADIENT]:
            names = [f'the gradient of {name}' for name in self._terms_without_gradient(parts)] or names
        if self.skipped >= self.skip_nonfinite:
            self._stop_for(iteration, names, current_iter)
        self.skipped += 1
        warnings.filterwarnings('ignore', 'Detected call of `lr_scheduler', UserWarning)  # where it is the first step
        get_root_logger().warning(
            f'iteration {iteration:,}: {", ".join(names)}: not finite. The step is left out '
            f'({self.skipped} of {self.skip_nonfinite}, `train.skip_nonfinite`).'
        )
        return not self.scaler.is_enabled()  # the scaler leaves it out itself, and becomes smaller

    def _terms_without_gradient(self, parts: Sequence[Batch]) -> list[str]:
        """Return the terms whose own gradient is not finite, running the batch once more."""
        learnt = [p for group in self.optimizer_g.param_groups for p in group['params']]
        with self.without_wrapper():
            found = [norms_by_term(self.loss_terms(part), learnt) for part in parts]
        return [name for name in found[0] if any(not math.isfinite(norms[name] or 0) for norms in found)]

    def _stop_for(self, iteration: int, names: Sequence[str], current_iter: int) -> None:
        """Save what the run is at for people to look at, and stop it."""
        label = f'{FOR_INSPECTION}_{iteration}'
        self.save_networks(label)
        state = os.path.join(self.opt['path']['training_states'], f'{label}.state')
        if self.opt['rank'] == 0:
            batch = {'lq': self.lq.cpu(), 'gt': self.gt.cpu()} if iteration == current_iter else {}
            save_checkpoint({**training_state(self, -1, current_iter), **batch}, state)
        lr = self.get_current_learning_rate()[0]
        cure = '`amp: bf16` does not overflow' if self.precision == 'fp16' else f'a lower learning rate (now {lr:.3g})'
        raise UserError(
            f'iteration {iteration:,}: {", ".join(names)}: not finite. Training stops; the last checkpoint before is '
            f'whole. To look at: net_g_{label}.pth and {state}, which --auto_resume does not take. What often helps: '
            f'{cure}, `train.clip_grad_norm`, or `train.skip_nonfinite: N`, which leaves out up to N such steps.'
        )

    @contextlib.contextmanager
    def without_wrapper(self) -> Iterator[None]:
        """Let `self.net_g` be the bare network: passes of one process alone must not wait for the others."""
        wrapped = self.net_g
        self.net_g = self.get_bare_model(wrapped)
        try:
            yield
        finally:
            self.net_g = wrapped

    def _backward(self, part: Batch, last: bool) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Add a part's share of the gradients of the whole batch; return its terms, detached, and measurements."""
        alone = self.opt['dist'] and not last  # processes exchange the sum of all parts
        with self.net_g.no_sync() if alone else contextlib.nullcontext():  # type: ignore[operator]
            terms = self.loss_terms(part)
            total = torch.stack(list(terms.values())).sum() / self.accumulate
            self.scaler.scale(total).backward()
        return {name: term.detach() for name, term in terms.items()}, self.measured

    def _compile(self, part: Batch) -> None:
        """Compile the network; here, where a batch of the training's size is at hand."""
        self._to_compile = False
        network = self.get_bare_model(self.net_g)
        compile_for_training(network, self.tapped(), partial(self.run, self.shown(part), network))

    def look_at_terms(self, part: Batch) -> None:
        """See on the first batch that every term is worth something, where there are several."""

    def tapped(self) -> Collection[nn.Module]:
        """Return the network's modules whose features are captured."""
        return ()

    def run(self, image: Tensor, network: nn.Module | None = None) -> Tensor:
        """Run the network in training as `train.amp` and `train.channels_last` say.

        Args:
            image: What it is shown, (N, C, h, w).
            network: The bare network where the wrapper of a distributed run must not be called.

        Returns:
            (N, C', S*h, S*w), in single precision.
        """
        with autocast(self.device, self.precision):
            output = (self.net_g if network is None else network)(laid_out(image, self.channels_last))
        return at_least_float32(output.contiguous() if self.channels_last else output)

    def loss_terms(self, batch: Batch) -> dict[str, Tensor]:
        """Run the network on a batch, or a part; return what is to be minimised, by its name in the log (`l_*`)."""
        self.output = self.run(self.shown(batch))
        return self.image_terms(self.output, batch.gt)

    def image_terms(self, image: Tensor, gt: Tensor | None) -> dict[str, Tensor]:
        """Return SRModel's own losses of an image under SRModel's own names."""
        terms = {}
        if self.cri_pix:
            terms['l_pix'] = self.cri_pix(image, gt)
        if self.cri_perceptual:
            parts = zip(('l_percep', 'l_style'), self.cri_perceptual(image, gt))
            terms.update({name: part for name, part in parts if part is not None})
        return terms

    def model_ema(self, decay: float = 0.999) -> None:
        """Move the averaged weights towards the network's: BasicSR's numbers, in two calls for all tensors."""
        if self._averaged is None:
            own = dict(self.get_bare_model(self.net_g).named_parameters())
            averages = dict(self.net_g_ema.named_parameters())
            self._averaged = list(averages.values()), [own[name] for name in averages]
        averaged, current = self._averaged
        with torch.no_grad():
            torch._foreach_mul_(averaged, decay)
            torch._foreach_add_(averaged, current, alpha=1 - decay)

    def after_backward(self) -> None:
        """Complete the gradients that DistributedDataParallel does not know of."""

    def get_current_log(self) -> dict[str, float]:
        """Return the last step's losses and measurements; only here does the step wait for the device."""
        self.log_dict = self.reduce_loss_dict({**self._terms, **self.measured})
        return self.log_dict

    def test(self) -> None:
        """Run the network on an image of any size, padded to its window; with `val.quadrants` in four parts (SAN)."""
        network: nn.Module = getattr(self, 'net_g_ema', self.net_g)
        network.eval()
        with torch.no_grad():
            padded = partial(run_padded, network, multiple=self.window())
            image = self.shown(Batch(self.lq, getattr(self, 'gt', None), self.teacher_images))
            self.output = run_in_quadrants(padded, image) if self.in_quadrants else padded(image)
        if network is self.net_g:
            network.train(self.is_train)

    def window(self) -> int:
        """Return the multiple that the sides of the network's input must have."""
        return self._multiple

    def nondist_validation(self, dataloader: Any, current_iter: int, tb_logger: Any, save_img: bool) -> None:
        """Validate on one set, see `kdsr.models.validation`; `val.quadrants` may name the sets that it is for."""
        chosen = self.opt['val'].get('quadrants', False)
        self.in_quadrants = dataloader.dataset.opt['name'] in chosen if isinstance(chosen, list) else bool(chosen)
        validate(self, dataloader, current_iter, tb_logger, save_img)

    def checkpoint_extras(self) -> dict[str, Any]:
        """Return plain values to store beside the weights."""
        return {}

    def save(self, epoch: int, current_iter: int) -> None:
        """Save what is learnt, then the training state, which marks a complete checkpoint."""
        bad = self.watch.first_bad(wait=True)  # of steps whose numbers are still on their way
        if bad is not None and self.skipped >= self.skip_nonfinite:
            self._stop_for(*bad, current_iter)
        self.save_networks(current_iter)
        self.save_training_state(epoch, current_iter)

    def save_networks(self, label: int | str) -> None:
        """Save what is learnt as `net_*_<label>.pth`; -1 stands for `latest`."""
        averaged = getattr(self, 'net_g_ema', None)
        if averaged is None:
            self.save_network(self.net_g, 'net_g', label)
        else:
            self.save_network([self.net_g, averaged], 'net_g', label, param_key=['params', 'params_ema'])

    def keep_if_best(self, set_name: str, current_iter: int) -> None:
        """Save `net_g_best.pth` after a validation: by the first metric on the first validation set."""
        first = next(d['name'] for phase, d in self.opt['datasets'].items() if phase.split('_')[0] == 'val')
        metric = next(iter(self.opt['val']['metrics']))
        if set_name == first and self.best_metric_results[set_name][metric]['iter'] == current_iter:
            self.save_networks('best')

    def state_extras(self) -> dict[str, Any]:
        """Return what the training state holds besides BasicSR's: the scale of `amp: fp16`, and the steps left out."""
        extras: dict[str, Any] = {'scaler': self.scaler.state_dict()} if self.scaler.is_enabled() else {}
        return {**extras, 'skipped': self.skipped} if self.skipped else extras

    def resume_training(self, resume_state: dict[str, Any]) -> None:
        """Restore what was saved; a state of BasicSR, or of another `amp` or `channels_last`, fits too."""
        super().resume_training(resume_state)
        self.skipped = resume_state.get('skipped', 0)
        if 'scaler' in resume_state:
            self.scaler.load_state_dict(resume_state['scaler'])
        for parameter, state in self.optimizer_g.state.items():  # fused optimisers walk both in the order of memory
            for key, value in state.items():
                if isinstance(value, Tensor) and value.shape == parameter.shape:
                    state[key] = torch.empty_like(parameter).copy_(value)
