"""The cost of a network: parameters, multiply-adds, activations and memory. Nothing is computed but shapes."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.modules.conv import _ConvNd
from torch.utils.flop_counter import FlopCounterMode, conv_flop_count, sdpa_flop_count

from kdsr import options, plugins
from kdsr.cost.latency import Timing, time_network
from kdsr.cost.live_memory import count_peak_memory
from kdsr.cost.on_meta import autocast_on_meta, copy_to_meta
from kdsr.distillation.building import build_network_at
from kdsr.errors import UserError
from kdsr.experiment import Experiment, Network, check_networks, read_experiment
from kdsr.networks.facts import count_parameters, find_input_channels, find_lr_shape, scale_of


@dataclass(frozen=True)
class Complexity:
    """The cost of a network for one image.

    Attributes:
        name: Name of the network.
        parameters: Number of parameters, with frozen ones.
        multi_adds: See :func:`count_multi_adds`.
        activations: See :func:`count_activations`.
        convolutions: Number of convolutions in a forward pass, NTIRE's `#Conv`.
        memory: Bytes: the GPU's peak if it was timed there, otherwise :func:`count_peak_memory` in single precision.
        seconds: Median of the timed runs; None if it was not timed.
    """

    name: str
    parameters: int
    multi_adds: int
    activations: int
    convolutions: int
    memory: int
    seconds: float | None = None


def count_multi_adds(network: nn.Module, input_shape: Sequence[int]) -> int:
    """Return the multiply-adds of one forward pass: convolutions, linear layers, matrix products, attention.

    They are counted as in the papers: biases, activations, normalisation and interpolation are free, and a transposed
    convolution costs its kernel at each pixel of its OUTPUT. The network runs on torch's meta device, which computes
    shapes only, so that large images take no longer than small ones.

    Args:
        network: It is not changed.
        input_shape: (C, h, w).

    Raises:
        RuntimeError: what the network runs depends on the values of its input.
    """
    return _count_multi_adds(copy_to_meta(network).eval(), input_shape)


def _count_multi_adds(network: nn.Module, input_shape: Sequence[int]) -> int:
    counter = FlopCounterMode(display=False, custom_mapping=_FORMULAS)
    with torch.no_grad(), autocast_on_meta(), counter:
        network(torch.empty(1, *input_shape, device='meta'))
    return counter.get_total_flops() // 2


def count_activations(network: nn.Module, input_shape: Sequence[int]) -> tuple[int, int]:
    """Return the number of values that all convolutions return in one forward pass, and the number of convolutions.

    They are counted as in the AIM and NTIRE challenges: a module that runs twice counts twice; linear layers, fixed
    interpolation kernels and attention are not counted.

    Args:
        network: It is not changed.
        input_shape: (C, h, w).
    """
    return _count_activations(copy_to_meta(network).eval(), input_shape)


def _count_activations(network: nn.Module, input_shape: Sequence[int]) -> tuple[int, int]:
    seen: list[int] = []
    hooks = []
    for module in network.modules():
        if isinstance(module, _ConvNd):
            hooks.append(module.register_forward_hook(lambda module, inputs, output: seen.append(output.numel())))
    with torch.no_grad(), autocast_on_meta():
        network(torch.empty(1, *input_shape, device='meta'))
    for hook in hooks:
        hook.remove()
    return sum(seen), len(seen)


def build_and_count(
    name: str,
    network_opt: Mapping[str, Any],
    output_size: tuple[int, int] = (720, 1280),
    input_shape: Sequence[int] | None = None,
    timing: Timing | None = None,
) -> Complexity:
    """Build a network from its options and count its cost.

    Args:
        name: For the table and for messages.
        network_opt: `type` and arguments, as in a YAML's `network_g`; `upscale` among them.
        output_size: (H, W) of the super-resolved image. The input size is rounded down, so that x3 starts from 240x426
            as in the papers, and then up to whole windows of the network.
        input_shape: (C, h, w) of the input, in place of `output_size`, for networks whose input is not the LR image.
        timing: How to time the network; None does not run it.

    Raises:
        UserError: the options do not fit the network.
    """
    network = build_network_at(name, network_opt)
    if input_shape is None:
        scale = scale_of(network, network_opt)
        input_shape = find_lr_shape(network, network_opt, (output_size[0] // scale, output_size[1] // scale))
    return count(name, network, input_shape, timing)


def count(name: str, network: nn.Module, input_shape: Sequence[int], timing: Timing | None = None) -> Complexity:
    """Count the cost of a network.

    Args:
        name: For the table and for messages.
        network: It is not changed.
        input_shape: (C, h, w).
        timing: How to time the network; None does not run it.

    Raises:
        UserError: the network does not run on this input.
    """
    try:
        seconds, peak = time_network(network, input_shape, timing) if timing else (None, None)
        meta = copy_to_meta(network).eval()
        with autocast_on_meta():
            memory = peak or count_peak_memory(meta, input_shape)
        counts = (
            count_parameters(network),
            _count_multi_adds(meta, input_shape),
            *_count_activations(meta, input_shape),
        )
        return Complexity(name, *counts, memory=memory, seconds=seconds)
    except (RuntimeError, AssertionError, ValueError, TypeError) as error:
        raise UserError(
            f'{name} ({type(network).__name__}) cannot be counted on {tuple(input_shape)}: {error}'
        ) from error


def count_option_files(
    paths: Sequence[str],
    output_size: tuple[int, int] = (720, 1280),
    input_size: tuple[int, int] | None = None,
    timing: Timing | None = None,
    overrides: Sequence[str] = (),
) -> list[Complexity]:
    """Count the student, teachers and aggregator of each option file, every network once.

    Args:
        paths: Option files.
        output_size: (H, W) of the super-resolved image.
        input_size: (h, w) of the low-resolution image, in place of `output_size`.
        timing: How to time the networks; None runs none.
        overrides: As after `--force_yml`, for all files.
    """
    rows: dict[str, Complexity] = {}
    for path in paths:
        opt = options.load(path, overrides)
        experiment = read_experiment(opt).live()
        plugins.import_named(experiment.imports)
        check_networks(opt, path)
        for described in experiment.networks:
            name = _make_name(described, experiment, path)
            if described.role != 'other' and name not in rows:
                network = build_network_at(name, described.opt)
                rows[name] = count(
                    name, network, _find_input_shape(described, network, output_size, input_size), timing
                )
    return list(rows.values())


def count_networks(
    networks: Sequence[Mapping[str, Any]],
    output_size: tuple[int, int] = (720, 1280),
    input_size: tuple[int, int] | None = None,
    timing: Timing | None = None,
) -> list[Complexity]:
    """Count networks given by their options; each is named after its type and scale.

    Args:
        networks: `type` and arguments of each.
        output_size: (H, W) of the super-resolved image.
        input_size: (h, w) of the low-resolution image, in place of `output_size`.
        timing: How to time the networks; None runs none.
    """
    rows: list[Complexity] = []
    for network_opt in networks:
        network = build_network_at('--network', network_opt)
        scale = scale_of(network, network_opt)
        size = input_size or (output_size[0] // scale, output_size[1] // scale)
        name = f'{network_opt["type"]} x{scale}'
        same = sum(row.name.startswith(name) for row in rows)
        shape = find_lr_shape(network, network_opt, size)
        rows.append(count(f'{name} ({same + 1})' if same else name, network, shape, timing))
    return rows


def _make_name(network: Network, experiment: Experiment, path: str) -> str:
    run = experiment.name or os.path.splitext(os.path.basename(path))[0]
    if network.role == 'teacher':
        return f'teacher {network.name} x{experiment.scale}' if experiment.scale else f'teacher {network.name}'
    return f'aggregator of {run}' if network.frozen else run


def _find_input_shape(
    described: Network, network: nn.Module, output_size: tuple[int, int], input_size: tuple[int, int] | None
) -> tuple[int, ...]:
    """Return (C, h, w) of the input of a network of an experiment."""
    if described.input == 'lq':
        scale = scale_of(network, described.opt)
        size = input_size or (output_size[0] // scale, output_size[1] // scale)
        return find_lr_shape(network, described.opt, size)
    large = tuple(described.magnified * side for side in input_size) if input_size else output_size
    teachers_images = described.input == 'teacher_images'
    channels = described.channels if teachers_images else find_input_channels(network, described.opt)
    return (channels, *large)


def _count_convolution(
    x: Sequence[int], weight: Sequence[int], *rest: Any, out_shape: Sequence[int], **kwargs: Any
) -> int:
    """Count a transposed convolution on its output, as the papers do; torch counts it on its input."""
    return conv_flop_count(list(x), list(weight), list(out_shape), transposed=False)


def _count_attention(query: Sequence[int], key: Sequence[int], value: Sequence[int], *rest: Any, **kwargs: Any) -> int:
    """Count the CPU's attention, for which torch has no formula."""
    return sdpa_flop_count(query, key, value)


_FORMULAS: dict[Any, Any] = {
    torch.ops.aten.convolution: _count_convolution,
    torch.ops.aten._convolution: _count_convolution,
}
if hasattr(torch.ops.aten, '_scaled_dot_product_flash_attention_for_cpu'):
    _FORMULAS[torch.ops.aten._scaled_dot_product_flash_attention_for_cpu] = _count_attention
