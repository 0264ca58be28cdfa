"""Saving and resuming a model: the same files as BasicSR's SRModel, with room for more."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from kdsr.models.student_pass import StudentPass


class SavedModel(StudentPass):
    """SRModel whose subclasses can remember more in checkpoints and training states."""

    def checkpoint_extras(self) -> dict[str, Any]:
        """Return plain values to store beside the weights."""
        return {}

    def state_extras(self) -> dict[str, Any]:
        """Return the scale of `amp: fp16`, and the number of steps left out, for the training state."""
        scaler = {'scaler': self.scaler.state_dict()} if self.scaler.is_enabled() else {}
        return {**scaler, **self.guard.state()}

    def save_networks(self, label: int | str) -> None:
        """Save the networks as `net_*_<label>.pth`; -1 stands for `latest`."""
        self.save_student(label)

    def save_student(self, label: int | str) -> None:
        """Save `net_g` and its averaged weights, if any."""
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

    def resume_training(self, resume_state: dict[str, Any]) -> None:
        """Restore what was saved; a state of BasicSR, or of another `amp` or `channels_last`, fits too."""
        super().resume_training(resume_state)
        for parameter, state in self.optimizer_g.state.items():  # fused optimisers walk both in the order of memory
            for key, value in state.items():
                if isinstance(value, Tensor) and value.shape == parameter.shape:
                    state[key] = torch.empty_like(parameter).copy_(value)
        self.guard.restore(resume_state)
        if 'scaler' in resume_state:
            self.scaler.load_state_dict(resume_state['scaler'])
