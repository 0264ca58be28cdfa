"""torch.compile for a network in training, with its taps still working."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Iterator
from typing import Any

import torch
from basicsr.utils import get_root_logger
from torch import Tensor, nn

from kdsr.wording import counted


def compile_for_training(network: nn.Module, tapped: Collection[nn.Module], run: Callable[[], Tensor]) -> bool:
    """Compile `network` in place for passes with gradients; passes without them (validation) stay as they are.

    What is compiled are the largest parts that have no tapped module inside, so that hooks run outside of compiled
    code; the network as a whole when nothing is tapped. Its parameters and their names do not change. One forward and
    backward pass on a real batch shows whether it works; when not, everything is put back and the log says why.

    Args:
        network: The bare network, in training mode.
        tapped: The modules whose output or input is captured by hooks.
        run: Calls the network on a batch of the training's size and returns a tensor with its graph.

    Returns:
        Whether the network is compiled now.
    """
    parts = list(dict.fromkeys(_iterate_parts(network, set(tapped))))  # each once, also where one is used twice
    try:
        for part in parts:
            part.forward = _with_gradients(torch.compile(part.forward), part.forward)
        _try(network, run)
    except Exception as error:  # compilers fail in their own many ways
        for part in parts:
            part.__dict__.pop('forward', None)
        reason = str(error).strip().split('\n')[0]
        get_root_logger().warning(
            f'`train.compile`: torch.compile does not work here ({type(error).__name__}: {reason}). '
            'The run goes on without it.'
        )
        return False
    get_root_logger().info(f'`train.compile`: {counted(len(parts), "part")} of {type(network).__name__} compiled.')
    return True


def _iterate_parts(module: nn.Module, tapped: set[nn.Module]) -> Iterator[nn.Module]:
    """Yield the largest modules that hold no tapped module, except layers that stand alone."""
    inside = any(other in tapped for other in module.modules() if other is not module)
    if inside or isinstance(module, (nn.ModuleList, nn.ModuleDict)):  # lists are never called themselves
        for child in module.children():
            yield from _iterate_parts(child, tapped)
    elif any(True for _ in module.children()):
        yield module


def _with_gradients(compiled: Callable[..., Any], plain: Callable[..., Any]) -> Callable[..., Any]:
    def forward(*args: Any, **kwargs: Any) -> Any:
        return (compiled if torch.is_grad_enabled() else plain)(*args, **kwargs)

    return forward


def _try(network: nn.Module, run: Callable[[], Tensor]) -> None:
    """Run forward and backward, leaving buffers, gradients and random numbers as they are."""
    buffers = {name: buffer.clone() for name, buffer in network.named_buffers()}
    device = next(network.parameters()).device
    devices = [device] if device.type == 'cuda' else []
    with torch.random.fork_rng(devices=devices), warnings.catch_warnings():
        warnings.filterwarnings('ignore', 'The .grad attribute', UserWarning)  # the compiler looks at it, to no harm
        output = run()
        wanted = [p for p in network.parameters() if p.requires_grad]
        torch.autograd.grad(output.float().mean(), wanted, allow_unused=True)
    for name, buffer in network.named_buffers():
        buffer.copy_(buffers[name])
