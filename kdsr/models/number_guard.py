"""Stops a training whose numbers are not finite, or leaves out single steps (`train.skip_nonfinite`)."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import torch
from basicsr.utils import get_root_logger
from torch import Tensor

from kdsr.distillation.outputs import Batch
from kdsr.errors import UserError
from kdsr.lifecycle.saving import FOR_INSPECTION, save_checkpoint, training_state
from kdsr.models.broken_inputs import find_broken_inputs
from kdsr.models.watching import GRADIENT, NumberWatch, norms_by_term

if TYPE_CHECKING:
    from kdsr.models.step import SteppingModel


class NumberGuard:
    """Checks the losses and the gradient of every step.

    Args:
        limit: Steps that may be left out.

    Attributes:
        skipped: Steps that were left out.
    """

    def __init__(self, limit: int) -> None:
        self.limit, self.skipped = limit, 0
        self._watch = NumberWatch()

    def note(self, iteration: int, numbers: Mapping[str, Tensor]) -> None:
        """Take the 0-dim tensors of a step, without waiting for the device."""
        self._watch.note(iteration, numbers)

    def skips(self, model: SteppingModel, iteration: int, parts: Sequence[Batch]) -> bool:
        """Stop the run when numbers are not finite, or say whether this step is left out.

        Args:
            model: After its backward passes.
            iteration: Of the step.
            parts: Of its batch.

        Raises:
            UserError: they are not finite, and no more steps may be left out. It names the terms, and what was saved
                for inspection.
        """
        bad = self._watch.first_bad(wait=self.limit > 0)
        if self.limit and model.opt['dist']:  # all processes leave out the same steps
            flag = torch.tensor(float(bad is not None), device=model.device)
            torch.distributed.all_reduce(flag)
            bad = (iteration, ['the numbers of another process']) if bad is None and flag.item() else bad
        if bad is None:
            return False
        bad_iteration, names = bad
        if bad_iteration == iteration and names == [GRADIENT]:
            names = [f'the gradient of {name}' for name in _terms_without_gradient(model, parts)] or names
        if self.skipped >= self.limit:
            _stop_for(model, bad_iteration, names, iteration, find_broken_inputs(model, parts))
        self.skipped += 1
        warnings.filterwarnings('ignore', 'Detected call of `lr_scheduler', UserWarning)  # where it is the first step
        get_root_logger().warning(
            f'iteration {bad_iteration:,}: {", ".join(names)}: not finite. The step is left out '
            f'({self.skipped} of {self.limit}, `train.skip_nonfinite`).'
        )
        return not model.scaler.is_enabled()  # the scaler leaves it out itself, and becomes smaller

    def refuse_late(self, model: SteppingModel, iteration: int) -> None:
        """Wait for the numbers of all steps, before the model is saved.

        Raises:
            UserError: see :meth:`skips`.
        """
        bad = self._watch.first_bad(wait=True)
        if bad is not None and self.skipped >= self.limit:
            _stop_for(model, *bad, iteration, find_broken_inputs(model, [model.batch()]))

    def state(self) -> dict[str, Any]:
        """Return the entries of this object in a training state."""
        return {'skipped': self.skipped} if self.skipped else {}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a training state."""
        self.skipped = state.get('skipped', 0)


def _terms_without_gradient(model: SteppingModel, parts: Sequence[Batch]) -> list[str]:
    """Return the terms whose own gradient is not finite, running the batch once more."""
    learnt = model.learnt()
    with model.without_wrapper():
        found = [norms_by_term(model.loss_terms(part), learnt) for part in parts]
    return [name for name in found[0] if any(not math.isfinite(norms[name] or 0) for norms in found)]


def _stop_for(
    model: SteppingModel, iteration: int, names: Sequence[str], current_iter: int, broken: Sequence[str]
) -> None:
    """Save weights and state for inspection, and stop the run. `broken` names what gave the network such numbers."""
    label = f'{FOR_INSPECTION}_{iteration}'
    model.save_networks(label)
    state = os.path.join(model.opt['path']['training_states'], f'{label}.state')
    if model.opt['rank'] == 0:
        batch = _on_cpu(model.batch()) if iteration == current_iter else {}
        save_checkpoint({**training_state(model, -1, current_iter), **batch}, state)
    if broken:
        one = len(broken) == 1
        raise UserError(
            f'iteration {iteration:,}: {", ".join(names)}: not finite, because {", ".join(broken)} '
            f'{"gives" if one else "give"} values that are not finite. Training stops; the last checkpoint before is '
            f'whole. Replace what is damaged; a teacher may also overflow in `precision: fp16`. To look at: {state}.'
        )
    lr = model.get_current_learning_rate()[0]
    cure = '`amp: bf16` does not overflow' if model.precision == 'fp16' else f'a lower learning rate (now {lr:.3g})'
    raise UserError(
        f'iteration {iteration:,}: {", ".join(names)}: not finite. Training stops; the last checkpoint before is '
        f'whole. To look at: net_g_{label}.pth and {state}, which --auto_resume does not take. What often helps: '
        f'{cure}, `train.clip_grad_norm`, or `train.skip_nonfinite: N`, which leaves out up to N such steps.'
    )


def _on_cpu(batch: Batch) -> dict[str, Tensor]:
    tensors = {f.name: getattr(batch, f.name) for f in fields(batch)}
    return {name: tensor.cpu() for name, tensor in tensors.items() if tensor is not None}
