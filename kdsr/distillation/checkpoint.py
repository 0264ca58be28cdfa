"""Checkpoint files: reading anyone's safely, writing ours without ever leaving half a file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from basicsr.utils import get_root_logger
from torch import Tensor, nn

from kdsr.compat.loading import pick_weights as pick_weights  # reading and writing, from one place
from kdsr.compat.loading import read_checkpoint as read_checkpoint
from kdsr.compat.loading import without_prefix
from kdsr.errors import UserError
from kdsr.lifecycle.saving import save_checkpoint as save_checkpoint
from kdsr.wording import counted


def load_weights(
    network: nn.Module, path: str, param_key: str | None = None, name: str = 'network', shown: str | None = None
) -> dict[str, Any]:
    """Load weights into `network`; anything but a complete match is refused.

    Args:
        network: Any module.
        path: Checkpoint file.
        param_key: As for :func:`pick_weights`.
        name: What to call the network in messages.
        shown: Name of the file in messages; `path` when left out.

    Returns:
        The whole content of the file, weights and other entries.

    Raises:
        UserError: names, shapes or the file do not fit.
    """
    content = read_checkpoint(path)
    path = shown or path
    weights = pick_weights(content, path, param_key)
    take_weights(network, weights, repr(path), name)
    return content


def take_weights(network: nn.Module, weights: Mapping[str, Tensor], source: str, name: str) -> None:
    """Copy weights into `network`; anything but a complete match is refused.

    Args:
        network: Any module.
        weights: Of another module, by name.
        source: Whose they are, for messages.
        name: What to call the network in messages.

    Raises:
        UserError: names or shapes do not fit, or values are not finite or not of a floating-point type.
    """
    own = network.state_dict()
    weights = _without_prefix(own, weights)
    misfit = describe_misfit(network, weights, source, name)
    if misfit is not None:
        raise UserError(misfit)
    network.load_state_dict(weights)
    get_root_logger().info(f'{name}: all {counted(len(own), "tensor")} loaded from {source}.')


def describe_misfit(network: nn.Module, weights: Mapping[str, Tensor], source: str, name: str) -> str | None:
    """Return why weights are not those of a network; None where all names, shapes and types fit.

    Args:
        network: With or without values in its tensors.
        weights: Of another module, by name.
        source: Whose they are, for messages.
        name: What to call the network in messages.

    Raises:
        UserError: values are not finite or not of a floating-point type.
    """
    own = network.state_dict()
    weights = _without_prefix(own, weights)
    _check_values(own, weights, source, name)
    fitting = [k for k in own if k in weights and weights[k].shape == own[k].shape]
    if len(fitting) == len(own) >= len(weights):
        return None
    return (
        f'{name} ({type(network).__name__}): only {len(fitting)} of its {counted(len(own), "tensor")} match {source} '
        f'({_describe_mismatch(own, weights, fitting)}). '
        'Is it the checkpoint of this architecture, with these settings and this scale?'
    )


def _without_prefix(own: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    return without_prefix(weights, lambda found: len(own.keys() & found.keys()))


def _check_values(own: Mapping[str, Tensor], weights: Mapping[str, Tensor], source: str, name: str) -> None:
    for key, tensor in weights.items():
        wrong_type = key in own and own[key].is_floating_point() and not tensor.is_floating_point()
        if wrong_type or not torch.isfinite(tensor).all():
            what = f'values of the type {tensor.dtype}' if wrong_type else 'values that are not finite'
            raise UserError(f'{name}: {key!r} in {source} holds {what}; the file is damaged or no trained network.')


def _describe_mismatch(own: Mapping[str, Tensor], weights: Mapping[str, Tensor], fitting: list[str]) -> str:
    lacking = [k for k in own if k not in weights]
    foreign = [k for k in weights if k not in own]
    resized = [
        f'{k}: there {tuple(weights[k].shape)}, here {tuple(own[k].shape)}'
        for k in own
        if k in weights and k not in fitting
    ]
    parts = [
        f'{len(names)} {what}, for example {names[0]}'
        for names, what in (
            (lacking, 'missing there'),
            (foreign, 'only there'),
            (resized, 'of another size'),
        )
        if names
    ]
    return '; '.join(parts)
