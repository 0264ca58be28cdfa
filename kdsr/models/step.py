"""One training step: forward and backward passes of a batch in parts, the optimiser, the averaged weights."""

from __future__ import annotations

import contextlib
from collections.abc import Collection
from functools import partial

import torch
from torch import Tensor, nn

from kdsr.distillation.outputs import Batch
from kdsr.distillation.precision import set_memory_format
from kdsr.models.averaging import Averages, pair_averages
from kdsr.models.compiling import compile_for_training
from kdsr.models.student_pass import mean_of_parts
from kdsr.models.validated import ValidatedModel
from kdsr.models.watching import GRADIENT, SCALE, collapsed, gradient_norm


class SteppingModel(ValidatedModel):
    """The order of one training step, and the methods by which subclasses fill it."""

    _averaged: Averages | None = None

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
        self._terms, self.measured = (mean_of_parts(of_all_parts) for of_all_parts in zip(*logged))
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

    def model_ema(self, decay: float = 0.999) -> None:
        """Move the averaged weights towards the network's: BasicSR's numbers, in two calls for all tensors.

        BasicSR leaves buffers as they were at the start, so that a network with BatchNorm is validated and saved with
        statistics of nothing. Its running statistics are averaged like weights; other buffers are copied.
        """
        if self._averaged is None:
            self._averaged = pair_averages(self.net_g_ema, self.get_bare_model(self.net_g))
        averaged, current, copies, originals = self._averaged
        with torch.no_grad():
            torch._foreach_mul_(averaged, decay)
            torch._foreach_add_(averaged, current, alpha=1 - decay)
            for copied, original in zip(copies, originals):
                copied.copy_(original)

    def get_current_log(self) -> dict[str, float]:
        """Return the last step's losses and measurements; only here does the step wait for the device."""
        self.log_dict = self.reduce_loss_dict({**self._terms, **self.measured})
        return self.log_dict

    # Saving.

    def save(self, epoch: int, current_iter: int) -> None:
        """Save the networks, then the training state, unless the numbers of a step before were not finite."""
        self.guard.refuse_late(self, current_iter)
        self.save_networks(current_iter)
        self.save_training_state(epoch, current_iter)  # marks a complete checkpoint
