"""Saving and resuming a model: the same files as BasicSR's SRModel, with room for more."""

from __future__ import annotations

from typing import Any

import torch
from basicsr.models.sr_model import SRModel
from torch import Tensor, nn


class SavedModel(SRModel):
    """SRModel whose subclasses can remember more in checkpoints and training states."""

    opt: dict[str, Any]
    net_g: nn.Module

    def checkpoint_extras(self) -> dict[str, Any]:
        """Return plain values to store beside the weights."""
        return {}

    def state_extras(self) -> dict[str, Any]:
        """Return plain values to store in the training state besides BasicSR's."""
        return {}

    def save(self, epoch: int, current_iter: int) -> None:
        """Save the networks, then the training state, which marks a complete checkpoint."""
        self.save_networks(current_iter)
        self.save_training_state(epoch, current_iter)

    def save_networks(self, label: int | str) -> None:
        """Save the networks as `net_*_<label>.pth`; -1 stands for `latest`."""
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
        """Restore what was saved; a state of BasicSR, or of another `channels_last`, fits too."""
        super().resume_training(resume_state)
        for parameter, state in self.optimizer_g.state.items():  # fused optimisers walk both in the order of memory
            for key, value in state.items():
                if isinstance(value, Tensor) and value.shape == parameter.shape:
                    state[key] = torch.empty_like(parameter).copy_(value)
