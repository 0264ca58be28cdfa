"""What an exported file says about itself: network, scale, colour, training, scores, licence."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

import kdsr
from kdsr.errors import UserError
from kdsr.foreign import find_fault, parse_json
from kdsr.foreign.kinds import CARD
from kdsr.foreign.shapes import MapOf, Plain
from kdsr.options import SafeDumper

_NUMBERS = ('scale', 'multiple', 'parameters', 'bytes_per_pixel', 'reach')
_START = ('pretrain_network_g', 'param_key_g', 'strict_load_g')


@dataclass(frozen=True)
class ModelCard:
    """A network in words and numbers.

    Attributes:
        name: Of the network.
        network: Its options, as in a YAML.
        scale: S.
        luminance: It takes one channel, Y of BT.601; otherwise RGB.
        multiple: Sides of windows; tiles start at multiples of it.
        parameters: All of them.
        bytes_per_pixel: What a forward pass holds for each low-resolution pixel, in single precision.
        reach: How many low-resolution pixels it looks far, at most; None where that is not known.
        training: The option file it was trained with, without machine's paths; empty where it is not known.
        metrics: Validation set to metric to value.
        protocol: How `metrics` were measured, in words; empty where they are from the run's own log.
        data_licence: Of the training data, in the words of who exports.
        purpose: The images that the network is for, likewise.
    """

    name: str
    network: Mapping[str, Any]
    scale: int
    luminance: bool = False
    multiple: int = 1
    parameters: int = 0
    bytes_per_pixel: int = 0
    reach: int | None = None
    training: str = ''
    metrics: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    protocol: str = ''
    data_licence: str = 'not stated'
    purpose: str = ''

    def metadata(self) -> dict[str, str]:
        """Return the card as text by key, as ONNX and safetensors files keep it."""
        return {
            'name': self.name,
            'network': json.dumps(dict(self.network)),
            'scale': str(self.scale),
            'colour': 'Y' if self.luminance else 'RGB',
            'range': '[0, 1], the output unclamped',
            'layout': 'NCHW',
            'multiple': str(self.multiple),
            'parameters': str(self.parameters),
            'bytes_per_pixel': str(self.bytes_per_pixel),
            'reach': '' if self.reach is None else str(self.reach),
            'training': self.training,
            'metrics': json.dumps(self.metrics),
            'protocol': self.protocol,
            'data_licence': self.data_licence,
            'purpose': self.purpose,
            'made_by': f'kdsr {kdsr.__version__}',
        }


def read_card(metadata: Mapping[str, str], path: str) -> ModelCard | None:
    """Read a card back; None from a file that kdsr did not write.

    Raises:
        UserError: the metadata is damaged.
    """
    if not metadata.get('made_by', '').startswith('kdsr '):
        return None
    content: dict[str, Any] = {'protocol': '', 'purpose': '', 'reach': '', **metadata}  # older files lack these
    try:
        for key in _NUMBERS:
            content[key] = int(content[key]) if content.get(key) else None
        for key in ('network', 'metrics'):
            content[key] = parse_json(content.get(key, ''), MapOf(Plain()))
    except ValueError as error:
        raise UserError(f'{path!r}: its metadata is damaged: {key}: {error}.') from None
    fault = find_fault(content, CARD)
    if fault is not None:
        raise UserError(f'{path!r}: its metadata is damaged: {fault}.')
    fields = {field.name for field in dataclasses.fields(ModelCard)} - {'luminance'}
    return ModelCard(luminance=content.get('colour') == 'Y', **{key: content[key] for key in fields})


def format_training(opt: Mapping[str, Any]) -> str:
    """Return an experiment's options as YAML, without folders and other paths than of what it started from."""
    kept = {key: value for key, value in opt.items() if key != 'path'}
    path = opt.get('path') or {}
    if path.get('pretrain_network_g'):
        kept['path'] = {key: path[key] for key in _START if key in path}
    return yaml.dump(_remove_folders(kept), Dumper=SafeDumper, sort_keys=False)


def _remove_folders(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _remove_folders(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_remove_folders(one) for one in value]
    if isinstance(value, str) and (os.path.isabs(value) or value.startswith('~')):
        return os.path.basename(value.rstrip('/'))
    return value


def format_card(card: ModelCard, sections: Mapping[str, str]) -> str:
    """Return the card as a page.

    Args:
        card: The card.
        sections: Heading to text, of what was measured while exporting.
    """
    colour = 'the Y channel of BT.601, 16/255..235/255' if card.luminance else 'RGB'
    channels = 1 if card.luminance else 3
    lines = [
        f'# {card.name}',
        '',
        f'Super-resolution by {card.scale}. Made by kdsr {kdsr.__version__}.',
        '',
        '| | |',
        '|---|---|',
        *([f'| for | {card.purpose} |'] if card.purpose else []),
        f'| network | `{json.dumps(dict(card.network))}` |',
        f'| parameters | {card.parameters:,} |',
        f'| input `lq` | (N, {channels}, h, w), float32, {colour}, [0, 1] |',
        f'| output `sr` | (N, {channels}, {card.scale}h, {card.scale}w), the same, to be clamped to [0, 1] |',
        f'| licence of the training data | {card.data_licence} |',
        '',
    ]
    if card.metrics:
        heading = 'Scores' if card.protocol else 'Validation scores of the run'
        text = f'{card.protocol}\n\n' if card.protocol else ''
        sections = {heading: text + _format_metrics(card.metrics), **sections}
    if card.training:
        sections = {**sections, 'Training options': f'```yaml\n{card.training.rstrip()}\n```'}
    for heading, text in sections.items():
        lines += [f'## {heading}', '', text, '']
    return '\n'.join(lines)


def _format_metrics(metrics: Mapping[str, Mapping[str, float]]) -> str:
    names = list(dict.fromkeys(name for scores in metrics.values() for name in scores))
    lines = [f'| set | {" | ".join(names)} |', '|---|' + '---|' * len(names)]
    for dataset, scores in metrics.items():
        cells = (f'{scores[name]:.4f}' if name in scores else '' for name in names)
        lines.append(f'| {dataset} | {" | ".join(cells)} |')
    return '\n'.join(lines)
