"""Files of weights alone: which network they are of."""

from __future__ import annotations

import os
from collections.abc import Mapping
from glob import escape, glob
from typing import Any

from basicsr.utils.registry import ARCH_REGISTRY
from torch import Tensor, nn

from kdsr import options, plugins, zoo
from kdsr.archs.convert import read_official
from kdsr.archs.official_settings import choose_settings
from kdsr.distillation.building import build_network_at
from kdsr.distillation.checkpoint import pick_weights, read_checkpoint, take_weights
from kdsr.errors import UserError, did_you_mean
from kdsr.foreign import find_fault, parse_json
from kdsr.foreign.kinds import NETWORK
from kdsr.metadata import safetensors_metadata

Weights = Mapping[str, Tensor]


def identify(path: str, given: Mapping[str, Any] | None = None) -> tuple[Mapping[str, Any], Weights | None]:
    """Say what network a file of weights is of.

    Asked in turn are the caller, the file itself (`kdsr convert` and `kdsr export` name the network in it), the
    experiment in whose `models/` it lies, the official files that `kdsr convert` knows, and spandrel.

    Args:
        path: A checkpoint, or a safetensors file.
        given: `type` and arguments of the network, where the user says it.

    Returns:
        The network's options, and the weights in its names; None for spandrel, which reads the file itself.

    Raises:
        UserError: the file is missing or damaged, or an official file is far below bicubic with all settings.
    """
    if not os.path.isfile(os.path.expanduser(path)):
        raise UserError(
            f'{path!r} does not exist: name an option file (.yml), a file of weights, or a '
            f'network of the zoo (kdsr zoo).{did_you_mean(path, zoo.list_names())}'
        )
    by_spandrel = {'type': 'Spandrel', 'path': path}
    if path.lower().endswith('.safetensors'):
        network_opt = given or _read_exported_network(path)
        return (network_opt, read_checkpoint(path)) if network_opt else (by_spandrel, None)
    content = read_checkpoint(path)
    network_opt = given or _read_own_network(content, path)
    if network_opt is not None:
        return network_opt, pick_weights(content, path)
    try:
        network_opt, weights = read_official(pick_weights(content, path), path)
    except UserError:
        return by_spandrel, None  # names of no family, or like a family's but of another network
    return choose_settings(network_opt, weights, path)[:2]


def read_network_opt(text: str) -> dict[str, Any]:
    """Return the options of a network from the text after `--network`.

    Args:
        text: A mapping, ``{type: RFDN, upscale: 4}``, or an option file, of which `network_g` is taken; the modules
            that this file imports are imported.

    Raises:
        UserError: it is neither, or the file cannot be read.
    """
    if text.lower().endswith(('.yml', '.yaml')):
        opt = options.load(text)
        plugins.import_named(opt.get('import_modules'))
        value = opt.get('network_g')
    else:
        value = options.parse_value(text)
    if not isinstance(value, dict) or 'type' not in value:
        raise UserError(f"--network {text!r}: write a mapping with a type, '{{type: RFDN, upscale: 4}}', or a file.")
    return value


def build(label: str, network_opt: Mapping[str, Any], weights: Weights | None, path: str) -> nn.Module:
    """Build an identified network with its weights, frozen and in eval mode.

    Args:
        label: What to call it in messages.
        network_opt: See :func:`identify`.
        weights: See :func:`identify`.
        path: Of the file, for messages.

    Raises:
        UserError: they do not fit, or spandrel does not know the file either.
    """
    try:
        network = build_network_at(label, network_opt)
        if weights is not None:
            take_weights(network, weights, repr(path), label)
    except UserError as error:
        raise UserError(
            f"{error} Or say what it is: --network '{{type: RFDN, upscale: 4}}', or --network FILE.yml with its "
            "`network_g:` and, for its authors' *_arch.py in the current folder, `import_modules: [NAME_arch]`."
        ) from None
    return network.eval().requires_grad_(False)


def _read_exported_network(path: str) -> Mapping[str, Any] | None:
    """Return the options that `kdsr export` put into a safetensors file."""
    metadata = safetensors_metadata(path)
    ours = metadata.get('made_by', '').startswith('kdsr ')
    if not ours:
        return None
    try:
        return dict(parse_json(metadata.get('network', ''), NETWORK))
    except ValueError as error:
        raise UserError(f'{path!r}: its metadata is damaged: network: {error}.') from None


def _read_own_network(content: Mapping[str, Any], path: str) -> Mapping[str, Any] | None:
    """Return the options that `kdsr convert` put into the file, or those of the experiment that it lies in."""
    if isinstance(content.get('network'), dict) and 'type' in content['network']:
        fault = find_fault(content['network'], NETWORK)
        if fault is not None:
            raise UserError(f'{path!r}: the options of its network are damaged: {fault}.')
        return content['network']
    folder = os.path.dirname(os.path.abspath(path))
    if os.path.basename(folder) != 'models' or not os.path.basename(path).startswith('net_g_'):
        return None
    for file in sorted(glob(os.path.join(escape(os.path.dirname(folder)), '*.yml'))):
        opt = options.load(file)
        if isinstance(opt.get('network_g'), dict):
            _refuse_imports(opt, file)
            return opt['network_g']
    return None


def _refuse_imports(opt: Mapping[str, Any], file: str) -> None:
    """Refuse a network that needs `import_modules` of a file that the user did not name: they are code.

    Raises:
        UserError: nothing was imported; it says how the user names the file.
    """
    kind = opt['network_g'].get('type')
    if opt.get('import_modules') and not (isinstance(kind, str) and kind in ARCH_REGISTRY):
        shown = options.shorten_path(file)
        raise UserError(
            f'{shown}, which lies beside the checkpoint, imports {opt["import_modules"]!r} for its network {kind!r}. '
            'Imports run code, and you did not name this file, so nothing was imported. If you trust it: '
            f'--network {shown}'
        )
