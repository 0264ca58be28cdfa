"""Official checkpoints of networks for efficient super-resolution (NTIRE's challenges), and of LapSRN."""

from __future__ import annotations

from typing import Any

from kdsr.archs.official_family import Family, count_numbers, read_shuffled_scale, read_size
from kdsr.archs.official_names import Rule, Weights, apply_rules, count_from_0, rename
from kdsr.distillation.building import build_network_at
from kdsr.distillation.photo_probe import probe

RLFN_RULES: tuple[Rule, ...] = (
    (r'(?:conv_1|fea_conv)\.(\w+)', r'conv_first.\1'),
    (r'(?:block_|B)(\d+)\.c([123])_r\.(\w+)', count_from_0('body.{}.refine.{}.{}')),
    (r'(?:block_|B)(\d+)\.c5\.(\w+)', count_from_0('body.{}.fuse.{}')),
    (r'(?:block_|B)(\d+)\.esa\.(\w+\.\w+)', count_from_0('body.{}.attention.{}')),
    (r'(?:conv_2|LR_conv)\.(\w+)', r'conv_after_body.\1'),
    (r'upsampler\.0\.(\w+)', r'upsample.0.\1'),
)
BSRN_RULES: tuple[Rule, ...] = (
    (r'fea_conv\.([pd]w\.\w+)', r'conv_first.\1'),
    (r'B(\d+)\.c([123])_d\.(\w+)', count_from_0('body.{}.distill.{}.{}')),
    (r'B(\d+)\.c([123])_r\.([pd]w\.\w+)', count_from_0('body.{}.refine.{}.{}')),
    (r'B(\d+)\.c4\.([pd]w\.\w+)', count_from_0('body.{}.last.{}')),
    (r'B(\d+)\.c5\.(\w+)', count_from_0('body.{}.fuse.{}')),
    (r'B(\d+)\.esa\.([\w.]+)', count_from_0('body.{}.attention.0.{}')),
    (r'B(\d+)\.cca\.conv_du\.([02]\.\w+)', count_from_0('body.{}.attention.1.attention.{}')),
    (r'c1\.(\w+)', r'fuse.0.\1'),
    (r'c2\.([pd]w\.\w+)', r'conv_after_body.\1'),
    (r'upsampler\.upsampleOneStep\.0\.(\w+)', r'upsample.0.\1'),
)
PAN_RULES: tuple[Rule, ...] = (
    (r'SCPA_trunk\.(\d+)\.conv1_a\.(\w+)', r'body.\1.enter.0.\2'),
    (r'SCPA_trunk\.(\d+)\.conv1_b\.(\w+)', r'body.\1.enter.1.\2'),
    (r'SCPA_trunk\.(\d+)\.k1\.0\.(\w+)', r'body.\1.plain.\2'),
    (r'SCPA_trunk\.(\d+)\.PAConv\.k2\.(\w+)', r'body.\1.mask.\2'),
    (r'SCPA_trunk\.(\d+)\.PAConv\.k3\.(\w+)', r'body.\1.masked.0.\2'),
    (r'SCPA_trunk\.(\d+)\.PAConv\.k4\.(\w+)', r'body.\1.masked.1.\2'),
    (r'SCPA_trunk\.(\d+)\.conv3\.(\w+)', r'body.\1.fuse.\2'),
    (r'trunk_conv\.(\w+)', r'conv_after_body.\1'),
    (r'upconv(\d)\.(\w+)', count_from_0('upsample.{}.conv.{}')),
    (r'att(\d)\.conv\.(\w+)', count_from_0('upsample.{}.mask.{}')),
    (r'HRconv(\d)\.(\w+)', count_from_0('upsample.{}.refine.{}')),
)
EFDN_RULES: tuple[Rule, ...] = (
    (r'head\.(\w+)', r'conv_first.\1'),
    (r'cells\.(\d)\.conv1\.conv1x1\.(\w+)', r'body.\1.refine.0.0.\2'),
    (r'cells\.(\d)\.conv2\.rep_conv\.(\w+)', r'body.\1.refine.1.0.\2'),
    (r'cells\.(\d)\.conv3\.rep_conv\.(\w+)', r'body.\1.refine.2.0.\2'),
    (r'cells\.(\d)\.conv1\.act\.(\w+)', r'body.\1.refine.0.1.\2'),
    (r'cells\.(\d)\.conv2\.act\.(\w+)', r'body.\1.refine.1.1.\2'),
    (r'cells\.(\d)\.conv3\.act\.(\w+)', r'body.\1.refine.2.1.\2'),
    (r'cells\.(\d)\.branch\.(\d\.\w+)', r'body.\1.distill.\2'),
    (r'cells\.(\d)\.fuse\.(\w+)', r'body.\1.fuse.\2'),
    (r'cells\.(\d)\.att\.(\w+\.\w+)', r'body.\1.attention.\2'),
    (r'local_fuse\.(\d\.\w+)', r'fuse.\1'),
    (r'tail\.0\.(\w+)', r'upsample.0.\1'),
)
MASK_RULES: tuple[Rule, ...] = (
    (r'squeeze\.(\w+)', r'enter.\1'),
    (r'excitate\.(\w+)', r'leave.\1'),
    (r'convs\.(\d+)\.conv1\.rep_conv\.(\w+)', r'pairs.\1.0.\2'),
    (r'convs\.(\d+)\.conv2\.rep_conv\.(\w+)', r'pairs.\1.2.\2'),
)
FMEN_RULES: tuple[Rule, ...] = (
    (r'head\.(\w+)', r'conv_first.\1'),
    (r'warmup\.0\.(\w+)', r'body.0.0.\1'),
    (r'warmup\.1\.(.+)', lambda match: f'body.0.1.{apply_rules(match[1], MASK_RULES)}'),
    (r'basic_blocks\.(\d+)\.conv1\.rep_conv\.(\w+)', lambda match: f'body.{int(match[1]) + 1}.0.0.{match[2]}'),
    (r'basic_blocks\.(\d+)\.conv2\.rep_conv\.(\w+)', lambda match: f'body.{int(match[1]) + 1}.0.2.{match[2]}'),
    (r'hfabs\.(\d+)\.(.+)', lambda match: f'body.{int(match[1]) + 1}.1.{apply_rules(match[2], MASK_RULES)}'),
    (r'lr_conv\.(\w+)', r'conv_after_body.\1'),
    (r'tail\.0\.(\w+)', r'upsample.0.\1'),
)
LAPSRN_RULES: tuple[Rule, ...] = (
    (r'conv_input\.(\w+)', r'conv_first.\1'),
    (r'convt_F(\d)\.0\.cov_block\.20\.(\w+)', count_from_0('levels.{}.double_features.{}')),
    (
        r'convt_F(\d)\.0\.cov_block\.(\d+)\.(\w+)',
        lambda match: f'levels.{int(match[1]) - 1}.body.{int(match[2]) // 2}.{match[3]}',
    ),
    (r'convt_I(\d)\.(\w+)', count_from_0('levels.{}.double_image.{}')),
    (r'convt_R(\d)\.(\w+)', count_from_0('levels.{}.residual.{}')),
)


def _describe_rlfn(weights: Weights) -> dict[str, Any]:
    renamed = rename(weights, RLFN_RULES)
    return {
        'type': 'RLFN',
        'upscale': read_shuffled_scale(renamed, 'upsample.0.weight', 3),
        'num_feat': read_size(renamed, 'conv_first.weight'),
        'num_block': count_numbers(renamed, r'body\.(\d+)\.'),
        'num_mid': read_size(renamed, 'body.0.refine.0.weight'),
        'num_attention': read_size(renamed, 'body.0.attention.conv1.weight'),
        'img_range': 255.0,
    }


def _describe_bsrn(weights: Weights) -> dict[str, Any]:
    num_feat = read_size(weights, 'fea_conv.pw.weight')
    return {
        'type': 'BSRN',
        'upscale': read_shuffled_scale(weights, 'upsampler.upsampleOneStep.0.weight', 3),
        'num_feat': num_feat,
        'num_block': count_numbers(weights, r'B(\d+)\.'),
        'cca_reduction': num_feat // read_size(weights, 'B1.cca.conv_du.0.weight'),
        'img_range': 1.0,
    }


def _describe_pan(weights: Weights) -> dict[str, Any]:
    options = {
        'type': 'PAN',
        'num_in_ch': read_size(weights, 'conv_first.weight', 1),
        'num_feat': read_size(weights, 'conv_first.weight'),
        'num_block': count_numbers(weights, r'SCPA_trunk\.(\d+)\.'),
        'num_upsample_feat': read_size(weights, 'upconv1.weight'),
        'img_range': 1.0,
    }
    if 'upconv2.weight' in weights:
        return {**options, 'upscale': 4}
    gains = {scale: _measure_gain({**options, 'upscale': scale}, rename(weights, PAN_RULES)) for scale in (2, 3)}
    return {**options, 'upscale': max(gains, key=gains.__getitem__)}


def _measure_gain(options: dict[str, Any], weights: Weights) -> float:
    """Return how much better than bicubic upsampling a network is on photos, in dB."""
    network = build_network_at('network', options).eval()
    network.load_state_dict(dict(weights))
    scores = probe(network, options['upscale'], options['num_in_ch'])
    return scores.psnr - scores.bicubic


def _describe_efdn(weights: Weights) -> dict[str, Any]:
    return {
        'type': 'EFDN',
        'upscale': read_shuffled_scale(weights, 'tail.0.weight', 3),
        'num_feat': read_size(weights, 'head.weight'),
        'img_range': 1.0,
    }


def _describe_fmen(weights: Weights) -> dict[str, Any]:
    return {
        'type': 'FMEN',
        'upscale': read_shuffled_scale(weights, 'tail.0.weight', 3),
        'num_feat': read_size(weights, 'head.weight'),
        'num_block': count_numbers(weights, r'hfabs\.(\d+)\.'),
        'num_mask': read_size(weights, 'hfabs.0.squeeze.weight'),
        'num_pair': count_numbers(weights, r'warmup\.1\.convs\.(\d+)\.'),
        'img_range': 255.0,
    }


def _describe_lapsrn(weights: Weights) -> dict[str, Any]:
    return {
        'type': 'LapSRN',
        'upscale': 2 ** count_numbers(weights, r'convt_F(\d)\.'),
        'num_in_ch': read_size(weights, 'conv_input.weight', 1),
        'num_feat': read_size(weights, 'conv_input.weight'),
        'num_block': count_numbers(weights, r'convt_F1\.0\.cov_block\.(\d+)\.') - 1,
        'img_range': 1.0,
    }


MERGED = (
    'For files whose branches are merged. The file does not contain `img_range`: kdsr takes the better one on photos.'
)
EFFICIENT: tuple[Family, ...] = (
    Family(
        'RLFN',
        'bytedance/RLFN and its entry to NTIRE 2022 (conv_1, block_1.c1_r, ... or fea_conv, B1.c1_r, ...)',
        (r'(conv_1|fea_conv)\.weight', r'(block_|B)1\.c1_r\.weight', r'(block_|B)1\.esa\.conv3\.weight'),
        RLFN_RULES,
        _describe_rlfn,
        'The file does not contain `img_range`: the authors use 255; kdsr takes the better one of 1 and 255 on photos.',
    ),
    Family(
        'BSRN',
        'xiaom233/BSRN (fea_conv.pw, B1.c1_r.pw, B1.cca.conv_du.0)',
        (r'fea_conv\.pw\.weight', r'B1\.c1_r\.pw\.weight', r'B1\.cca\.conv_du\.0\.weight'),
        BSRN_RULES,
        _describe_bsrn,
    ),
    Family(
        'PAN',
        'zhaohengyuan1/PAN (SCPA_trunk.0.conv1_a, upconv1, HRconv1)',
        (r'conv_first\.weight', r'SCPA_trunk\.0\.conv1_a\.weight', r'HRconv1\.weight'),
        PAN_RULES,
        _describe_pan,
        'The files of x2 and x3 have the same tensors: kdsr takes the better scale on photos.',
    ),
    Family(
        'EFDN',
        'icandle/EFDN and its entry to NTIRE 2022 (cells.0.conv2.rep_conv, local_fuse.0)',
        (r'head\.weight', r'cells\.0\.conv2\.rep_conv\.weight', r'local_fuse\.0\.weight'),
        EFDN_RULES,
        _describe_efdn,
        MERGED,
    ),
    Family(
        'FMEN',
        'the entry of FMEN to NTIRE 2022 (warmup.1.squeeze, basic_blocks.0.conv1.rep_conv, hfabs.0.squeeze)',
        (r'head\.weight', r'basic_blocks\.0\.conv1\.rep_conv\.weight', r'hfabs\.0\.squeeze\.weight'),
        FMEN_RULES,
        _describe_fmen,
        MERGED,
    ),
    Family(
        'LapSRN',
        'twtygqyy/pytorch-LapSRN (conv_input, convt_F1.0.cov_block.0, convt_I1, convt_R1)',
        (r'conv_input\.weight', r'convt_F1\.0\.cov_block\.0\.weight', r'convt_I1\.weight'),
        LAPSRN_RULES,
        _describe_lapsrn,
    ),
)
