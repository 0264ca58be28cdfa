import pytest
import torch
import yaml
from basicsr.archs import build_network
from basicsr.utils.registry import ARCH_REGISTRY
from torch import nn
from torch.nn import functional as F

import kdsr.archs  # noqa: F401 - registers the networks
from kdsr.cost.complexity import (
    build_and_count,
    count_activations,
    count_multi_adds,
    count_networks,
    count_option_files,
)
from kdsr.errors import UserError
from kdsr.networks.facts import count_parameters
from tests.conftest import network_opt

EDSR = {'type': 'EDSR', 'num_in_ch': 3, 'num_out_ch': 3, 'upscale': 2}
RCAN = {'type': 'RCAN', 'num_in_ch': 3, 'num_out_ch': 3, 'upscale': 2, 'num_group': 10}


class Attention(nn.Module):
    """One head over all positions of a row of 8 channels."""

    def forward(self, x):
        return F.scaled_dot_product_attention(x, x, x)


class Products(nn.Module):
    def forward(self, x):
        tokens = x.flatten(2)
        return torch.softmax(tokens.transpose(1, 2) @ tokens, -1)


class FirstRow(nn.Module):
    """Run a module on the tokens (N, w, h) of the first channel."""

    def __init__(self, module):
        super().__init__()
        self.module = module

    def forward(self, x):
        return self.module(x[:, 0])


class SelfAttention(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x):
        return self.attention(x, x, x)[0]


# Counted by hand: kernel area x input channels / groups x output channels x OUTPUT pixels.
CASES = {
    'convolution': (nn.Conv2d(3, 5, 3, padding=1), (3, 7, 9), 9 * 3 * 5 * 63),
    'stride': (nn.Conv2d(3, 5, 3, stride=2, padding=1), (3, 7, 9), 9 * 3 * 5 * 20),
    'dilation': (nn.Conv2d(3, 5, 3, dilation=2), (3, 7, 9), 9 * 3 * 5 * 15),
    'groups': (nn.Conv2d(4, 8, 3, padding=1, groups=4), (4, 7, 9), 9 * 1 * 8 * 63),
    'transposed': (nn.ConvTranspose2d(6, 3, 9, stride=4, padding=4, output_padding=3), (6, 5, 7), 81 * 6 * 3 * 560),
    'transposed, groups': (nn.ConvTranspose2d(6, 4, 4, stride=2, padding=1, groups=2), (6, 5, 7), 16 * 3 * 4 * 140),
    'linear': (FirstRow(nn.Linear(9, 4)), (1, 7, 9), 9 * 4 * 7),
    'matrix product': (Products(), (3, 7, 9), 3 * 63 * 63),
    'attention': (Attention(), (2, 50, 8), 2 * (50 * 50 * 8) * 2),
    'attention with projections': (FirstRow(SelfAttention()), (1, 50, 8), 4 * 50 * 8 * 8 + 2 * (50 * 50 * 8)),
    'free': (nn.Sequential(nn.PReLU(), nn.BatchNorm2d(3), nn.Upsample(scale_factor=2), nn.Sigmoid()), (3, 7, 9), 0),
}


@pytest.mark.parametrize(('network', 'shape', 'expected'), CASES.values(), ids=CASES)
def test_hand_computed(network, shape, expected):
    assert count_multi_adds(network, shape) == expected


# MultiAdds in T that LSFD prints (Table 1) for an LR input of 3x640x480 at x2.


@pytest.mark.parametrize(
    ('options', 'tera'),
    [
        ({**EDSR, 'num_feat': 256, 'num_block': 32, 'res_scale': 0.1}, 12.513),
        ({**EDSR, 'num_feat': 64, 'num_block': 16}, 0.4217),
        ({**RCAN, 'num_block': 20}, 4.702),
        ({**RCAN, 'num_block': 6}, 1.531),
    ],
)
def test_lsfd_table_1(options, tera):
    assert count_multi_adds(build_network(options), (3, 640, 480)) / 1e12 == pytest.approx(tera, rel=1e-3)
    assert build_and_count('network', options, (1280, 960)).multi_adds / 1e12 == pytest.approx(tera, rel=1e-3)


@pytest.mark.skipif('FSRCNN' not in ARCH_REGISTRY, reason='needs FSRCNN')
@pytest.mark.parametrize(('scale', 'giga'), [(2, 6.007), (3, 4.984), (4, 4.637)])
def test_fsrcnn_for_an_output_of_1280x720(scale, giga):
    row = build_and_count('FSRCNN', {'type': 'FSRCNN', 'upscale': scale})
    assert row.multi_adds / 1e9 == pytest.approx(giga, abs=5e-4)


def test_san_is_its_convolutions_covariances_and_non_local_products():
    dim, hidden, pixels, quarter = 8, 2, 16 * 12, 8 * 6
    soca = pixels * dim * dim + (1 + 3 * 3 + 2) * dim**3 + 2 * dim * hidden  # 12 products for 5 iterations
    group = 2 * pixels * 9 * dim * dim + soca + pixels * 9 * dim * dim
    non_local = 4 * pixels * dim * 2 + 4 * 2 * quarter**2 * 2
    tail = pixels * 9 * dim * 4 * dim + 4 * pixels * 9 * dim * 3
    shifts, head = 9 * pixels + 9 * 4 * pixels, pixels * 9 * 3 * dim
    network = build_network(
        {'type': 'SAN', 'upscale': 2, 'num_feat': dim, 'num_group': 1, 'num_block': 1, 'squeeze_factor': 4,
         'non_local_reduction': 4}
    )  # fmt: skip
    assert count_multi_adds(network, (3, 16, 12)) == shifts + head + group + 2 * non_local + tail


@pytest.mark.parametrize('name', ['EDSR', 'RCAN', 'SwinIR', 'DCTSwin'])
def test_the_network_stays_as_it_is(name):
    """Its parameters, plain tensors, mode and hooks; and what it caches does not mix with the counting's."""
    network = build_network(network_opt(name)).train()
    image = torch.rand(1, 6 if name == 'DCTSwin' else 3, 16, 16)
    before = network.eval()(image)
    network.train()
    assert count_multi_adds(network, image.shape[1:]) > 0
    assert network.training
    assert all(p.device.type == 'cpu' for p in network.parameters())
    assert torch.equal(network.eval()(image), before)
    with torch.autocast('cpu', torch.bfloat16):  # autocast works again
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.bfloat16


def test_network_with_windows_is_given_whole_windows():
    """From 9x9 to 12x12."""
    options = network_opt('SwinIR')
    assert build_and_count('SwinIR', options, (18, 18)) == build_and_count('SwinIR', options, (24, 24))


def test_input_shape_of_a_network_that_takes_no_small_image():
    network = build_network(network_opt('DCTSwin'))
    row = build_and_count('aggregator', network_opt('DCTSwin'), input_shape=(6, 32, 32))
    assert (row.parameters, row.multi_adds) == (count_parameters(network), count_multi_adds(network, (6, 32, 32)))
    assert (row.activations, row.convolutions) == count_activations(network, (6, 32, 32))


def test_parameters_count_frozen_ones_but_no_buffers():
    network = nn.Sequential(nn.Conv2d(3, 5, 3).requires_grad_(False), nn.BatchNorm2d(5))
    assert count_parameters(network) == 3 * 5 * 9 + 5 + 5 + 5


class Twice(nn.Module):
    """3 -> 4 channels, then the same 4 -> 4 twice, a linear layer, and 4 -> 2 at double size."""

    def __init__(self):
        super().__init__()
        self.first, self.shared, self.linear = (
            nn.Conv2d(3, 4, 3, stride=2, padding=1),
            nn.Conv2d(4, 4, 1),
            nn.Linear(4, 4),
        )
        self.last = nn.ConvTranspose2d(4, 2, 2, stride=2)

    def forward(self, x):
        return self.last(self.linear(self.shared(self.shared(self.first(x))).movedim(1, -1)).movedim(-1, 1))


def test_activations_are_what_convolutions_give():
    """7x9 becomes 4x5 and 8x10."""
    assert count_activations(Twice(), (3, 7, 9)) == (3 * 4 * 20 + 2 * 80, 4)
    assert count_activations(nn.Linear(9, 4), (3, 7, 9)) == (0, 0)


# AIM 2020 and NTIRE 2022, efficient super-resolution, 256x256: parameters, FLOPs (activation functions included) in G,
# activations in M, convolutions.
CHALLENGES = {
    'MSRResNet': ({'type': 'MSRResNet', 'upscale': 4}, 1_517_571, 166.36, 292.55, 37),
    'E-RFDN': ({'type': 'RFDN', 'num_feat': 50, 'num_block': 4, 'block': 'e_rfdb'}, 433_448, 27.10, 112.03, 64),
}


@pytest.mark.parametrize('name', CHALLENGES)
def test_the_challenges_tables_are_reproduced(name):
    options, count, giga, mega, convolutions = CHALLENGES[name]
    (row,) = count_networks([options], input_size=(256, 256))
    assert (row.parameters, row.convolutions) == (count, convolutions)
    assert row.multi_adds / 1e9 == pytest.approx(giga, rel=3e-3)
    assert row.activations / 1e6 == pytest.approx(mega, abs=5e-3)


def test_wrong_options_are_told_plainly():
    with pytest.raises(UserError, match=r"mine: EDSR has no option 'num_blocks'. Did you mean 'num_block'"):
        build_and_count('mine', {**EDSR, 'num_blocks': 3})


# PISR, Table 2: G for a 1280x720 output. CARN's 1,592K is the multi-scale network; a forward pass costs the same.
PISR_TABLE_2 = {
    'CARN': (222.8, 118.8, 90.9),
    'IMDN': (159.6, 71.7, 41.1),
    'FSRCNN': (6.0, 5.0, 4.6),
}


@pytest.mark.parametrize('name', PISR_TABLE_2)
def test_multi_adds_of_pisrs_table_are_reproduced(name):
    counted = [build_and_count(name, {'type': name, 'upscale': scale}).multi_adds / 1e9 for scale in (2, 3, 4)]
    assert counted == pytest.approx(PISR_TABLE_2[name], rel=0.01)


def test_idn_of_pisrs_table_is_another_network():
    """It has 591K parameters at every scale and 136.5 / 60.6 / 34.1 G; the authors' has 579K / 588K / 600K."""
    rows = [build_and_count('IDN', {'type': 'IDN', 'upscale': scale}) for scale in (2, 3, 4)]
    assert [row.parameters for row in rows] == [579_276, 587_931, 600_048]
    assert [row.multi_adds / 1e9 for row in rows] == pytest.approx([136.5, 60.6, 34.1], rel=0.026)


def test_the_scale_is_the_networks_own_where_the_options_do_not_say():
    assert build_and_count('a', {'type': 'RFDN'}) == build_and_count('a', {'type': 'RFDN', 'upscale': 4})


def test_a_privileged_teacher_is_counted_on_the_ground_truth(tmp_path):
    network = {'type': 'FSRCNN', 'upscale': 2}
    teacher = {'name': 't', 'network': network, 'input': 'gt'}
    opt = {'name': 'run', 'scale': 2, 'network_g': network, 'distillation': {'teachers': [teacher]}}
    (tmp_path / 'run.yml').write_text(yaml.safe_dump(opt))
    for size in (None, (48, 32)):
        student, privileged = count_option_files([str(tmp_path / 'run.yml')], input_size=size)
        assert privileged.multi_adds == 4 * student.multi_adds


def test_so_is_one_that_is_trained(tmp_path):
    opt = {'name': 'run', 'scale': 2, 'network_g': {'type': 'PISRTeacher', 'upscale': 2}}
    counts = []
    for model_type in ('PrivilegedTeacherModel', 'SRModel'):
        (tmp_path / 'run.yml').write_text(yaml.safe_dump({**opt, 'model_type': model_type}))
        counts += count_option_files([str(tmp_path / 'run.yml')])
    decoder = build_and_count('FSRCNN', {'type': 'FSRCNN', 'upscale': 2})
    pixels = 720 * 1280
    encoder = pixels * 25 * 56 + pixels // 4 * (25 * 56 * 56 + 9 * 56 * 12 + 9 * 12)
    assert counts[0].multi_adds == encoder + decoder.multi_adds
    assert counts[0].multi_adds == 4 * counts[1].multi_adds


@pytest.mark.parametrize('change', [{'network_g': 'RFDN'}, {'distillation': {'teachers': {}}}, {'distillation': [1]}])
def test_option_files_that_cannot_be_counted_are_named(tmp_path, change):
    opt = {'name': 'run', 'scale': 2, 'network_g': {'type': 'FSRCNN', 'upscale': 2}, **change}
    (tmp_path / 'run.yml').write_text(yaml.safe_dump(opt))
    if change == {'distillation': {'teachers': {}}}:  # nothing named: nothing to count beside the student
        assert len(count_option_files([str(tmp_path / 'run.yml')])) == 1
        return
    with pytest.raises(UserError, match=r'run\.yml'):
        count_option_files([str(tmp_path / 'run.yml')])
