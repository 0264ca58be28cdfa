"""The training step of any model class that derives from SRModel, with distillation added to its student's gradient."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from kdsr.distillation.outputs import Batch, NetworkOutput
from kdsr.distillation.precision import at_least_float32, autocast, set_memory_format, to_memory_format
from kdsr.errors import UserError
from kdsr.models.compiling import compile_for_training
from kdsr.models.distilling import Distilling
from kdsr.models.saving import SavedModel
from kdsr.models.student_pass import mean_of_parts
from kdsr.models.watching import GRADIENT, SCALE, collapsed, gradient_norm, vector_norm

DISCRIMINATOR_GRADIENT = 'the gradient of the discriminator'


class _Attach(torch.autograd.Function):
    """The identity on an image; its backward pass also starts that of a loss of this image."""

    @staticmethod
    def forward(ctx: Any, image: Tensor, loss: Tensor, step: _Step, scale: float) -> Tensor:
        """Return the image."""
        ctx.step, ctx.scale = step, scale
        return image.view_as(image)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None]:
        """Pass the image's gradient on, and begin the loss's own."""
        (gradient,) = gradients
        ctx.step.backwards += 1
        return gradient * ctx.scale if ctx.scale != 1 else gradient, gradient.new_tensor(ctx.scale), None, None


class _Step:
    """What happens in one call of the model's own `optimize_parameters`."""

    def __init__(self, iteration: int, batch: Batch, last: bool) -> None:
        self.iteration, self.batch, self.last = iteration, batch, last
        self.terms: dict[str, Tensor] = {}
        self.losses: dict[str, Tensor] = {}  # of the model class, since its last optimiser step
        self.measured: dict[str, Tensor] = {}
        self.backwards = 0
        self.teaches = False  # a pass of the student has begun to be compared; views run it again meanwhile
        self.left_out = False

    @property
    def reached(self) -> bool:
        """Whether the model has run its student."""
        return bool(self.terms)


class WrappedStep(Distilling, SavedModel):
    """A model class of BasicSR, or of another package, whose student also learns from teachers.

    The model class takes its own step: its losses, its discriminator, its data. Where that step calls `net_g`, the
    distillation losses of the output are computed, and the output remembers them: when the step runs backward through
    it, their gradient is added. Nothing else of the step changes, so `train.amp`, `channels_last`, `compile`,
    `accumulate`, `clip_grad_norm` and `skip_nonfinite` work as in
    :class:`~kdsr.models.student_model.StudentModel`; clipping is for the student, not for the discriminator.

    Validation and tests are those of the model class. Its images may have window sizes and tiles of their own.
    """

    _step: _Step | None = None

    def build_rest_of_model(self) -> None:
        """Let the model class build what it needs, then watch its optimisers."""
        super().build_rest_of_model()
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.precision == 'fp16')
        self.scaler.scale(torch.zeros((), device=self.device))  # it makes its scale when it is first used
        for name, loss in vars(self).items():
            if name.startswith('cri_') and isinstance(loss, nn.Module):
                loss.register_forward_hook(partial(self._note_loss, name))
        self._own_log: dict[str, float] = {}
        self._terms: dict[str, Tensor] = {}
        for optimizer in self.optimizers:
            optimizer.register_step_pre_hook(self._before_optimiser)
        if self.ema_decay > 0:
            set_memory_format(self.net_g_ema, self.channels_last)
        self._installed = False

    def feed_data(self, data: dict[str, Any]) -> None:
        """Take a batch of float images in [0, 1], or of uint8 images."""
        floats = {
            key: value.float().div_(255) if isinstance(value, Tensor) and value.dtype == torch.uint8 else value
            for key, value in data.items()
            if key != 'teacher'
        }
        before = dict(vars(self))
        super().feed_data(floats)
        self._fed = [n for n, v in vars(self).items() if isinstance(v, Tensor) and v is not before.get(n)]
        self.take_cached(data)

    # The step.

    def optimize_parameters(self, current_iter: int) -> None:
        """Take the step of the model class, in `train.accumulate` parts."""
        parts = self.batch().split(self.accumulate)
        if current_iter == 1:
            self.check_terms(parts[0])
        if not self._installed:
            self._install(parts[0])
        steps = []
        logs: list[dict[str, float]] = []
        for i, part in enumerate(parts):
            step = _Step(current_iter, part, last=part is parts[-1])
            with self._one_part(i, step):
                super().optimize_parameters(current_iter)
            self._check(step)
            steps.append(step)
            logs.append(self.log_dict)
        self._terms = mean_of_parts([step.terms for step in steps])
        self.measured = mean_of_parts([step.measured for step in steps])
        self._own_log = {name: sum(log[name] for log in logs) / len(logs) for name in logs[0]}

    def _install(self, part: Batch) -> None:
        """Compile the student if `train.compile` says so, and step in where the model runs it."""
        self._installed = True
        if self._to_compile:
            network: nn.Module = self.get_bare_model(self.net_g)
            image = self.network_input(part)
            compile_for_training(network, self.tap.modules, lambda: self.run(image, network))
        self.net_g.forward = self._attach_to(self.net_g.forward)

    def _attach_to(self, forward: Callable[..., Tensor]) -> Callable[..., Tensor]:
        """Return the student's forward pass with the distillation losses attached to its output in a step."""

        def run(image: Tensor, *args: Any, **kwargs: Any) -> Tensor:
            step = self._step
            if step is None or not torch.is_grad_enabled():
                return forward(image, *args, **kwargs)
            first, step.teaches = not step.teaches, True
            with self.tap if first else contextlib.nullcontext({}) as features, autocast(self.device, self.precision):
                output = forward(to_memory_format(image, self.channels_last), *args, **kwargs)
            output = at_least_float32(output.contiguous() if self.channels_last else output)
            if not first:  # of a view, or the model runs its student twice: one of the passes teaches
                return output
            with torch.random.fork_rng(devices=[self.device] if self.device.type == 'cuda' else []):
                terms = self.distillation_terms(NetworkOutput(output, features), step.batch)
            step.terms = {name: term.detach() for name, term in terms.items()}
            step.measured = self.measured
            total = torch.stack(list(terms.values())).sum()
            scale = self.scaler.get_scale() if self.scaler.is_enabled() else 1.0
            attached: Tensor = _Attach.apply(output, total, step, scale)
            return attached

        return run

    @contextlib.contextmanager
    def _one_part(self, number: int, step: _Step) -> Iterator[None]:
        """Let the model class see one part of the batch, keep the gradients before it, and step after the last."""
        whole = {name: getattr(self, name) for name in self._fed if hasattr(self, name)} if self.accumulate > 1 else {}
        count = len(self.lq)
        with contextlib.ExitStack() as stack:
            for name, tensor in whole.items():
                if not name.startswith('queue_') and len(tensor) == count:
                    stack.callback(setattr, self, name, tensor)
                    setattr(self, name, tensor.chunk(self.accumulate)[number])
            for optimizer in self.optimizers:
                stack.enter_context(_without(optimizer, 'zero_grad', number > 0))
                stack.enter_context(_without(optimizer, 'step', not step.last))
            for network in (self.net_g, getattr(self, 'net_d', None)) if self.opt['dist'] and not step.last else ():
                if network is not None:  # processes exchange the sum of all parts
                    stack.enter_context(network.no_sync())  # type: ignore[operator]
            self._step = step
            try:
                yield
            finally:
                self._step = None

    def _check(self, step: _Step) -> None:
        """Refuse a model class whose step does not do what the distillation needs.

        Raises:
            UserError: it did not run `net_g`, or ran backward through its output several times.
        """
        if not step.reached:
            raise UserError(
                f'{self._class_name()} does not call `net_g` in its training step, so nothing can be distilled into '
                'it. Use a model class that does, for example DistillationModel.'
            )
        if step.backwards > 1:
            raise UserError(
                f'{self._class_name()} runs backward {step.backwards} times through the output of `net_g` in one step: '
                'every time would add the gradient of the distillation losses. kdsr supports one backward pass.'
            )

    def _class_name(self) -> str:
        return self.experiment.model.name

    def _before_optimiser(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        """Complete the gradient of an optimiser, look at it, and clip that of the student."""
        step = self._step
        if step is None:
            return
        gradients = [p.grad for group in optimizer.param_groups for p in group['params'] if p.grad is not None]
        if not gradients:
            return
        if self.accumulate > 1:
            torch._foreach_div_(gradients, self.accumulate)
        numbers, step.losses = step.losses, {}
        if optimizer is self.optimizer_g:
            self.after_backward()
            numbers = {**numbers, **step.terms, **self._clipped_norm()}
        else:
            numbers[DISCRIMINATOR_GRADIENT] = vector_norm(gradients)
        self.guard.note(step.iteration, numbers)
        step.left_out = step.left_out or self.guard.skips(self, step.iteration, [step.batch])
        if step.left_out:
            optimizer.zero_grad(set_to_none=True)  # an optimiser leaves out what has no gradient
        if optimizer is self.optimizer_g and self.scaler.is_enabled():
            self.scaler.update()

    def _note_loss(self, name: str, module: nn.Module, args: Any, output: Any) -> None:
        """Take the value of a loss of the model class."""
        step = self._step
        if step is None:
            return
        for value in output if isinstance(output, tuple) else (output,):
            if isinstance(value, Tensor):
                step.losses[f'{name} {len(step.losses)}'] = value.detach().mean()

    def _clipped_norm(self) -> dict[str, Tensor]:
        """Undo the scale of fp16 and clip; return the number that shows whether the student's gradient is finite."""
        if self.scaler.is_enabled():
            self.scaler.unscale_(self.optimizer_g)
        learnt = self.learnt()
        if self.clip_grad_norm is None:
            norm = gradient_norm(learnt)
        else:
            norm = nn.utils.clip_grad_norm_(learnt, self.clip_grad_norm)
        if not self.scaler.is_enabled():
            return {GRADIENT: norm}
        if not torch.isfinite(norm):  # the scaler becomes smaller
            self.optimizer_g.zero_grad(set_to_none=True)
        return {SCALE: collapsed(self.scaler.scale(torch.ones((), device=self.device)))}

    def model_ema(self, decay: float = 0.999) -> None:
        """Move the averaged weights, after steps that were taken."""
        if self._step is None or (self._step.last and not self._step.left_out):
            super().model_ema(decay)

    def loss_terms(self, batch: Batch) -> dict[str, Tensor]:
        """Return the terms that a message about numbers that are not finite can name."""
        return self.own_terms(batch)

    def get_current_log(self) -> dict[str, float]:
        """Return the log of the model class, and the terms of the distillation."""
        ours = self.reduce_loss_dict({**self._terms, **self.measured})
        self.log_dict = {**self._own_log, **ours}
        return self.log_dict

    # Validation and saving.

    def nondist_validation(self, dataloader: Any, current_iter: int, tb_logger: Any, save_img: bool) -> None:
        """Validate as the model class does, and keep the best network."""
        super().nondist_validation(dataloader, current_iter, tb_logger, save_img)
        if self.is_train and self.opt['val'].get('metrics'):
            self.keep_if_best(dataloader.dataset.opt['name'], current_iter)

    def save(self, epoch: int, current_iter: int) -> None:
        """Save the helpers, then what the model class saves, unless the numbers before were not finite."""
        self.guard.refuse_late(self, current_iter)
        self.save_helpers(current_iter)
        super().save(epoch, current_iter)

    def save_networks(self, label: int | str) -> None:
        """Save helpers, discriminator and student as `net_*_<label>.pth`."""
        self.save_helpers(label)
        if hasattr(self, 'net_d'):
            self.save_network(self.net_d, 'net_d', label)
        self.save_student(label)


@contextlib.contextmanager
def _without(optimizer: Optimizer, method: str, off: bool) -> Iterator[None]:
    """Let a method of an optimiser do nothing."""
    if not off:
        yield
        return
    own = vars(optimizer).get(method)  # schedulers put their own `step` there
    setattr(optimizer, method, lambda *args, **kwargs: None)
    try:
        yield
    finally:
        if own is None:
            delattr(optimizer, method)
        else:
            setattr(optimizer, method, own)
