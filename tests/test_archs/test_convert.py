"""Official checkpoints, made here from our networks by the inverse renaming, and the released ones where they are."""

import os
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from basicsr.archs import build_network

from kdsr.archs import convert, official_efficient
from kdsr.archs.convert import convert_checkpoint
from kdsr.archs.official_checkpoints import FAMILIES
from kdsr.distillation.checkpoint import load_weights
from kdsr.distillation.photo_probe import Probe
from kdsr.errors import UserError
from kdsr.metrics import score
from kdsr.networks.candidates import find_candidates
from kdsr.pictures.images import read_image, super_resolve
from tests.conftest import shared_folder

TRUNK = [
    (r'conv_first\.', 'fea_conv.'),
    (r'fuse\.0\.', 'c.0.'),
    (r'conv_after_body\.', 'LR_conv.'),
    (r'upsample\.0\.', 'upsampler.0.'),
]
IMDN = [
    (r'body\.(\d)\.refine\.(\d)\.', lambda m: f'IMDB{int(m[1]) + 1}.c{int(m[2]) + 1}.'),
    (r'body\.(\d)\.last\.', lambda m: f'IMDB{int(m[1]) + 1}.c4.'),
    (r'body\.(\d)\.fuse\.', lambda m: f'IMDB{int(m[1]) + 1}.c5.'),
    (r'body\.(\d)\.attention\.attention\.', lambda m: f'IMDB{int(m[1]) + 1}.cca.conv_du.'),
    *TRUNK,
]
E_RFDN = [
    (r'body\.(\d)\.distill\.(\d)\.', lambda m: f'B{int(m[1]) + 1}.c{int(m[2]) + 1}_d.'),
    (r'body\.(\d)\.refine\.(\d)\.', lambda m: f'B{int(m[1]) + 1}.c{int(m[2]) + 1}_r.'),
    (r'body\.(\d)\.last\.', lambda m: f'B{int(m[1]) + 1}.c4.'),
    (r'body\.(\d)\.fuse\.', lambda m: f'B{int(m[1]) + 1}.c5.'),
    (r'body\.(\d)\.attention\.', lambda m: f'B{int(m[1]) + 1}.esa.'),
    *TRUNK,
]
CARN = [
    (r'conv_first\.', 'entry.'),
    (r'body\.units\.(\d)\.units\.(\d)\.', lambda m: f'b{int(m[1]) + 1}.b{int(m[2]) + 1}.'),
    (r'body\.units\.(\d)\.fuse\.(\d)\.0', lambda m: f'b{int(m[1]) + 1}.c{int(m[2]) + 1}.body.0'),
    (r'body\.fuse\.(\d)\.0', lambda m: f'c{int(m[1]) + 1}.body.0'),
    (r'upsample\.x(\d)\.', r'upsample.up\1.body.'),
    (r'upsample\.(?=\d)', 'upsample.up.body.'),
    (r'conv_last\.', 'exit.'),
]
VDSR = [
    (r'conv_first\.0\.', 'input.'),
    (r'body\.(\d+)\.0\.', r'residual_layer.\1.conv.'),
    (r'conv_last\.', 'output.'),
]
EDSR = [
    (r'conv_first\.', 'head.0.'),
    (r'body\.(\d)\.conv1\.', r'body.\1.body.0.'),
    (r'body\.(\d)\.conv2\.', r'body.\1.body.2.'),
    (r'conv_after_body\.', 'body.3.'),
    (r'upsample\.', 'tail.0.'),
    (r'conv_last\.', 'tail.1.'),
]
RCAN = [
    (r'body\.(\d)\.residual_group\.(\d)\.rcab\.3\.attention\.1', r'body.\1.body.\2.body.3.conv_du.0'),
    (r'body\.(\d)\.residual_group\.(\d)\.rcab\.3\.attention\.3', r'body.\1.body.\2.body.3.conv_du.2'),
    (r'body\.(\d)\.residual_group\.(\d)\.rcab\.', r'body.\1.body.\2.body.'),
    (r'body\.(\d)\.conv\.', r'body.\1.body.2.'),
    *EDSR,
]
SAN = [
    (r'conv_last\.', 'tail.1.'),
    (r'conv_unused\.', 'conv_last.'),
    (r'conv_first\.', 'head.0.'),
    (r'upsample\.', 'tail.0.'),
    (r'body\.(\d)\.blocks\.(\d)\.conv1\.', r'RG.\1.rcab.\2.conv_first.0.'),
    (r'body\.(\d)\.blocks\.(\d)\.conv2\.', r'RG.\1.rcab.\2.conv_first.2.'),
    (r'body\.(\d)\.soca\.attention\.', r'RG.\1.soca.conv_du.'),
    (r'body\.(\d)\.conv\.', r'RG.\1.conv_last.'),
    (r'body\.(\d)\.gamma', r'RG.\1.gamma'),
    (r'non_local\.(g|theta|phi)\.', r'non_local.non_local.\1.'),
    (r'non_local\.out\.', 'non_local.non_local.W.'),
    (r'non_local\.soca\.attention\.', 'non_local.soca.conv_du.'),
]
FSRCNN = [
    (r'(feature_extraction|shrinking|expanding)\.', r'backbone.network.\1.0.'),
    (r'mapping\.', 'backbone.network.mapping.'),
    (r'last_layer\.', 'backbone.network.last_layer.0.0.'),
]
RLFN = [
    (r'conv_first\.', 'conv_1.'),
    (r'body\.(\d)\.refine\.(\d)\.', lambda m: f'block_{int(m[1]) + 1}.c{int(m[2]) + 1}_r.'),
    (r'body\.(\d)\.fuse\.', lambda m: f'block_{int(m[1]) + 1}.c5.'),
    (r'body\.(\d)\.attention\.', lambda m: f'block_{int(m[1]) + 1}.esa.'),
    (r'conv_after_body\.', 'conv_2.'),
    (r'upsample\.0\.', 'upsampler.0.'),
]
RLFN_OF_NTIRE = [
    (r'body\.(\d)\.refine\.(\d)\.', lambda m: f'B{int(m[1]) + 1}.c{int(m[2]) + 1}_r.'),
    (r'body\.(\d)\.fuse\.', lambda m: f'B{int(m[1]) + 1}.c5.'),
    (r'body\.(\d)\.attention\.', lambda m: f'B{int(m[1]) + 1}.esa.'),
    *TRUNK,
]
BSRN = [
    (r'conv_first\.', 'fea_conv.'),
    (r'body\.(\d)\.attention\.0\.', lambda m: f'B{int(m[1]) + 1}.esa.'),
    (r'body\.(\d)\.attention\.1\.attention\.', lambda m: f'B{int(m[1]) + 1}.cca.conv_du.'),
    *E_RFDN[:4],
    (r'fuse\.0\.', 'c1.'),
    (r'conv_after_body\.', 'c2.'),
    (r'upsample\.0\.', 'upsampler.upsampleOneStep.0.'),
]
PAN = [
    (r'body\.(\d)\.enter\.0\.', r'SCPA_trunk.\1.conv1_a.'),
    (r'body\.(\d)\.enter\.1\.', r'SCPA_trunk.\1.conv1_b.'),
    (r'body\.(\d)\.plain\.', r'SCPA_trunk.\1.k1.0.'),
    (r'body\.(\d)\.mask\.', r'SCPA_trunk.\1.PAConv.k2.'),
    (r'body\.(\d)\.masked\.(\d)\.', lambda m: f'SCPA_trunk.{m[1]}.PAConv.k{int(m[2]) + 3}.'),
    (r'body\.(\d)\.fuse\.', r'SCPA_trunk.\1.conv3.'),
    (r'conv_after_body\.', 'trunk_conv.'),
    (r'upsample\.(\d)\.conv\.', lambda m: f'upconv{int(m[1]) + 1}.'),
    (r'upsample\.(\d)\.mask\.', lambda m: f'att{int(m[1]) + 1}.conv.'),
    (r'upsample\.(\d)\.refine\.', lambda m: f'HRconv{int(m[1]) + 1}.'),
]
EFDN = [
    (r'conv_first\.', 'head.'),
    (r'body\.(\d)\.refine\.0\.0\.', r'cells.\1.conv1.conv1x1.'),
    (r'body\.(\d)\.refine\.(\d)\.0\.', lambda m: f'cells.{m[1]}.conv{int(m[2]) + 1}.rep_conv.'),
    (r'body\.(\d)\.refine\.(\d)\.1\.', lambda m: f'cells.{m[1]}.conv{int(m[2]) + 1}.act.'),
    (r'body\.(\d)\.distill\.', r'cells.\1.branch.'),
    (r'body\.(\d)\.fuse\.', r'cells.\1.fuse.'),
    (r'body\.(\d)\.attention\.', r'cells.\1.att.'),
    (r'fuse\.', 'local_fuse.'),
    (r'upsample\.0\.', 'tail.0.'),
]
FMEN = [
    (r'conv_first\.', 'head.'),
    (r'body\.0\.0\.', 'warmup.0.'),
    (r'body\.0\.1\.enter\.', 'warmup.1.squeeze.'),
    (r'body\.0\.1\.leave\.', 'warmup.1.excitate.'),
    (r'body\.0\.1\.pairs\.(\d)\.0\.', r'warmup.1.convs.\1.conv1.rep_conv.'),
    (r'body\.0\.1\.pairs\.(\d)\.2\.', r'warmup.1.convs.\1.conv2.rep_conv.'),
    (r'body\.(\d)\.0\.0\.', lambda m: f'basic_blocks.{int(m[1]) - 1}.conv1.rep_conv.'),
    (r'body\.(\d)\.0\.2\.', lambda m: f'basic_blocks.{int(m[1]) - 1}.conv2.rep_conv.'),
    (r'body\.(\d)\.1\.enter\.', lambda m: f'hfabs.{int(m[1]) - 1}.squeeze.'),
    (r'body\.(\d)\.1\.leave\.', lambda m: f'hfabs.{int(m[1]) - 1}.excitate.'),
    (r'body\.(\d)\.1\.pairs\.0\.0\.', lambda m: f'hfabs.{int(m[1]) - 1}.convs.0.conv1.rep_conv.'),
    (r'body\.(\d)\.1\.pairs\.0\.2\.', lambda m: f'hfabs.{int(m[1]) - 1}.convs.0.conv2.rep_conv.'),
    (r'conv_after_body\.', 'lr_conv.'),
    (r'upsample\.0\.', 'tail.0.'),
]
LAPSRN = [
    (r'conv_first\.', 'conv_input.'),
    (r'levels\.(\d)\.body\.(\d)\.', lambda m: f'convt_F{int(m[1]) + 1}.0.cov_block.{2 * int(m[2])}.'),
    (r'levels\.(\d)\.double_features\.', lambda m: f'convt_F{int(m[1]) + 1}.0.cov_block.20.'),
    (r'levels\.(\d)\.double_image\.', lambda m: f'convt_I{int(m[1]) + 1}.'),
    (r'levels\.(\d)\.residual\.', lambda m: f'convt_R{int(m[1]) + 1}.'),
]
MEAN = (0.4488, 0.4371, 0.4040)
SHIFTS = {
    **{f'{name}_mean.weight': torch.eye(3).view(3, 3, 1, 1) for name in ('sub', 'add')},
    'sub_mean.bias': -255 * torch.tensor(MEAN),
    'add_mean.bias': 255 * torch.tensor(MEAN),
}
SHIFTS_UNIT = {**SHIFTS, 'sub_mean.bias': -torch.tensor(MEAN), 'add_mean.bias': torch.tensor(MEAN)}
PISR_EXTRAS = {
    'backbone.network.encoder.0.0.weight': torch.zeros(56, 1, 5, 5),
    'vid_module_dict.expanding_mean.0.weight': torch.zeros(56, 56, 1, 1),
}
EDSR_OPTIONS = {'type': 'EDSR', 'num_in_ch': 3, 'num_out_ch': 3, 'num_feat': 8, 'num_block': 3, 'rgb_mean': list(MEAN)}
RCAN_OPTIONS = {**EDSR_OPTIONS, 'type': 'RCAN', 'num_group': 3, 'num_block': 2, 'squeeze_factor': 4}
BASICSR_EDSR = {'type': 'EDSR', 'num_in_ch': 3, 'num_out_ch': 3, 'num_feat': 16, 'num_block': 2}
SWINIR = {
    'type': 'SwinIR', 'in_chans': 3, 'img_size': 16, 'window_size': 4, 'img_range': 1.0, 'depths': [2, 4],
    'embed_dim': 12, 'num_heads': [2, 3], 'mlp_ratio': 2.0, 'resi_connection': '1conv',
}  # fmt: skip

# name: options that must be found again, the inverse renaming, tensors the file has beside the network's
FILES = {
    'IMDN x2': ({'type': 'IMDN', 'upscale': 2, 'num_feat': 16, 'num_block': 3, 'cca_reduction': 4}, IMDN, {}),
    'IMDN x3': ({'type': 'IMDN', 'upscale': 3}, IMDN, {}),
    'E-RFDN': ({'type': 'RFDN', 'upscale': 3, 'num_feat': 12, 'num_block': 2, 'block': 'e_rfdb'}, E_RFDN, {}),
    'CARN x2': ({'type': 'CARN', 'upscale': 2, 'num_feat': 8}, CARN, {}),
    'CARN x3': ({'type': 'CARN', 'upscale': 3, 'num_feat': 8}, CARN, {}),
    'CARN x4': ({'type': 'CARN', 'upscale': 4, 'num_feat': 8, 'multi_scale': False}, CARN, {}),
    'CARN-M': ({'type': 'CARN', 'num_feat': 8, 'mobile': True, 'groups': 2, 'multi_scale': True}, CARN, {}),
    'VDSR': ({'type': 'VDSR', 'num_in_ch': 1, 'num_feat': 8, 'num_block': 11}, VDSR, {}),
    'EDSR x2': ({**EDSR_OPTIONS, 'upscale': 2, 'img_range': 255.0, 'res_scale': 1.0}, EDSR, SHIFTS),
    'EDSR x3': ({**EDSR_OPTIONS, 'upscale': 3, 'img_range': 1.0}, EDSR, SHIFTS_UNIT),
    'RCAN x3': ({**RCAN_OPTIONS, 'upscale': 3}, RCAN, SHIFTS),
    'RCAN x4': ({**RCAN_OPTIONS, 'upscale': 4}, RCAN, SHIFTS),
    'SAN x2': ({'type': 'SAN', 'upscale': 2, 'num_feat': 16, 'num_group': 2, 'num_block': 3}, SAN, {}),
    'SAN x4': ({'type': 'SAN', 'num_feat': 16, 'num_group': 3, 'num_block': 1, 'non_local_reduction': 4}, SAN, {}),
    'EDSR of BasicSR': ({**BASICSR_EDSR, 'upscale': 4}, [], {}),
    'RCAN of BasicSR': (
        {**BASICSR_EDSR, 'type': 'RCAN', 'num_group': 2, 'num_block': 3, 'squeeze_factor': 4, 'upscale': 3},
        [], {},
    ),
    'MSRResNet of BasicSR': ({'type': 'MSRResNet', 'num_feat': 8, 'num_block': 2, 'upscale': 3}, [], {}),
    'RLFN x2': ({'type': 'RLFN', 'upscale': 2, 'num_feat': 12, 'num_block': 3, 'num_attention': 8}, RLFN, {}),
    'RLFN of NTIRE': ({'type': 'RLFN', 'num_feat': 12, 'num_block': 2, 'num_mid': 14}, RLFN_OF_NTIRE, {}),
    'BSRN x3': ({'type': 'BSRN', 'upscale': 3, 'num_feat': 16, 'num_block': 3, 'cca_reduction': 4}, BSRN, {}),
    'PAN x4': ({'type': 'PAN', 'upscale': 4, 'num_feat': 8, 'num_block': 2, 'num_upsample_feat': 6}, PAN, {}),
    'EFDN x2': ({'type': 'EFDN', 'upscale': 2, 'num_feat': 16}, EFDN, {}),
    'FMEN x3': ({'type': 'FMEN', 'upscale': 3, 'num_feat': 8, 'num_block': 3, 'num_mask': 12}, FMEN, {}),
    'LapSRN x4': ({'type': 'LapSRN', 'upscale': 4, 'num_feat': 8, 'num_block': 10}, LAPSRN, {}),
    'SwinIR': ({**SWINIR, 'upscale': 4, 'upsampler': 'pixelshuffle'}, [], {}),
    'SwinIR light': ({**SWINIR, 'upscale': 3, 'upsampler': 'pixelshuffledirect', 'resi_connection': '3conv'}, [], {}),
    'SwinIR real': ({**SWINIR, 'upscale': 4, 'upsampler': 'nearest+conv'}, [], {}),
    'SwinIR JPEG': (
        {**SWINIR, 'in_chans': 1, 'img_size': 21, 'window_size': 7, 'img_range': 255.0, 'upscale': 1, 'upsampler': ''},
        [], {},
    ),
    'SwinIR denoising': ({**SWINIR, 'upscale': 1, 'upsampler': ''}, [], {}),
}  # fmt: skip


@pytest.fixture(autouse=True)
def accept_untrained(request, monkeypatch):
    """Networks with random weights lose to bicubic; only tests of the choice of settings look at the photos."""
    if 'shared' not in request.keywords:
        accepted = Probe(30.0, 28.0, 4)
        monkeypatch.setattr(convert, 'choose_settings', lambda options, weights, source: (options, weights, accepted))


def renamed(weights, rules):
    result = {}
    for key, value in weights.items():
        for pattern, replacement in rules:
            if re.match(pattern, key):
                key = re.sub('^' + pattern, replacement, key)
                break
        result[key] = value
    return result


def official(name):
    """A network and what its authors' file would hold."""
    options, rules, extras = FILES[name]
    network = build_network(options).eval()
    return network, {**renamed(network.state_dict(), rules), **extras}


def saved(content, folder, name='official.pth'):
    path = str(folder / name)
    torch.save(content, path)
    return path


def described(report):
    """The `network:` block that the report gives to paste."""
    return yaml.safe_load(report[report.index('network:') :])


@pytest.mark.parametrize('wrapped', [False, True], ids=['plain', 'parallel'])
@pytest.mark.parametrize('name', FILES)
def test_round_trip(name, wrapped, tmp_path):
    network, weights = official(name)
    if wrapped:
        weights = {'state_dict': {f'module.{k}': v for k, v in weights.items()}, 'epoch': 3}
    out = str(tmp_path / 'out.pth')
    block = described(convert_checkpoint(saved(weights, tmp_path), out))
    assert FILES[name][0].items() <= block['network'].items()
    assert block['path'] == out
    content, expected = torch.load(out, weights_only=True), network.state_dict()
    assert list(content) == ['params', 'network']
    assert content['network'] == block['network']
    assert content['params'].keys() == expected.keys()
    assert all(torch.equal(content['params'][k], v) for k, v in expected.items())
    again = build_network(block['network']).eval()
    load_weights(again, out)
    x = torch.rand(1, 1 if name in ('VDSR', 'SwinIR JPEG', 'LapSRN x4') else 3, 28, 28)
    assert torch.equal(again(x), network(x))


def test_official_names_are_spelled_as_in_the_authors_files():
    """The inverse renaming above, held against names copied from the files and repositories."""
    assert {'IMDB1.c1.weight', 'IMDB3.cca.conv_du.2.bias', 'LR_conv.bias', 'c.0.weight'} <= official('IMDN x2')[
        1
    ].keys()
    assert {'B1.c1_d.weight', 'B2.esa.conv3_.bias', 'upsampler.0.weight'} <= official('E-RFDN')[1].keys()
    assert {'b1.b1.body.4.weight', 'b3.c3.body.0.bias', 'c3.body.0.weight', 'upsample.up4.body.3.weight'} <= official(
        'CARN-M'
    )[1].keys()
    assert {'input.weight', 'residual_layer.10.conv.weight', 'output.weight'} == official('VDSR')[1].keys() - {
        f'residual_layer.{i}.conv.weight' for i in range(10)
    }
    assert {
        'body.2.body.1.body.3.conv_du.2.weight',
        'body.0.body.2.weight',
        'body.3.bias',
        'tail.0.2.weight',
    } <= official('RCAN x4')[1].keys()
    assert {'body.2.body.2.bias', 'body.3.weight', 'head.0.weight', 'tail.1.bias'} <= official('EDSR x2')[1].keys()


@pytest.mark.parametrize(
    ('name', 'some', 'count'),
    [
        ('RLFN x2', ('block_1.c1_r.weight', 'block_3.c5.bias', 'block_1.esa.conv_f.bias', 'conv_2.weight'), 6 + 3 * 18),
        ('RLFN of NTIRE', ('fea_conv.weight', 'B1.c3_r.bias', 'B2.esa.conv3.weight', 'LR_conv.bias'), 6 + 2 * 18),
        ('BSRN x3', ('B1.c4.pw.weight', 'B3.esa.conv3_.dw.bias', 'B2.cca.conv_du.2.bias', 'c2.dw.weight'), 10 + 3 * 42),
        ('PAN x4', ('SCPA_trunk.1.PAConv.k2.bias', 'SCPA_trunk.0.k1.0.weight', 'att2.conv.bias'), 18 + 16),
        ('EFDN x2', ('cells.3.conv1.conv1x1.bias', 'cells.0.conv3.act.weight', 'local_fuse.2.bias'), 142),
        ('FMEN x3', ('warmup.1.convs.1.conv2.rep_conv.bias', 'hfabs.2.excitate.bias', 'lr_conv.weight'), 20 + 3 * 12),
        ('LapSRN x4', ('convt_F2.0.cov_block.20.weight', 'convt_F1.0.cov_block.18.weight', 'convt_I2.weight'), 27),
    ],
)  # fmt: skip
def test_names_of_efficient_networks_are_spelled_as_in_the_authors_files(name, some, count):
    """Names and counts copied from lists of the files' tensors; wider and deeper files have these per block."""
    keys = official(name)[1].keys()
    assert set(some) <= keys
    assert len(keys) == count


@pytest.mark.parametrize('best', [2, 3])
def test_pans_scale_is_the_one_that_gains_more(best, monkeypatch, tmp_path):
    """The files of x2 and x3 have the same tensors."""
    monkeypatch.setattr(
        official_efficient, 'probe', lambda network, scale, channels: Probe(30.0 + (scale == best), 29.0, scale)
    )
    weights = renamed(build_network({**FILES['PAN x4'][0], 'upscale': 2}).state_dict(), PAN)
    block = described(convert_checkpoint(saved(weights, tmp_path), str(tmp_path / 'out.pth')))
    assert block['network']['upscale'] == best


def test_averaged_weights_come_first(tmp_path):
    network, weights = official('SwinIR')
    other = {k: torch.zeros_like(v) for k, v in weights.items()}
    convert_checkpoint(saved({'params': other, 'params_ema': weights}, tmp_path), str(tmp_path / 'out.pth'))
    params = torch.load(tmp_path / 'out.pth', weights_only=True)['params']
    assert torch.equal(params['conv_first.weight'], network.conv_first.weight)


def test_wide_edsr_gets_its_residual_scale(tmp_path):
    network = build_network({**EDSR_OPTIONS, 'num_feat': 256, 'num_block': 1, 'upscale': 2})
    weights = renamed(network.state_dict(), EDSR)
    weights.update({k.replace('body.3.', 'body.1.'): weights.pop(k) for k in list(weights) if k.startswith('body.3.')})
    block = described(convert_checkpoint(saved(weights, tmp_path), str(tmp_path / 'out.pth')))
    assert block['network']['res_scale'] == 0.1
    assert block['network']['img_range'] == 255


def nearest_neighbour_fsrcnn(scale):
    """An FSRCNN that repeats every pixel, as trained weights roughly do."""
    network = build_network({'type': 'FSRCNN', 'upscale': scale})
    with torch.no_grad():
        for p in network.parameters():
            if p.dim() == 4:
                middle = p.shape[-1] // 2
                p.zero_()[0, 0, middle, middle] = 1
            elif p.numel() > 1 or p is network.last_layer.bias:
                p.zero_()
        network.last_layer.weight[0, 0, 4 : 4 + scale, 4 : 4 + scale] = 1
    return network


@pytest.mark.parametrize('scale', [2, 3, 4])
@pytest.mark.parametrize('extras', [{}, PISR_EXTRAS], ids=['student', 'teacher'])
def test_fsrcnn_of_pisr(scale, extras, tmp_path):
    network = nearest_neighbour_fsrcnn(scale)
    weights = {**renamed(network.state_dict(), FSRCNN), **extras}
    assert 'backbone.network.feature_extraction.0.1.weight' in weights
    report = convert_checkpoint(saved({'state_dict': weights, 'epoch': 1}, tmp_path), str(tmp_path / 'out.pth'))
    assert 'luminance' in report
    block = described(report)
    assert (block['network']['type'], block['network']['upscale']) == ('FSRCNN', scale)
    again = build_network(block['network'])
    load_weights(again, block['path'])
    x = torch.rand(1, 1, 5, 8)
    torch.testing.assert_close(again(x), x.repeat_interleave(scale, 2).repeat_interleave(scale, 3))


# What is refused, and that nothing is written then.


def refused(content, tmp_path, message):
    source = content if isinstance(content, str) else saved(content, tmp_path)
    before = set(os.listdir(tmp_path))
    with pytest.raises(ValueError, match=message):
        convert_checkpoint(source, str(tmp_path / 'out.pth'))
    assert set(os.listdir(tmp_path)) == before


def test_unknown_files_are_answered_with_what_is_known(tmp_path):
    refused({'some.weight': torch.zeros(3)}, tmp_path, r'some\.weight')
    for family in FAMILIES:
        refused({'some.weight': torch.zeros(3)}, tmp_path, re.escape(family.name))


class Hostile:
    def __reduce__(self):
        return os.mkdir, ('was_run',)


def test_files_with_code_are_refused_and_the_code_is_not_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    refused({**official('IMDN x2')[1], 'extra': Hostile()}, tmp_path, 'nothing in it was run')
    assert not os.path.exists('was_run')


def test_truncated_files_are_refused(tmp_path):
    source = saved(official('IMDN x2')[1], tmp_path)
    content = Path(source).read_bytes()
    for length in (0, 10, len(content) // 2, len(content) - 10):
        Path(source).write_bytes(content[:length])
        refused(source, tmp_path, 'truncated|damaged')


STRICT = [
    'IMDN x2',
    'E-RFDN',
    'CARN-M',
    'VDSR',
    'EDSR x2',
    'RCAN x4',
    'SwinIR',
    'RLFN x2',
    'BSRN x3',
    'PAN x4',
    'EFDN x2',
]


@pytest.mark.parametrize('name', STRICT)
def test_no_tensor_may_be_missing_foreign_or_of_another_size(name, tmp_path):
    weights = official(name)[1]
    # Without its last layer a VDSR is a shorter VDSR; the mean shifts are constants that are dropped.
    needed = [k for k in weights if 'mean' not in k and 'residual_layer.10' not in k]
    message = 'looks like|does not recognise the architecture'
    for key in needed[:: max(1, len(needed) // 12)]:
        refused({k: v for k, v in weights.items() if k != key}, tmp_path, message)
        refused({**weights, key: weights[key].flatten()[:1]}, tmp_path, message)
        refused({**weights, key: torch.zeros(())}, tmp_path, message)
    refused({**weights, 'body.9.foreign': torch.zeros(1)}, tmp_path, 'looks like')


def test_two_tensors_for_one_place_are_refused(tmp_path):
    weights = official('EDSR x2')[1]
    refused({**weights, 'body.4.weight': weights['body.3.weight']}, tmp_path, 'two tensors')


def test_paths_that_cannot_be_used(tmp_path):
    source = saved(official('CARN x2')[1], tmp_path)
    refused(str(tmp_path / 'absent.pth'), tmp_path, 'does not exist')
    for out, message in (
        (source, 'would overwrite'),
        (str(tmp_path), 'is a folder: name the file'),
        (f'{tmp_path}/absent/', 'is a folder: name the file'),
    ):
        with pytest.raises(ValueError, match=message):
            convert_checkpoint(source, out)


def test_the_folders_of_the_output_are_made(tmp_path):
    convert_checkpoint(saved(official('CARN x2')[1], tmp_path), str(tmp_path / 'pretrained' / 'CARN' / 'x2.pth'))
    assert (tmp_path / 'pretrained' / 'CARN' / 'x2.pth').is_file()


# The released files. IMDN, CARN-M: the numbers of their papers; E-RFDN (AIM 2020): what its released weights give.


@pytest.mark.shared
@pytest.mark.parametrize(
    ('file', 'scale', 'changes', 'psnr', 'ssim'),
    [
        ('IMDN_x4', 4, {}, 32.21, 0.8948),
        ('IMDN_x2', 2, {}, 38.00, 0.9605),
        ('RFDN_AIM', 4, {}, 32.16, 0.8946),
        ('RFDN_AIM', 4, {'img_range': 1.0}, 26.02, None),
        ('CARN_M', 4, {}, 31.88, None),
    ],
)
def test_released_weights_give_the_published_numbers(file, scale, changes, psnr, ssim, tmp_path):
    source = shared_folder() / 'weights' / f'{file}.pth'
    images = shared_folder() / 'data' / 'benchmark' / 'Set5'
    if not source.exists() or not images.exists():
        pytest.skip(f'{source} or {images} is not there')
    block = described(convert_checkpoint(str(source), str(tmp_path / 'out.pth')))
    assert block['network']['upscale'] == scale
    network = build_network({**block['network'], **changes}).eval()
    load_weights(network, block['path'])
    scores = []
    for path in sorted((images / 'HR').glob('*.png')):
        lq = read_image(str(images / 'LR_bicubic' / f'X{scale}' / f'{path.stem}x{scale}.png'))
        scores.append(score(super_resolve(network, lq), read_image(str(path)), scale))
    assert len(scores) == 5
    mean = np.mean(scores, axis=0)
    assert round(mean[0], 2) == psnr
    assert ssim is None or round(mean[1], 4) == ssim


UNREGISTERED = """
import torch
from basicsr.utils.registry import ARCH_REGISTRY

@ARCH_REGISTRY.register()
class FromATextbook(torch.nn.Module):
    def __init__(self, upscale=2):
        super().__init__()
        self.strange = torch.nn.Conv2d(3, 12, 1)

    def forward(self, x):
        return torch.nn.functional.pixel_shuffle(self.strange(x), 2)
"""


def test_the_cure_for_an_unknown_network_works(workspace, monkeypatch):
    """The authors' file in the current folder, registered, and an option file that imports it."""
    monkeypatch.syspath_prepend(workspace.root)
    weight = torch.eye(3).repeat_interleave(4, 0)[..., None, None]
    torch.save({'strange.weight': weight, 'strange.bias': torch.zeros(12)}, 'theirs.pth')
    with pytest.raises(UserError, match='does not recognise') as refusal:
        convert_checkpoint('theirs.pth', 'out.pth')
    for words in ('NAME_arch.py', '@ARCH_REGISTRY.register()', '--network OPTIONS.yml'):
        assert words in str(refusal.value)
    (workspace.root / 'textbook_arch.py').write_text(UNREGISTERED)
    workspace.write({'import_modules': ['textbook_arch'], 'network_g': {'type': 'FromATextbook'}}, 'theirs.yml')
    (candidate,) = find_candidates(['theirs.pth'], network='theirs.yml')
    assert candidate.scale == 2
