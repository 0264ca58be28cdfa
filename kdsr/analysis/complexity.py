"""What a network costs: parameters and multiply-adds, without computing anything."""

from __future__ import annotations

import contextlib
import copy
import inspect
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from kdsr import options, plugins
from kdsr.distillation.building import build_network_at
from kdsr.distillation.teacher import window_of
from kdsr.errors import UserError


@dataclass(frozen=True)
class Complexity:
    """One row of a table.

    Attributes:
        name: Of the network.
        parameters: All of them, frozen ones too.
        multi_adds: For one image, see :func:`multi_adds`.
    """

    name: str
    parameters: int
    multi_adds: int


def parameters(network: nn.Module) -> int:
    """Return how many parameters a network has, frozen and unused ones included, buffers not."""
    return sum(p.numel() for p in network.parameters())


def multi_adds(network: nn.Module, input_shape: Sequence[int]) -> int:
    """Return the multiply-adds of one forward pass: convolutions, linear layers, matrix products, attention.

    As the papers count: biases, activations, normalisation and interpolation are free, and a transposed convolution
    costs its kernel at each pixel of its OUTPUT. Shapes alone are computed (on torch's meta device), so that any size
    takes as long as building the network.

    Args:
        network: It is not changed.
        input_shape: (C, h, w).

    Raises:
        RuntimeError: the network's course depends on the values of its input.
    """
    network = _on_meta(network)
    counter = FlopCounterMode(display=False, custom_mapping=_FORMULAS)
    with torch.no_grad(), _autocast_on_meta(), counter:
        network(torch.empty(1, *input_shape, device='meta'))
    return counter.get_total_flops() // 2


def complexity(
    name: str,
    network_opt: Mapping[str, Any],
    output_size: tuple[int, int] = (720, 1280),
    input_shape: Sequence[int] | None = None,
) -> Complexity:
    """Build a network from its options and count.

    Args:
        name: For the table and for messages.
        network_opt: `type` and arguments, as in a YAML's `network_g`; `upscale` among them.
        output_size: (H, W) of the super-resolved image. The input's is the next lower whole number, so that x3 starts
            from 240x426 as in the papers; a network with windows is given the next higher multiple of them.
        input_shape: (C, h, w) instead, for a network whose input is no low-resolution image.

    Raises:
        UserError: the options do not fit the network.
    """
    network = build_network_at(name, network_opt)
    if input_shape is None:
        scale = int(network_opt.get('upscale') or getattr(network, 'upscale', None) or _default_scale(network))
        window = int(getattr(network, 'multiple', window_of(network_opt)))
        input_shape = (input_channels(network), *(-(-(side // scale) // window) * window for side in output_size))
    try:
        return Complexity(name, parameters(network), multi_adds(network, input_shape))
    except (RuntimeError, AssertionError, ValueError, TypeError) as error:
        raise UserError(f'{name} ({network_opt["type"]}) cannot be counted on {tuple(input_shape)}: {error}') from error


def _default_scale(network: nn.Module) -> int:
    parameter = inspect.signature(type(network).__init__).parameters.get('upscale')
    return parameter.default if parameter is not None and isinstance(parameter.default, int) else 1


def of_option_files(paths: Sequence[str], output_size: tuple[int, int] = (720, 1280)) -> list[Complexity]:
    """Count the student of each option file, and the teachers and aggregator that it names, each network once.

    Args:
        paths: Option files.
        output_size: (H, W) of the super-resolved image.
    """
    rows: dict[str, Complexity] = {}
    for path in paths:
        opt = options.load(path)
        plugins.import_named(opt.get('import_modules') or ())
        for name, network_opt, shown in _networks(path, opt):
            if name in rows:
                continue
            if not isinstance(network_opt, dict):
                raise UserError(f'{path}: {name} has no `network` with a `type:`.')
            shape = None
            if network_opt.get('type') == 'DCTSwin':  # its input is the teachers' images
                shape = (3 * network_opt.get('num_teachers', 3), *output_size)
            elif shown == 'gt':
                shape = (input_channels(build_network_at(name, network_opt)), *output_size)
            rows[name] = complexity(name, network_opt, output_size, shape)
    return list(rows.values())


def _networks(path: str, opt: Mapping[str, Any]) -> Iterator[tuple[str, Any, str]]:
    """Yield name, options and input ('lq' or 'gt') of every network that an option file names."""
    run = str(opt.get('name') or os.path.splitext(os.path.basename(path))[0])
    block = opt.get('distillation') or {}
    teachers = block.get('teachers') or [] if isinstance(block, dict) else None
    if not isinstance(teachers, list) or not all(isinstance(t, dict) for t in teachers):
        raise UserError(f'{path}: `distillation.teachers` must be a list of mappings.')
    yield run, opt.get('network_g'), 'gt' if opt.get('model_type') == 'PrivilegedTeacherModel' else 'lq'
    for i, teacher in enumerate(teachers):
        scale = f' x{opt["scale"]}' if 'scale' in opt else ''
        yield f'teacher {teacher.get("name", i)}{scale}', teacher.get('network'), teacher.get('input', 'lq')
    if block.get('aggregator'):
        yield f'aggregator of {run}', block['aggregator'].get('network'), 'lq'


def table(rows: Sequence[Complexity]) -> str:
    """Return rows as aligned text: parameters as they are, multiply-adds in G."""
    width = max([len('network'), *(len(row.name) for row in rows)])
    lines = [f'{"network":<{width}}  {"parameters":>12}  {"MultiAdds [G]":>13}']
    lines += [f'{row.name:<{width}}  {row.parameters:>12,}  {row.multi_adds / 1e9:>13,.3f}' for row in rows]
    return '\n'.join(lines)


def input_channels(network: nn.Module) -> int:
    """Return how many channels a network takes: what it says itself, or else those of its first convolution."""
    said = getattr(network, 'input_channels', None)
    return said or next((p.shape[1] for p in network.parameters() if p.ndim == 4), 3)


def _on_meta(network: nn.Module) -> nn.Module:
    network = copy.deepcopy(network).to('meta').eval()
    for module in network.modules():  # BasicSR's EDSR keeps its mean as a plain attribute
        for name, value in list(vars(module).items()):
            if isinstance(value, Tensor):
                setattr(module, name, value.to('meta'))
    return network


@contextlib.contextmanager
def _autocast_on_meta() -> Iterator[None]:
    """Ignore `torch.autocast`: it refuses the meta device, even to be switched off there."""
    autocast = torch.autocast
    torch.autocast = lambda *args, **kwargs: contextlib.nullcontext()  # type: ignore[assignment,misc]
    try:
        yield
    finally:
        torch.autocast = autocast  # type: ignore[misc]


def _convolution(
    x: Sequence[int],
    weight: Sequence[int],
    bias: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    transposed: bool,
    *rest: Any,
    out_shape: Sequence[int],
    **kwargs: Any,
) -> int:
    # weight: (C_out, C_in / groups, ...), transposed (C_in, C_out / groups, ...)
    pixels = x[0] * prod(out_shape[2:])
    return 2 * pixels * prod(weight)


def _attention(
    query: Sequence[int], key: Sequence[int], value: Sequence[int], *rest: Any, out_shape: Any, **kwargs: Any
) -> int:
    return 2 * prod(query[:-1]) * key[-2] * (query[-1] + value[-1])


# torch counts transposed convolutions on their input, and does not know the CPU's attention.
_FORMULAS: dict[Any, Any] = {
    torch.ops.aten.convolution: _convolution,
    torch.ops.aten._convolution: _convolution,
}
if hasattr(torch.ops.aten, '_scaled_dot_product_flash_attention_for_cpu'):
    _FORMULAS[torch.ops.aten._scaled_dot_product_flash_attention_for_cpu] = _attention
