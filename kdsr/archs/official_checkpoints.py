"""Official checkpoints: recognise their files, and read the settings of their networks from the tensors."""

from __future__ import annotations

from typing import Any

import torch

from kdsr.archs.official_efficient import EFFICIENT
from kdsr.archs.official_family import (
    Family,
    count_numbers,
    read_shuffled_scale,
    read_size,
    read_stepped_scale,
)
from kdsr.archs.official_names import (
    CARN_RULES,
    E_RFDN_RULES,
    EDSR_RULES,
    FSRCNN_RULES,
    IMDN_RULES,
    RCAN_RULES,
    SAN_RULES,
    VDSR_RULES,
    Weights,
    rename,
)
from kdsr.distillation.building import build_network_at


def _describe_imdn(weights: Weights) -> dict[str, Any]:
    num_feat = read_size(weights, 'fea_conv.weight')
    return {
        'type': 'IMDN',
        'upscale': read_shuffled_scale(weights, 'upsampler.0.weight', 3),
        'num_feat': num_feat,
        'num_block': count_numbers(weights, r'IMDB(\d+)\.'),
        'cca_reduction': num_feat // read_size(weights, 'IMDB1.cca.conv_du.0.weight'),
        'img_range': 1.0,
    }


def _describe_e_rfdn(weights: Weights) -> dict[str, Any]:
    return {
        'type': 'RFDN',
        'upscale': read_shuffled_scale(weights, 'upsampler.0.weight', 3),
        'num_feat': read_size(weights, 'fea_conv.weight'),
        'num_block': count_numbers(weights, r'B(\d+)\.'),
        'block': 'e_rfdb',
        'img_range': 255.0,
    }


def _describe_carn(weights: Weights) -> dict[str, Any]:
    num_feat = read_size(weights, 'entry.weight')
    mobile = 'b1.b2.body.0.weight' not in weights
    multi_scale = any(key.startswith('upsample.up4.') for key in weights)
    options = {
        'type': 'CARN',
        'upscale': 4 if multi_scale else read_stepped_scale(weights, 'upsample.up.body.', num_feat),
        'num_feat': num_feat,
        'multi_scale': multi_scale,
        'img_range': 1.0,
    }
    if mobile:
        options.update(mobile=True, groups=num_feat // read_size(weights, 'b1.b1.body.0.weight', 1))
    return options


def _describe_vdsr(weights: Weights) -> dict[str, Any]:
    return {
        'type': 'VDSR',
        'upscale': 4,
        'num_in_ch': read_size(weights, 'input.weight', 1),
        'num_feat': read_size(weights, 'input.weight'),
        'num_block': count_numbers(weights, r'residual_layer\.(\d+)\.'),
        'img_range': 1.0,
    }


def _describe_edsr_family(weights: Weights) -> dict[str, Any]:
    """Return the options that RCAN and EDSR share, with the mean colour and the range in the file."""
    num_feat = read_size(weights, 'head.0.weight')
    options: dict[str, Any] = {
        'num_in_ch': read_size(weights, 'head.0.weight', 1),
        'num_out_ch': read_size(weights, 'tail.1.weight'),
        'num_feat': num_feat,
        'upscale': read_stepped_scale(weights, 'tail.0.', num_feat),
        'img_range': 255.0,
    }
    if 'sub_mean.bias' in weights:
        shift = [-float(c) for c in weights['sub_mean.bias'].flatten()]
        options['img_range'] = 255.0 if max(shift) > 1 else 1.0
        options['rgb_mean'] = [round(c / options['img_range'], 4) for c in shift]
    return options


def _describe_rcan(weights: Weights) -> dict[str, Any]:
    common = _describe_edsr_family(weights)
    squeezed = read_size(weights, 'body.0.body.0.body.3.conv_du.0.weight')
    return {
        'type': 'RCAN',
        'num_group': count_numbers(weights, r'body\.(\d+)\.body\.'),
        'num_block': count_numbers(weights, r'body\.0\.body\.(\d+)\.body\.'),
        'squeeze_factor': common['num_feat'] // squeezed,
        **common,
    }


def _describe_edsr(weights: Weights) -> dict[str, Any]:
    common = _describe_edsr_family(weights)
    return {
        'type': 'EDSR',
        'num_block': count_numbers(weights, r'body\.(\d+)\.body\.'),
        'res_scale': 0.1 if common['num_feat'] >= 256 else 1.0,
        **common,
    }


def _describe_basicsr_edsr(weights: Weights) -> dict[str, Any]:
    num_feat = read_size(weights, 'conv_first.weight')
    return {
        'type': 'EDSR',
        'num_in_ch': read_size(weights, 'conv_first.weight', 1),
        'num_out_ch': read_size(weights, 'conv_last.weight'),
        'num_feat': num_feat,
        'num_block': count_numbers(weights, r'body\.(\d+)\.conv1\.'),
        'upscale': read_stepped_scale(weights, 'upsample.', num_feat),
        'res_scale': 0.1 if num_feat >= 256 else 1.0,
        'img_range': 255.0,
    }


def _describe_basicsr_rcan(weights: Weights) -> dict[str, Any]:
    num_feat = read_size(weights, 'conv_first.weight')
    squeezed = read_size(weights, 'body.0.residual_group.0.rcab.3.attention.1.weight')
    return {
        'type': 'RCAN',
        'num_in_ch': read_size(weights, 'conv_first.weight', 1),
        'num_out_ch': read_size(weights, 'conv_last.weight'),
        'num_feat': num_feat,
        'num_group': count_numbers(weights, r'body\.(\d+)\.residual_group\.'),
        'num_block': count_numbers(weights, r'body\.0\.residual_group\.(\d+)\.'),
        'squeeze_factor': num_feat // squeezed,
        'upscale': read_stepped_scale(weights, 'upsample.', num_feat),
        'img_range': 255.0,
    }


def _describe_msrresnet(weights: Weights) -> dict[str, Any]:
    num_feat = read_size(weights, 'conv_first.weight')
    first = read_shuffled_scale(weights, 'upconv1.weight', num_feat)
    return {
        'type': 'MSRResNet',
        'num_in_ch': read_size(weights, 'conv_first.weight', 1),
        'num_out_ch': read_size(weights, 'conv_last.weight'),
        'num_feat': num_feat,
        'num_block': count_numbers(weights, r'body\.(\d+)\.conv1\.'),
        'upscale': first * (2 if 'upconv2.weight' in weights else 1),
    }


def _describe_san(weights: Weights) -> dict[str, Any]:
    num_feat = read_size(weights, 'head.0.weight')
    return {
        'type': 'SAN',
        'upscale': read_stepped_scale(weights, 'tail.0.', num_feat),
        'num_feat': num_feat,
        'num_group': count_numbers(weights, r'RG\.(\d+)\.'),
        'num_block': count_numbers(weights, r'RG\.0\.rcab\.(\d+)\.'),
        'squeeze_factor': num_feat // read_size(weights, 'RG.0.soca.conv_du.0.weight'),
        'non_local_reduction': num_feat // read_size(weights, 'non_local.non_local.g.weight'),
        'img_range': 255.0,
    }


def _describe_swinir(weights: Weights) -> dict[str, Any]:
    depth = count_numbers(weights, r'layers\.(\d+)\.')
    first = 'layers.0.residual_group.blocks.0.'
    table = first + 'attn.relative_position_bias_table'
    window = (round(read_size(weights, table) ** 0.5) + 1) // 2
    embed_dim, channels = read_size(weights, 'conv_first.weight'), read_size(weights, 'conv_first.weight', 1)
    mask = f'{first[:-2]}1.attn_mask'
    blocks = r'layers\.{}\.residual_group\.blocks\.(\d+)\.'
    return {
        'type': 'SwinIR',
        **_describe_swinir_upsampler(weights, channels),
        'in_chans': channels,
        'img_size': window * round(read_size(weights, mask) ** 0.5) if mask in weights else 64,
        'window_size': window,
        'img_range': 255.0 if window == 7 else 1.0,
        'depths': [count_numbers(weights, blocks.format(i)) for i in range(depth)],
        'embed_dim': embed_dim,
        'num_heads': [read_size(weights, table.replace('layers.0', f'layers.{i}'), 1) for i in range(depth)],
        'mlp_ratio': read_size(weights, first + 'mlp.fc1.weight') / embed_dim,
        'resi_connection': '3conv' if 'conv_after_body.0.weight' in weights else '1conv',
    }


def _describe_swinir_upsampler(weights: Weights, channels: int) -> dict[str, Any]:
    if 'conv_up1.weight' in weights:
        return {'upscale': 4, 'upsampler': 'nearest+conv'}
    if 'conv_before_upsample.0.weight' in weights:
        num_feat = read_size(weights, 'conv_before_upsample.0.weight')
        return {'upscale': read_stepped_scale(weights, 'upsample.', num_feat), 'upsampler': 'pixelshuffle'}
    if 'upsample.0.weight' in weights:
        scale = read_shuffled_scale(weights, 'upsample.0.weight', channels)
        return {'upscale': scale, 'upsampler': 'pixelshuffledirect'}
    return {'upscale': 1, 'upsampler': ''}


def _describe_fsrcnn(weights: Weights) -> dict[str, Any]:
    renamed = rename(weights, FSRCNN_RULES)
    options = {
        'type': 'FSRCNN',
        'num_in_ch': read_size(renamed, 'feature_extraction.0.weight', 1),
        'num_out_ch': read_size(renamed, 'last_layer.weight', 1),
        'num_feat': read_size(renamed, 'feature_extraction.0.weight'),
        'num_shrink': read_size(renamed, 'shrinking.0.weight'),
        'num_map': count_numbers(renamed, r'mapping\.(\d+)\.'),
        'img_range': 1.0,
    }
    errors = {scale: _measure_grey_error({**options, 'upscale': scale}, renamed) for scale in (2, 3, 4)}
    return {**options, 'upscale': min(errors, key=errors.__getitem__)}


@torch.no_grad()
def _measure_grey_error(options: dict[str, Any], weights: Weights) -> float:
    """Return the error of a grey image; a wrong stride makes the output darker or brighter."""
    network = build_network_at('network', options)
    network.load_state_dict(dict(weights))
    margin = 8 * options['upscale']  # influenced by the zeros around the image
    grey = network(torch.full((1, options['num_in_ch'], 24, 24), 0.5))
    return abs(grey[..., margin:-margin, margin:-margin].mean().item() - 0.5)


# The first family that recognises a file converts it, so special cases come before general ones.
FAMILIES: tuple[Family, ...] = (
    Family(
        'IMDN', 'Zheng222/IMDN (IMDB1.c1, ...)', (r'IMDB1\.c1\.weight', r'fea_conv\.weight'), IMDN_RULES, _describe_imdn
    ),
    Family(
        'E-RFDN',
        'njulj/RFDN, the AIM 2020 entry (B1.esa.conv1, ...)',
        (r'B1\.c1_d\.weight', r'B1\.esa\.conv1\.weight', r'fea_conv\.weight'),
        E_RFDN_RULES,
        _describe_e_rfdn,
        'The file does not contain `img_range`: the authors use 255, others 1; kdsr takes the better one on photos. A '
        "variant with dilated convolutions has the same tensors, but loses 0.2 dB: compare with the authors' score.",
    ),
    Family(
        'CARN',
        'nmhkahn/CARN-pytorch, CARN and CARN-M (entry, b1.c1.body.0, exit)',
        (r'entry\.weight', r'b1\.c1\.body\.0\.weight', r'exit\.weight'),
        CARN_RULES,
        _describe_carn,
        'A file with `multi_scale` serves x2, x3 and x4: set `upscale`.',
    ),
    Family(
        'VDSR',
        'twtygqyy/pytorch-vdsr (input, residual_layer.0.conv, output)',
        (r'input\.weight', r'residual_layer\.0\.conv\.weight', r'output\.weight'),
        VDSR_RULES,
        _describe_vdsr,
        'One file serves every scale: set `upscale`. The network upsamples its input itself.',
    ),
    Family(
        'SAN',
        'daitao/SAN (head.0, RG.0.rcab.0.conv_first.0, non_local.non_local.g, tail.1)',
        (r'head\.0\.weight', r'RG\.0\.rcab\.0\.conv_first\.0\.weight', r'non_local\.non_local\.g\.weight'),
        SAN_RULES,
        _describe_san,
    ),
    Family(
        'RCAN',
        'yulunzhang/RCAN and the EDSR-PyTorch family (head.0, body.0.body.0.body.3.conv_du.0, tail.1)',
        (r'head\.0\.weight', r'body\.0\.body\.0\.body\.3\.conv_du\.0\.weight', r'tail\.1\.weight'),
        RCAN_RULES,
        _describe_rcan,
    ),
    Family(
        'EDSR',
        'EDSR-PyTorch and its family (head.0, body.0.body.2, tail.1)',
        (r'head\.0\.weight', r'body\.0\.body\.2\.weight', r'tail\.1\.weight'),
        EDSR_RULES,
        _describe_edsr,
        'The file does not contain `res_scale`: kdsr takes the better one of 1 and 0.1 on photos.',
    ),
    Family(
        'RCAN',
        'BasicSR itself (body.0.residual_group.0.rcab.0)',
        (r'conv_first\.weight', r'body\.0\.residual_group\.0\.rcab\.0\.weight', r'conv_after_body\.weight'),
        (),
        _describe_basicsr_rcan,
    ),
    Family(
        'EDSR',
        'BasicSR itself (conv_first, body.0.conv1, conv_after_body)',
        (r'conv_first\.weight', r'body\.0\.conv1\.weight', r'conv_after_body\.weight', r'conv_last\.weight'),
        (),
        _describe_basicsr_edsr,
        'The file does not contain `res_scale`: kdsr takes the better one of 1 and 0.1 on photos.',
    ),
    Family(
        'MSRResNet',
        'BasicSR itself (conv_first, body.0.conv1, upconv1)',
        (r'conv_first\.weight', r'body\.0\.conv1\.weight', r'upconv1\.weight', r'conv_hr\.weight'),
        (),
        _describe_msrresnet,
    ),
    Family(
        'SwinIR',
        'JingyunLiang/SwinIR (params or params_ema; layers.0.residual_group.blocks.0, ...)',
        (r'conv_first\.weight', r'layers\.0\.residual_group\.blocks\.0\.attn\.relative_position_bias_table'),
        (),
        _describe_swinir,
        'The file does not contain `img_range`: kdsr takes the better one of 1 and 255 on photos.',
    ),
    Family(
        'FSRCNN',
        'cvlab-yonsei/PISR, a student, or a teacher: its decoder (backbone.network.feature_extraction, ...)',
        (r'(backbone\.)?network\.feature_extraction\.0\.0\.weight', r'(backbone\.)?network\.last_layer\.0\.0\.weight'),
        FSRCNN_RULES,
        _describe_fsrcnn,
        'The file does not contain `upscale`: kdsr takes the one of 2, 3 and 4 that keeps a grey image grey.',
    ),
    *EFFICIENT,
)
