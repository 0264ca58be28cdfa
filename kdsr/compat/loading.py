"""Checkpoint files of any origin: read tensors and plain values, never run code."""

from __future__ import annotations

import codecs
import functools
import os
import pickle
import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from basicsr.utils import get_root_logger
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from kdsr.compat.tensors import find_tensor_fault
from kdsr.errors import UserError
from kdsr.metadata import safetensors_metadata
from kdsr.wording import with_article

__all__ = ['SafeTorch', 'load_network', 'pick_weights', 'read_checkpoint', 'safetensors_metadata']

WEIGHT_KEYS = (
    'params_ema', 'params', 'state_dict', 'model_state_dict', 'model', 'net_g_ema', 'net_g', 'netG', 'generator', 'net',
    'g', 'weights',
)  # fmt: skip
PREFIXES = ('model.', 'net_g.', 'netG.', 'generator.', 'net.', 'network.')


def read_checkpoint(path: str) -> dict[str, Any]:
    """Read a checkpoint file on the CPU, tensors and plain values only; a safetensors file is weights alone.

    Raises:
        UserError: the file is missing, is not a checkpoint, or holds code (pickled objects), which is never run.
    """
    path = os.path.expanduser(path)
    if os.path.isdir(path):
        raise UserError(f'checkpoint {path!r} is a folder: name the file in it.')
    if not os.path.isfile(path):
        raise UserError(f'checkpoint {path!r} does not exist (looked in {os.getcwd()!r}).')
    if path.lower().endswith('.safetensors'):
        return _read_safetensors(path)
    try:
        with torch.serialization.safe_globals(_numpy_scalars()):
            content = torch.load(path, map_location='cpu', weights_only=True)
    except pickle.UnpicklingError as error:
        wanted = re.search(r'GLOBAL ([\w.]+)', str(error))
        asks = f' (it asks for {wanted[1]})' if wanted else ''
        raise UserError(
            f'checkpoint {path!r} is not a checkpoint, is damaged, or holds more than tensors and plain values{asks}; '
            'nothing in it was run. If you trust its source, load it yourself and save its state_dict with torch.save.'
        ) from None
    except Exception as error:  # other files end in one of many errors
        raise UserError(
            f'checkpoint {path!r} cannot be read ({type(error).__name__}: {error}): is it truncated, or not a '
            'checkpoint?'
        ) from None
    if not isinstance(content, dict):
        raise UserError(
            f'checkpoint {path!r} holds {with_article(type(content).__name__)}, not a dictionary of weights.'
        )
    fault = find_tensor_fault(content)
    if fault is not None:
        raise UserError(f'checkpoint {path!r}: {fault}.')
    return content


@functools.lru_cache(maxsize=1)
def _numpy_scalars() -> list[Any]:
    """Return what a pickled NumPy number is made of, which runs no code: a best PSNR often lies beside the weights."""
    scalar = np.float64(0).__reduce__()[0]
    kinds = {type(np.dtype(code)) for code in 'bBhHiIlLqQefd?'}
    names = ('numpy.core.multiarray.scalar', 'numpy._core.multiarray.scalar')
    return [*((scalar, name) for name in names), np.dtype, *kinds, codecs.encode]


def _read_safetensors(path: str) -> dict[str, Any]:
    try:
        return load_file(path)
    except SafetensorError as error:
        raise UserError(f'checkpoint {path!r} cannot be read ({error}): is it truncated?') from None


def pick_weights(content: Mapping[str, Any], path: str, param_key: str | None = None) -> dict[str, Tensor]:
    """Return the weights inside a checkpoint, without what DistributedDataParallel and torch.compile add to names.

    Args:
        content: What :func:`read_checkpoint` returned.
        path: For messages.
        param_key: Key of the weights; None means the first of `WEIGHT_KEYS` that the file has, or the whole file.

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
    return {_unwrapped(str(k)): v for k, v in weights.items()}


def _unwrapped(name: str) -> str:
    """Return a tensor's name without `module.` at its start and `_orig_mod.` anywhere."""
    return name.replace('_orig_mod.', '').removeprefix('module.')


def without_prefix(weights: Mapping[str, Tensor], fits: Callable[[Mapping[str, Tensor]], int]) -> Mapping[str, Tensor]:
    """Return weights without the name of the attribute that held the network (`model.`, `net_g.`, ...).

    Args:
        weights: Tensors by name.
        fits: Returns how many of the given tensors belong to the network.

    Returns:
        The tensors behind the prefix that fit best; `weights` where none fits better.
    """
    best, most = weights, fits(weights)
    for prefix in PREFIXES:
        inner = {name[len(prefix) :]: tensor for name, tensor in weights.items() if name.startswith(prefix)}
        count = fits(inner) if inner else 0
        if count > most:
            best, most = inner, count
    return best


def _keys(content: Mapping[str, Any]) -> str:
    return ', '.join(map(str, list(content)[:5])) + (', ...' if len(content) > 5 else '')


class _Torch(type):
    def __getattr__(cls, name: str) -> Any:
        return getattr(torch, name)


class SafeTorch(metaclass=_Torch):
    """PyTorch as those networks of BasicSR see it that read files themselves: its `load` never runs code.

    SpyNet, BasicVSR's and TOFlow's read the `load_path` of an option file so, DFDNet a `dict_path`, VGG a fixed path.
    PyTorch's own `load` unpickles anything where TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD is set, and else ends in a traceback.
    """

    @staticmethod
    def load(path: str, map_location: Any = None) -> dict[str, Any]:
        """Read a file on the CPU, wherever its tensors were.

        Raises:
            UserError: as :func:`read_checkpoint`.
        """
        return read_checkpoint(path)


def load_network(self: Any, net: Any, load_path: str, strict: bool = True, param_key: Any = 'params') -> None:
    """Load weights safely into a network; a file of bare weights also fits the EMA network.

    BasicSR unpickles anything, accepts weights that are not finite, fails on bare weights because it looks for a key in
    them, and with `strict_load_g: false` goes on without a single tensor.

    Args:
        self: The model.
        net: The network, possibly wrapped for distributed training.
        load_path: The checkpoint.
        strict: Every tensor must fit.
        param_key: Key of the weights in the file.

    Raises:
        UserError: the file cannot be read, or its weights do not fit the network.
    """
    network, content = self.get_bare_model(net), read_checkpoint(load_path)
    key = next((key for key in (param_key, 'params') if key is not None and key in content), None)
    own = network.state_dict()
    weights = without_prefix(pick_weights(content, load_path, key), lambda found: len(own.keys() & found.keys()))
    _check_finite(network, weights, load_path)
    get_root_logger().info(f'Loading {type(network).__name__} from {load_path}, with param key: [{key}].')
    self._print_different_keys_loading(network, weights, strict)
    if not any(name in weights for name in network.state_dict()):
        raise UserError(f'no tensor of {load_path!r} fits {type(network).__name__}: the file is of another network.')
    try:
        network.load_state_dict(weights, strict=strict)
    except RuntimeError as error:
        listed = [line.strip() for line in str(error).splitlines()[1:]]
        some = '\n  '.join(line if len(line) < 200 else f'{line[:200]} ...' for line in listed[:4])
        raise UserError(
            f'{load_path!r} does not fit {type(network).__name__} with these options and this scale:\n  {some}'
        ) from None


def _check_finite(network: Any, weights: Mapping[str, Tensor], path: str) -> None:
    for name, _ in network.named_parameters():
        if name in weights and not weights[name].isfinite().all():
            raise UserError(f'{path!r} holds values that are not finite in {name!r}: the run that saved it diverged.')
