"""Distributed runs on a CPU, and on nodes of which not every GPU is used."""

from __future__ import annotations

import atexit
import contextlib
import os
import re
import socket
from collections.abc import Iterator
from typing import Any

import torch
from basicsr.models.base_model import BaseModel
from basicsr.utils.dist_util import init_dist as basicsr_init_dist
from torch.nn.parallel import DistributedDataParallel

from kdsr.compat.option_files import settings
from kdsr.errors import UserError

basicsr_model_to_device = BaseModel.model_to_device


def init_dist(launcher: str, backend: str = 'nccl', **kwargs: Any) -> None:
    """Start the process group: gloo on a CPU, and on GPUs with the process bound to its local GPU.

    BasicSR divides by the number of GPUs and picks the GPU by the global rank, which is wrong on nodes that are not
    full. It never leaves the process group, so a process that is done first may abort at its exit.

    Raises:
        UserError: the port on which the processes meet is taken.
    """
    try:
        if torch.cuda.device_count() > 0 and not settings['cpu']:
            basicsr_init_dist(launcher, backend, **kwargs)
            torch.cuda.set_device(int(os.environ['LOCAL_RANK']) % torch.cuda.device_count())
        else:
            with _one_pretended_gpu():
                basicsr_init_dist(launcher, 'gloo', **kwargs)
    except RuntimeError as error:
        port = int(os.environ.get('MASTER_PORT', 29500))
        if not _is_taken(port):
            raise
        raise UserError(
            f'port {port} on this machine is taken, perhaps by another distributed run. Choose another: '
            '`torchrun --master_port=29501 ...`, or MASTER_PORT=29501 in the environment.'
        ) from error
    atexit.register(_leave_process_group)


def _is_taken(port: int) -> bool:
    """Return whether another process listens at a port of this machine."""
    with socket.socket() as probe:
        try:
            probe.bind(('', port))
        except OSError:
            return True
    return False


def _leave_process_group() -> None:
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


@contextlib.contextmanager
def _one_pretended_gpu() -> Iterator[None]:
    count, select = torch.cuda.device_count, torch.cuda.set_device
    torch.cuda.device_count, torch.cuda.set_device = lambda: 1, lambda device: None
    try:
        yield
    finally:
        torch.cuda.device_count, torch.cuda.set_device = count, select


def model_to_device(self: Any, net: Any) -> Any:
    """Wrap a network in DistributedDataParallel on a CPU too; BasicSR always passes a CUDA device."""
    if not self.opt['dist']:
        return basicsr_model_to_device(self, net)
    on_gpu = self.device.type != 'cpu'
    return ParallelNetwork(
        net.to(self.device),
        device_ids=[torch.cuda.current_device()] if on_gpu else None,
        find_unused_parameters=self.opt.get('find_unused_parameters', False),
    )


class ParallelNetwork(DistributedDataParallel):
    """DistributedDataParallel that names the layers without gradient where it would stop."""

    def forward(self, *inputs: Any, **kwargs: Any) -> Any:
        """Run the network.

        Raises:
            UserError: some parameters got no gradient in the step before; PyTorch says their numbers only.
        """
        try:
            return super().forward(*inputs, **kwargs)
        except RuntimeError as error:
            if 'find_unused_parameters' not in str(error):
                raise
            raise UserError(self._describe_unused(str(error))) from error

    def _describe_unused(self, text: str) -> str:
        names = [name for name, parameter in self.module.named_parameters() if parameter.requires_grad]
        found = re.search(r'did not receive grad for rank \d+: ((?:\d+ ?)+)', text)
        unused = [names[int(index)] for index in found[1].split()] if found else []
        shown = f': {", ".join(unused[:3])}{", ..." if len(unused) > 3 else ""}' if unused else ''
        return (
            f'{type(self.module).__name__} has {len(unused) or "some"} parameters that get no gradient{shown}. '
            'DistributedDataParallel waits for all of them: write `find_unused_parameters: true` at the top of the '
            'option file, or freeze or leave out what the loss does not reach.'
        )
