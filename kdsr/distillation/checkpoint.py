"""Checkpoint files: reading anyone's safely, writing ours without ever leaving half a file."""

from __future__ import annotations

import os
import pickle
import re
from collections.abc import Mapping
from typing import Any

import torch
from basicsr.utils import get_root_logger
from torch import Tensor, nn

from kdsr.compat.saving import save_checkpoint as save_checkpoint  # reading and writing, from one place
from kdsr.errors import UserError

WEIGHT_KEYS = ('params_ema', 'params', 'state_dict', 'model')


def read_checkpoint(path: str) -> dict[str, Any]:
    """Read a checkpoint file on the CPU, tensors and plain values only; a safetensors file is weights alone.

    Raises:
        UserError: the file is missing, is no checkpoint, or holds code (pickled objects), which is never run.
    """
    path = os.path.expanduser(path)
    if not os.path.isfile(path):
        raise UserError(f'checkpoint {path!r} does not exist (looked in {os.getcwd()!r}).')
    if path.lower().endswith('.safetensors'):
        return _read_safetensors(path)
    try:
        content = torch.load(path, map_location='cpu', weights_only=True)
    except pickle.UnpicklingError as error:
        wanted = re.search(r'GLOBAL ([\w.]+)', str(error))
        asks = f' (it asks for {wanted[1]})' if wanted else ''
        raise UserError(
            f'checkpoint {path!r} is no checkpoint, is damaged, or holds more than tensors and plain values{asks}; '
            'nothing in it was run. If you trust its source, load it yourself and save its state_dict with torch.save.'
        ) from None
    except Exception as error:  # a file that is no checkpoint ends in one of many errors
        raise UserError(
            f'checkpoint {path!r} cannot be read ({type(error).__name__}: {error}): is it truncated, or no checkpoint?'
        ) from None
    if not isinstance(content, dict):
        raise UserError(f'checkpoint {path!r} holds a {type(content).__name__}, not a dictionary of weights.')
    return content


def _read_safetensors(path: str) -> dict[str, Any]:
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load_file
    except ImportError as error:
        raise UserError(f'{path!r} needs safetensors ({error}): pip install "kdsr[export]"') from None
    try:
        return load_file(path)
    except SafetensorError as error:
        raise UserError(f'checkpoint {path!r} cannot be read ({error}): is it truncated?') from None


def pick_weights(content: Mapping[str, Any], path: str, param_key: str | None = None) -> dict[str, Tensor]:
    """Return the weights inside a checkpoint, without DistributedDataParallel's `module.` prefix.

    Args:
        content: What :func:`read_checkpoint` returned.
        path: For messages.
        param_key: Key of the weights; when None the first of `WEIGHT_KEYS` that is there, or the whole file.

    Raises:
        UserError: the key is not in the file, or what it names are not weights.
    """
    if param_key is None:
        param_key = next((k for k in WEIGHT_KEYS if isinstance(content.get(k), Mapping) and content[k]), None)
    elif param_key not in content:
        raise UserError(f'checkpoint {path!r} has no {param_key!r}; it has {_keys(content)}.')
    weights = content if param_key is None else content[param_key]
    if not isinstance(weights, Mapping) or not weights or not all(isinstance(v, Tensor) for v in weights.values()):
        where = f' under {param_key!r}' if param_key else ''
        raise UserError(f'checkpoint {path!r} holds no weights{where}; it has {_keys(content) or "nothing"}.')
    return {str(k)[len('module.') :] if str(k).startswith('module.') else str(k): v for k, v in weights.items()}


def _keys(content: Mapping[str, Any]) -> str:
    return ', '.join(map(str, list(content)[:5])) + (', ...' if len(content) > 5 else '')


def load_weights(network: nn.Module, path: str, param_key: str | None = None, name: str = 'network') -> dict[str, Any]:
    """Load weights into `network`; anything but a complete match is refused.

    Args:
        network: Any module.
        path: Checkpoint file.
        param_key: As for :func:`pick_weights`.
        name: What to call the network in messages.

    Returns:
        The whole content of the file, for what it holds beside the weights.

    Raises:
        UserError: names, shapes or the file do not fit.
    """
    content = read_checkpoint(path)
    weights = pick_weights(content, path, param_key)
    own = network.state_dict()
    for key, tensor in weights.items():
        whole = key in own and own[key].is_floating_point() and not tensor.is_floating_point()
        if whole or not torch.isfinite(tensor).all():
            what = f'whole numbers ({tensor.dtype})' if whole else 'values that are not finite'
            raise UserError(f'{name}: {key!r} in {path!r} holds {what}; the file is damaged or no trained network.')
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
        UserError: names or shapes do not fit.
    """
    own = network.state_dict()
    fitting = [k for k in own if k in weights and weights[k].shape == own[k].shape]
    if len(fitting) < len(own) or len(weights) > len(own):
        raise UserError(
            f'{name} ({type(network).__name__}): only {len(fitting)} of its {len(own)} tensors match {source} '
            f'({_mismatch(own, weights, fitting)}). '
            'Is it the checkpoint of this architecture, with these settings and this scale?'
        )
    network.load_state_dict(weights)
    get_root_logger().info(f'{name}: all {len(own)} tensors loaded from {source}.')


def _mismatch(own: Mapping[str, Tensor], weights: Mapping[str, Tensor], fitting: list[str]) -> str:
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
