"""One training step: forward and backward passes of a batch in parts, the optimiser, the averaged weights."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from kdsr.distillation.outputs import Batch
from kdsr.distillation.precision import at_least_float32, autocast, set_memory_format, to_memory_format
from kdsr.experiment import Training
from kdsr.models.compiling import compile_for_training
from kdsr.models.number_guard import NumberGuard
from kdsr.models.validated import ValidatedModel
from kdsr.models.watching import GRADIENT, SCALE, collapsed, gradient_norm


class SteppingModel(ValidatedModel):
    """The order of one training step, and the methods by which subclasses fill it.

    Attributes:
        output: Image of the last pass through the network.
        measured: What the last step measured and did not minimise, by its name in the log.
        precision: 'bf16' or 'fp16' for the network's pass in training; None for single precision.
        guard: Checks the numbers of every step.
    """

    output: Tensor

    def __init__(self, opt: dict[str, Any]) -> None:
        training = self.experiment.training if opt['is_train'] else Training()
        self.precision, self.channels_last = training.amp, training.channels_last
        self.accumulate, self.clip_grad_norm = training.accumulate, training.clip_grad_norm
        self.guard = NumberGuard(training.skip_nonfinite)
        self.measured: dict[str, Tensor] = {}
        self._to_compile = training.compile
        self._averaged: tuple[list[Tensor], list[Tensor]] | None = None
        super().__init__(opt)

    def model_to_device(self, net: nn.Module) -> nn.Module:
        """Lay the weights out in memory before DistributedDataParallel, if any, learns how they lie."""
        return super().model_to_device(set_memory_format(net, self.channels_last))

    def init_training_settings(self) -> None:
        """Let SRModel build EMA, losses, optimiser and schedulers."""
        super().init_training_settings()
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.precision == 'fp16')
        if self.ema_decay > 0:
            set_memory_format(self.net_g_ema, self.channels_last)

    # Subclasses override these.

    def loss_terms(self, batch: Batch) -> dict[str, Tensor]:
        """Run the network on a batch, or a part; return the terms to minimise, by their names in the log (`l_*`)."""
        self.output = self.run(self.network_input(batch))
        return self.image_terms(self.output, batch.gt)

    def check_terms(self, part: Batch) -> None:
        """Check on the first batch that every term reaches the network, where there are several."""

    def tapped(self) -> Collection[nn.Module]:
        """Return the network's modules whose features are captured."""
        return ()

    def after_backward(self) -> None:
        """Complete the gradients that DistributedDataParallel does not know of."""

    # The step.

    def optimize_parameters(self, current_iter: int) -> None:
        """Take one training step on the batch that was fed, in `train.accumulate` parts."""
        self.optimizer_g.zero_grad()
        parts = self.batch().split(self.accumulate)
        if current_iter == 1:
            self.check_terms(parts[0])
        if self._to_compile:
            self._compile(parts[0])
        logged = [self._backward(part, last=part is parts[-1]) for part in parts]
        self.after_backward()
        norm = self._gradient_norm()
        self._terms, self.measured = (_means(of_all_parts) for of_all_parts in zip(*logged))
        self.guard.note(current_iter, {**self._terms, **norm})
        if self.guard.skips(self, current_iter, parts):
            return
        self.scaler.step(self.optimizer_g)
        self.scaler.update()
        if self.ema_decay > 0:
            self.model_ema(decay=self.ema_decay)

    def _backward(self, part: Batch, last: bool) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Add a part's share of the gradients of the whole batch; return its terms, detached, and measurements."""
        alone = self.opt['dist'] and not last  # processes exchange the sum of all parts
        with self.net_g.no_sync() if alone else contextlib.nullcontext():  # type: ignore[operator]
            terms = self.loss_terms(part)
            total = torch.stack(list(terms.values())).sum() / self.accumulate
            self.scaler.scale(total).backward()
        return {name: term.detach() for name, term in terms.items()}, self.measured

    def _gradient_norm(self) -> dict[str, Tensor]:
        """Clip the gradient if `train.clip_grad_norm` says so; return the number that shows whether it is finite.

        With fp16 the gradient of single steps may not be finite: the scaler leaves these out. Training is at its end
        when the scale collapses.
        """
        norm = None
        if self.clip_grad_norm is not None:
            self.scaler.unscale_(self.optimizer_g)
            norm = nn.utils.clip_grad_norm_(self.learnt(), self.clip_grad_norm)
        if self.scaler.is_enabled():
            return {SCALE: collapsed(self.scaler.scale(torch.ones((), device=self.device)))}
        return {GRADIENT: gradient_norm(self.learnt()) if norm is None else norm}

    def _compile(self, part: Batch) -> None:
        """Compile the network; here, where a batch of the training's size is at hand."""
        self._to_compile = False
        network = self.get_bare_model(self.net_g)
        compile_for_training(network, self.tapped(), partial(self.run, self.network_input(part), network))

    # Parts of the step that subclasses use.

    def run(self, image: Tensor, network: nn.Module | None = None) -> Tensor:
        """Run the network in training as `train.amp` and `train.channels_last` say.

        Args:
            image: Its input, (N, C, h, w).
            network: The bare network where the wrapper of a distributed run must not be called.

        Returns:
            (N, C', S*h, S*w), in single precision.
        """
        with autocast(self.device, self.precision):
            output = (self.net_g if network is None else network)(to_memory_format(image, self.channels_last))
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
        """Return all parameters that the optimiser changes."""
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

    def get_current_log(self) -> dict[str, float]:
        """Return the last step's losses and measurements; only here does the step wait for the device."""
        self.log_dict = self.reduce_loss_dict({**self._terms, **self.measured})
        return self.log_dict

    # Saving.

    def save(self, epoch: int, current_iter: int) -> None:
        """Save the model, unless the numbers of a step before were not finite."""
        self.guard.refuse_late(self, current_iter)
        super().save(epoch, current_iter)

    def state_extras(self) -> dict[str, Any]:
        """Return the scale of `amp: fp16`, and the number of steps left out."""
        scaler = {'scaler': self.scaler.state_dict()} if self.scaler.is_enabled() else {}
        return {**scaler, **self.guard.state()}

    def resume_training(self, resume_state: dict[str, Any]) -> None:
        """Restore what was saved; a state of another `amp` fits too."""
        super().resume_training(resume_state)
        self.guard.restore(resume_state)
        if 'scaler' in resume_state:
            self.scaler.load_state_dict(resume_state['scaler'])


def _means(parts: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Return the mean of each value over the parts of a batch."""
    return parts[0] if len(parts) == 1 else {n: torch.stack([part[n] for part in parts]).mean() for n in parts[0]}
