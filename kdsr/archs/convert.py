"""`kdsr convert`: rename the tensors of other projects' checkpoints to kdsr's and BasicSR's names."""

from __future__ import annotations

import json
import os
import tempfile
from typing import Any

from torch import Tensor, nn

from kdsr.archs.official_checkpoints import FAMILIES, Family
from kdsr.archs.official_family import AUTHORS_CODE
from kdsr.archs.official_names import Weights, rename
from kdsr.archs.official_settings import choose_settings
from kdsr.compat.loading import without_prefix
from kdsr.distillation.building import build_network_at
from kdsr.distillation.checkpoint import load_weights, pick_weights, read_checkpoint, save_checkpoint, take_weights
from kdsr.distillation.photo_probe import EXCUSE, Probe
from kdsr.errors import UserError
from kdsr.wording import counted


def convert_checkpoint(source: str, out: str) -> str:
    """Convert another project's checkpoint to BasicSR's format, ``{'params': ..., 'network': ...}``.

    `network` contains the options of the network, so that `kdsr benchmark` needs no further options.

    Args:
        source: Official checkpoint. kdsr reads it without running any code in it.
        out: File to write; missing folders are made. It is written only if every tensor fits the network.

    Returns:
        A description of the file, with the `network:` block for a YAML.

    Raises:
        UserError: the source is missing or damaged, contains code, has an unknown architecture, does not fit it, or is
            far below bicubic upsampling with all settings; or `out` cannot be written.
    """
    source, out = os.path.expanduser(source), os.path.expanduser(out)
    if os.path.isdir(out) or not os.path.basename(out):
        raise UserError(f'{out!r} is a folder: name the file to write.')
    weights: Weights = pick_weights(read_checkpoint(source), source)
    if os.path.exists(out) and os.path.samefile(source, out):
        raise UserError(f'the conversion would overwrite {source!r}: name another file.')
    family, weights = _recognise(weights, source)
    folder = os.path.dirname(out) or '.'
    os.makedirs(folder, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as work:
        written = os.path.join(work, os.path.basename(out))
        options, renamed = _fit(family, weights, source)
        options, renamed, scores = choose_settings(options, renamed, source)
        save_checkpoint({'params': renamed, 'network': options}, written)
        network = build_network_at('network', options)
        load_weights(network, written, 'params', family.name, shown=source)
        os.replace(written, out)
    return _report(family, options, network, scores, out)


def read_official(weights: Weights, source: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Recognise official weights.

    Args:
        weights: Tensors by their official names.
        source: Their file, for messages.

    Returns:
        The options of the network with the usual settings (:func:`~kdsr.archs.official_settings.choose_settings` tries
        others), and the weights under its own names.

    Raises:
        UserError: the architecture is unknown, or the weights do not fit it.
    """
    family, weights = _recognise(weights, source)
    return _fit(family, weights, source)


def _fit(family: Family, weights: Weights, source: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return the options of the network, and weights that fit it."""
    try:
        options, renamed = family.describe(weights), _to_single_precision(rename(weights, family.rules))
        take_weights(build_network_at('network', options), renamed, repr(source), family.name)
    except (ValueError, TypeError, RuntimeError, AssertionError, ArithmeticError, LookupError) as error:
        raise UserError(
            f'{source!r} looks like {family.name}, but does not fit it: {error} '
            f'It is another network of this kind. {AUTHORS_CODE}'
        ) from None
    return options, renamed


def _to_single_precision(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in weights.items()}


def _recognise(weights: Weights, source: str) -> tuple[Family, Weights]:
    """Return the family of a file, and its weights without the prefix that all of its names may have."""
    for family in FAMILIES:
        inner = without_prefix(weights, lambda found, family=family: int(family.recognises(found)))  # type: ignore[misc]
        if family.recognises(inner):
            return family, inner
    known = '\n'.join(f'  {family.name}: {family.origin}' for family in FAMILIES)
    some = ', '.join(map(repr, list(weights)[:4]))
    raise UserError(
        f'{source!r}: kdsr does not recognise the architecture; the tensors are {some}, ... Files with the names of '
        f'BasicSR or kdsr need no conversion; many others work directly (`type: Spandrel`). {AUTHORS_CODE} '
        f'Recognised:\n{known}'
    )


def _report(family: Family, options: dict[str, Any], network: nn.Module, scores: Probe, out: str) -> str:
    channels = options.get('num_in_ch', options.get('in_chans', 3))
    colour = 'luminance (the Y channel of BT.601)' if channels == 1 else 'RGB'
    inside = '' if options.get('img_range', 1) == 1 else f' (internally 0..{options["img_range"]:g})'
    block = '\n'.join(f'  {key}: {_yaml_value(value)}' for key, value in options.items())
    parameters = sum(p.numel() for p in network.parameters())
    about = (
        f'{family.name} x{options["upscale"]}: {colour} in [0, 1]{inside}, {parameters:,} parameters, '
        f'all {counted(len(network.state_dict()), "tensor")} match. {family.note}'
    )
    checked = f'Checked: {scores.describe()}.'
    if scores.loses:
        checked = f'WARNING: {scores.describe()}. {EXCUSE}'
    written = f'Written to {out!r}. For a YAML:\n\nnetwork:\n{block}\npath: {json.dumps(out)}\n'
    return f'{about.rstrip()}\n{checked}\n{written}'


def _yaml_value(value: Any) -> str:
    return value if isinstance(value, str) and value else json.dumps(value)
