"""How kdsr's models save their networks."""

from __future__ import annotations

import os
from typing import Any

from basicsr.models.sr_model import SRModel
from basicsr.utils.dist_util import master_only
from basicsr.utils.registry import ARCH_REGISTRY
from torch import nn

from kdsr.distillation.building import check_arguments
from kdsr.distillation.checkpoint import save_checkpoint
from kdsr.errors import UserError


class CheckpointedSRModel(SRModel):
    """BasicSR's SRModel, saving the same files whole or not at all, with room for what a method must remember.

    Args:
        opt: All options, as BasicSR's pipeline parses them.

    Raises:
        UserError: several GPUs in one process, which BasicSR would run with DataParallel.
    """

    def __init__(self, opt: dict[str, Any]) -> None:
        if not opt['dist'] and opt['num_gpu'] > 1:
            raise UserError(
                f'`num_gpu: {opt["num_gpu"]}` without a launcher would use DataParallel, whose copies of a network '
                "overwrite each other's features. Start one process a GPU: torchrun --nproc_per_node="
                f'{opt["num_gpu"]} kdsr/train.py -opt FILE --launcher pytorch; or use one GPU: --force_yml num_gpu=1'
            )
        check_arguments(ARCH_REGISTRY, 'network_g', opt['network_g'])
        super().__init__(opt)

    def checkpoint_extras(self) -> dict[str, Any]:
        """Return plain values to store beside the weights."""
        return {}

    @master_only
    def save_network(
        self,
        net: nn.Module | list[nn.Module],
        net_label: str,
        current_iter: int,
        param_key: str | list[str] = 'params',
    ) -> None:
        """Write ``{param_key: weights, **extras}`` to `<net_label>_<iter>.pth`, as BasicSR does, but atomically."""
        nets = net if isinstance(net, list) else [net]
        keys = param_key if isinstance(param_key, list) else [param_key]
        weights = {
            key: {name: tensor.detach().cpu() for name, tensor in self.get_bare_model(one).state_dict().items()}
            for key, one in zip(keys, nets)
        }
        label = 'latest' if current_iter == -1 else current_iter
        path = os.path.join(self.opt['path']['models'], f'{net_label}_{label}.pth')
        save_checkpoint({**weights, **self.checkpoint_extras()}, path)
