"""Official checkpoints: how their files are recognised, and what network with which settings they are of."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from kdsr.archs.official_names import (
    CARN_RULES,
    E_RFDN_RULES,
    EDSR_RULES,
    FSRCNN_RULES,
    IMDN_RULES,
    RCAN_RULES,
    SAN_RULES,
    VDSR_RULES,
    Rule,
    Weights,
    rename,
)
from kdsr.distillation.building import build_network_at
from kdsr.errors import UserError


@dataclass(frozen=True)
class Family:
    """Checkpoints that one rule book converts; a new architecture is one more entry of `FAMILIES`.

    Attributes:
        name: What people call the network.
        origin: Whose files these are, and what marks them, for the message that lists what is recognised.
        markers: Patterns; a file is of the family when every one of them matches a key.
        rules: (pattern of a whole key, its new name); the first match counts, None drops the tensor, and a key without
            a match is kept.
        describe: Returns the options of the network, `type` included, from the file's weights.
        note: What the user has to know beside the options.
    """

    name: str
    origin: str
    markers: tuple[str, ...]
    rules: Sequence[Rule]
    describe: Callable[[Weights], dict[str, Any]]
    note: str = ''

    def recognises(self, weights: Weights) -> bool:
        """Tell whether the names in `weights` are this family's."""
        return all(any(re.fullmatch(marker, key) for key in weights) for marker in self.markers)


# What the files do not say in words.


def _size(weights: Weights, key: str, dim: int = 0) -> int:
    if key not in weights or weights[key].dim() <= dim:
        raise UserError(f'the tensor {key!r} is missing or has too few dimensions.')
    return weights[key].shape[dim]


def _count(weights: Weights, pattern: str) -> int:
    """Return how many different numbers stand where `pattern` has its group."""
    return len({match[1] for match in (re.match(pattern, key) for key in weights) if match})


def _shuffled_scale(weights: Weights, key: str, channels: int) -> int:
    """Return S where the convolution `key` makes S^2 maps for each of `channels`."""
    return round((_size(weights, key) / channels) ** 0.5)


def _stepped_scale(weights: Weights, prefix: str, num_feat: int) -> int:
    """Return the product of the steps of a sub-pixel upsampler: 2, 2*2, ... or 3."""
    keys = [key for key in weights if re.fullmatch(re.escape(prefix) + r'\d+\.weight', key)]
    scale = 1
    for key in keys:
        scale *= _shuffled_scale(weights, key, num_feat)
    return scale


def _imdn(weights: Weights) -> dict[str, Any]:
    num_feat = _size(weights, 'fea_conv.weight')
    return {
        'type': 'IMDN',
        'upscale': _shuffled_scale(weights, 'upsampler.0.weight', 3),
        'num_feat': num_feat,
        'num_block': _count(weights, r'IMDB(\d+)\.'),
        'cca_reduction': num_feat // _size(weights, 'IMDB1.cca.conv_du.0.weight'),
        'img_range': 1.0,
    }


def _e_rfdn(weights: Weights) -> dict[str, Any]:
    return {
        'type': 'RFDN',
        'upscale': _shuffled_scale(weights, 'upsampler.0.weight', 3),
        'num_feat': _size(weights, 'fea_conv.weight'),
        'num_block': _count(weights, r'B(\d+)\.'),
        'block': 'e_rfdb',
        'img_range': 255.0,
    }


def _carn(weights: Weights) -> dict[str, Any]:
    num_feat = _size(weights, 'entry.weight')
    mobile = 'b1.b2.body.0.weight' not in weights
    multi_scale = any(key.startswith('upsample.up4.') for key in weights)
    options = {
        'type': 'CARN',
        'upscale': 4 if multi_scale else _stepped_scale(weights, 'upsample.up.body.', num_feat),
        'num_feat': num_feat,
        'multi_scale': multi_scale,
        'img_range': 1.0,
    }
    if mobile:
        options.update(mobile=True, groups=num_feat // _size(weights, 'b1.b1.body.0.weight', 1))
    return options


def _vdsr(weights: Weights) -> dict[str, Any]:
    return {
        'type': 'VDSR',
        'upscale': 4,
        'num_in_ch': _size(weights, 'input.weight', 1),
        'num_feat': _size(weights, 'input.weight'),
        'num_block': _count(weights, r'residual_layer\.(\d+)\.'),
        'img_range': 1.0,
    }


def _edsr_family(weights: Weights) -> dict[str, Any]:
    """Return what RCAN and EDSR have in common, with the mean colour and the range that the file states."""
    num_feat = _size(weights, 'head.0.weight')
    options: dict[str, Any] = {
        'num_in_ch': _size(weights, 'head.0.weight', 1),
        'num_out_ch': _size(weights, 'tail.1.weight'),
        'num_feat': num_feat,
        'upscale': _stepped_scale(weights, 'tail.0.', num_feat),
        'img_range': 255.0,
    }
    if 'sub_mean.bias' in weights:
        shift = [-float(c) for c in weights['sub_mean.bias'].flatten()]
        options['img_range'] = 255.0 if max(shift) > 1 else 1.0
        options['rgb_mean'] = [round(c / options['img_range'], 4) for c in shift]
    return options


def _rcan(weights: Weights) -> dict[str, Any]:
    common = _edsr_family(weights)
    squeezed = _size(weights, 'body.0.body.0.body.3.conv_du.0.weight')
    return {
        'type': 'RCAN',
        'num_group': _count(weights, r'body\.(\d+)\.body\.'),
        'num_block': _count(weights, r'body\.0\.body\.(\d+)\.body\.'),
        'squeeze_factor': common['num_feat'] // squeezed,
        **common,
    }


def _edsr(weights: Weights) -> dict[str, Any]:
    common = _edsr_family(weights)
    return {
        'type': 'EDSR',
        'num_block': _count(weights, r'body\.(\d+)\.body\.'),
        'res_scale': 0.1 if common['num_feat'] >= 256 else 1.0,
        **common,
    }


def _san(weights: Weights) -> dict[str, Any]:
    num_feat = _size(weights, 'head.0.weight')
    return {
        'type': 'SAN',
        'upscale': _stepped_scale(weights, 'tail.0.', num_feat),
        'num_feat': num_feat,
        'num_group': _count(weights, r'RG\.(\d+)\.'),
        'num_block': _count(weights, r'RG\.0\.rcab\.(\d+)\.'),
        'squeeze_factor': num_feat // _size(weights, 'RG.0.soca.conv_du.0.weight'),
        'non_local_reduction': num_feat // _size(weights, 'non_local.non_local.g.weight'),
        'img_range': 255.0,
    }


def _swinir(weights: Weights) -> dict[str, Any]:
    depth = _count(weights, r'layers\.(\d+)\.')
    first = 'layers.0.residual_group.blocks.0.'
    table = first + 'attn.relative_position_bias_table'
    window = (round(_size(weights, table) ** 0.5) + 1) // 2
    embed_dim, channels = _size(weights, 'conv_first.weight'), _size(weights, 'conv_first.weight', 1)
    mask = f'{first[:-2]}1.attn_mask'
    blocks = r'layers\.{}\.residual_group\.blocks\.(\d+)\.'
    return {
        'type': 'SwinIR',
        **_swinir_upsampler(weights, channels),
        'in_chans': channels,
        'img_size': window * round(_size(weights, mask) ** 0.5) if mask in weights else 64,
        'window_size': window,
        'img_range': 255.0 if window == 7 else 1.0,
        'depths': [_count(weights, blocks.format(i)) for i in range(depth)],
        'embed_dim': embed_dim,
        'num_heads': [_size(weights, table.replace('layers.0', f'layers.{i}'), 1) for i in range(depth)],
        'mlp_ratio': _size(weights, first + 'mlp.fc1.weight') / embed_dim,
        'resi_connection': '3conv' if 'conv_after_body.0.weight' in weights else '1conv',
    }


def _swinir_upsampler(weights: Weights, channels: int) -> dict[str, Any]:
    if 'conv_up1.weight' in weights:
        return {'upscale': 4, 'upsampler': 'nearest+conv'}
    if 'conv_before_upsample.0.weight' in weights:
        num_feat = _size(weights, 'conv_before_upsample.0.weight')
        return {'upscale': _stepped_scale(weights, 'upsample.', num_feat), 'upsampler': 'pixelshuffle'}
    if 'upsample.0.weight' in weights:
        scale = _shuffled_scale(weights, 'upsample.0.weight', channels)
        return {'upscale': scale, 'upsampler': 'pixelshuffledirect'}
    return {'upscale': 1, 'upsampler': ''}


def _fsrcnn(weights: Weights) -> dict[str, Any]:
    renamed = rename(weights, FSRCNN_RULES)
    options = {
        'type': 'FSRCNN',
        'num_in_ch': _size(renamed, 'feature_extraction.0.weight', 1),
        'num_out_ch': _size(renamed, 'last_layer.weight', 1),
        'num_feat': _size(renamed, 'feature_extraction.0.weight'),
        'num_shrink': _size(renamed, 'shrinking.0.weight'),
        'num_map': _count(renamed, r'mapping\.(\d+)\.'),
        'img_range': 1.0,
    }
    errors = {scale: _grey_error({**options, 'upscale': scale}, renamed) for scale in (2, 3, 4)}
    return {**options, 'upscale': min(errors, key=errors.__getitem__)}


@torch.no_grad()
def _grey_error(options: dict[str, Any], weights: Weights) -> float:
    """Return how far a grey image is from grey afterwards; a wrong stride makes it darker or brighter by its square."""
    network = build_network_at('network', options)
    network.load_state_dict(dict(weights))
    margin = 8 * options['upscale']  # what the zeros around the image reach
    grey = network(torch.full((1, options['num_in_ch'], 24, 24), 0.5))
    return abs(grey[..., margin:-margin, margin:-margin].mean().item() - 0.5)


# The first family that recognises a file converts it: one whose names are a special case of another's comes first.
FAMILIES: tuple[Family, ...] = (
    Family('IMDN', 'Zheng222/IMDN (IMDB1.c1, ...)', (r'IMDB1\.c1\.weight', r'fea_conv\.weight'), IMDN_RULES, _imdn),
    Family(
        'E-RFDN',
        'njulj/RFDN, the AIM 2020 entry (B1.esa.conv1, ...)',
        (r'B1\.esa\.conv1\.weight', r'fea_conv\.weight'),
        E_RFDN_RULES,
        _e_rfdn,
        'The weights want 0..255 without a mean shift; `img_range` sees to it (on 0..1 they give 6 dB less).',
    ),
    Family(
        'CARN',
        'nmhkahn/CARN-pytorch, CARN and CARN-M (entry, b1.c1.body.0, exit)',
        (r'entry\.weight', r'b1\.c1\.body\.0\.weight', r'exit\.weight'),
        CARN_RULES,
        _carn,
        'A file with `multi_scale` serves x2, x3 and x4: set `upscale`.',
    ),
    Family(
        'VDSR',
        'twtygqyy/pytorch-vdsr (input, residual_layer.0.conv, output)',
        (r'input\.weight', r'residual_layer\.0\.conv\.weight', r'output\.weight'),
        VDSR_RULES,
        _vdsr,
        'One file serves every scale: set `upscale`. The network enlarges its input itself.',
    ),
    Family(
        'SAN',
        'daitao/SAN (head.0, RG.0.rcab.0.conv_first.0, non_local.non_local.g, tail.1)',
        (r'head\.0\.weight', r'RG\.0\.rcab\.0\.conv_first\.0\.weight', r'non_local\.non_local\.g\.weight'),
        SAN_RULES,
        _san,
    ),
    Family(
        'RCAN',
        'yulunzhang/RCAN and the EDSR-PyTorch family (head.0, body.0.body.0.body.3.conv_du.0, tail.1)',
        (r'head\.0\.weight', r'body\.0\.body\.0\.body\.3\.conv_du\.0\.weight', r'tail\.1\.weight'),
        RCAN_RULES,
        _rcan,
    ),
    Family(
        'EDSR',
        'EDSR-PyTorch and its family (head.0, body.0.body.2, tail.1)',
        (r'head\.0\.weight', r'body\.0\.body\.2\.weight', r'tail\.1\.weight'),
        EDSR_RULES,
        _edsr,
        'The file does not hold `res_scale`: the authors have 0.1 at 256 channels and 1 below.',
    ),
    Family(
        'SwinIR',
        'JingyunLiang/SwinIR (params or params_ema; layers.0.residual_group.blocks.0, ...)',
        (r'conv_first\.weight', r'layers\.0\.residual_group\.blocks\.0\.attn\.relative_position_bias_table'),
        (),
        _swinir,
        'The file does not hold `img_range`: the authors have 1, and 255 with their windows of 7 (JPEG artefacts).',
    ),
    Family(
        'FSRCNN',
        'cvlab-yonsei/PISR, a student, or a teacher, whose decoder is taken (backbone.network.feature_extraction, ...)',
        (r'(backbone\.)?network\.feature_extraction\.0\.0\.weight', r'(backbone\.)?network\.last_layer\.0\.0\.weight'),
        FSRCNN_RULES,
        _fsrcnn,
        'The file does not hold `upscale`: it is the one of 2, 3 and 4 at which a grey image stays grey.',
    ),
)
