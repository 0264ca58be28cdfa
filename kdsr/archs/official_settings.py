"""Settings that an official file does not show (range, mean colour, channel order), found out on photos."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

from basicsr.utils.registry import ARCH_REGISTRY
from torch import Tensor

from kdsr.archs.official_family import AUTHORS_CODE
from kdsr.distillation.building import build_network_at
from kdsr.distillation.photo_probe import Probe, probe
from kdsr.errors import UserError
from kdsr.experiment import argument_of, window_of

Weights = dict[str, Tensor]
RANGES = (1.0, 255.0)
MEANS = ([0.4488, 0.4371, 0.404], [0.0, 0.0, 0.0])  # of DIV2K, and none
CLEARLY = 0.1  # dB by which other settings must be better than the authors' usual ones
RUINED = 6.0  # dB below bicubic upsampling; networks trained with a GAN or for bad images lose less on clean photos


def choose_settings(options: dict[str, Any], weights: Weights, source: str) -> tuple[dict[str, Any], Weights, Probe]:
    """Return the settings with which a network is best on photos.

    The range of its images (0..1 or 0..255) and the mean colour are tried where the file does not show them, then the
    order of the channels. The usual settings of its authors stay unless others are clearly better.

    Args:
        options: Of the network, with the usual settings.
        weights: By the network's own names. They fit it.
        source: Their file, for messages.

    Returns:
        The options, the weights (with the channels of the first and the last layer reversed for a network of BGR), and
        the scores on the photos.

    Raises:
        UserError: the network is far below bicubic upsampling whatever the settings.
    """
    best, scores = options, _probe(options, weights)
    for other in _variants(options, weights):
        new = _probe(other, weights)
        if new.psnr > scores.psnr + CLEARLY:
            best, scores = other, new
    if _channels(options) == 3:
        reversed_options, reversed_weights = reverse_channels(best, weights)
        new = _probe(reversed_options, reversed_weights)
        if new.psnr > scores.psnr + CLEARLY:
            best, weights, scores = reversed_options, reversed_weights, new
    if scores.loses and not scores.psnr > scores.bicubic - RUINED:
        raise UserError(
            f'{source!r} has the tensors of {options["type"]}, but does not work as one: at best '
            f'{scores.describe()} (tried: the range of the images, the mean colour, the order of the channels). It is '
            f'probably of another network with the same tensors. {AUTHORS_CODE} If it has other settings, say them: '
            f"--network '{{type: {options['type']}, ...}}'."
        )
    return best, weights, scores


def _channels(options: dict[str, Any]) -> int:
    return int(options.get('num_in_ch', options.get('in_chans', 3)))


def _variants(options: dict[str, Any], weights: Weights) -> Iterator[dict[str, Any]]:
    """Yield the other settings that the network can have, as far as the file does not show them."""
    arguments = inspect.signature(ARCH_REGISTRY.get(options['type'])).parameters
    ranges = [r for r in RANGES if r != options.get('img_range')] if 'img_range' in arguments else []
    for img_range in ranges:
        yield {**options, 'img_range': img_range}
    for res_scale in (1.0, 0.1) if 'res_scale' in options else ():
        if res_scale != options['res_scale']:
            yield {**options, 'res_scale': res_scale}
    shown = 'rgb_mean' in options or any(name.startswith('sub_mean.') for name in weights)
    if 'rgb_mean' in arguments and not shown:
        usual = list(argument_of(options, 'rgb_mean'))
        for mean in MEANS:
            for img_range in RANGES if mean != usual else ():
                yield {**options, 'img_range': img_range, 'rgb_mean': mean}


def reverse_channels(options: dict[str, Any], weights: Weights) -> tuple[dict[str, Any], Weights]:
    """Return the network that does with RGB what the given one does with BGR.

    Args:
        options: Of a network of three channels that begins with `conv_first` and ends with `conv_last` or `upsample.0`.
            BSRN's first layer sees the image several times, which the reversal keeps.
        weights: By its own names.
    """
    last = 'conv_last.' if 'conv_last.weight' in weights else 'upsample.0.'
    changed = dict(weights)
    for name, tensor in weights.items():
        if name in ('conv_first.weight', 'conv_first.pw.weight'):
            changed[name] = tensor.flip(1)
        elif name.startswith(last):  # a sub-pixel layer has S^2 maps for each channel
            changed[name] = tensor.unflatten(0, (3, -1)).flip(0).flatten(0, 1)
        elif name.startswith(('sub_mean.', 'add_mean.')):
            changed[name] = tensor.flip([dim for dim, size in enumerate(tensor.shape) if size == 3])
    mean = {'rgb_mean': list(reversed(options['rgb_mean']))} if 'rgb_mean' in options else {}
    return {**options, **mean}, changed


def _probe(options: dict[str, Any], weights: Weights) -> Probe:
    network = build_network_at('network', options).eval()
    network.load_state_dict(weights)
    return probe(network, int(options['upscale']), _channels(options), window_of(options))
