"""No teacher and no student changes the images that others are shown, whatever it does with its own input."""

import pytest
import torch
from basicsr.archs import build_network
from torch import nn

from kdsr.distillation.outputs import Batch
from kdsr.distillation.padding import run_padded
from kdsr.distillation.teacher import FrozenNetwork, TeacherEnsemble
from tests.helpers.networks import LUMINANCE, TINY

BASICSR = {
    'EDSR': {'type': 'EDSR', 'num_in_ch': 3, 'num_out_ch': 3, 'num_feat': 8, 'num_block': 1},
    'RCAN': {'type': 'RCAN', 'num_in_ch': 3, 'num_out_ch': 3, 'num_feat': 16, 'num_group': 1, 'num_block': 1},
    'MSRResNet': {'type': 'MSRResNet', 'num_feat': 8, 'num_block': 1},
    'SRVGGNetCompact': {'type': 'SRVGGNetCompact', 'num_feat': 8, 'num_conv': 1},
}
ALL = {**{name: opt for name, opt in TINY.items() if name not in ('DCTSwin', 'PISRTeacher')}, **BASICSR}


class Multiplying(nn.Module):
    """What spandrel's RCAN does: its input is multiplied by 255 in place."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 12, 3, 1, 1)

    def forward(self, x):
        x *= 255
        return nn.functional.pixel_shuffle(self.conv(x), 2) / 255


def batch(channels=3):
    return Batch(torch.rand(2, channels, 16, 24), torch.rand(2, channels, 32, 48))


@pytest.mark.parametrize('name', ALL)
def test_no_registered_network_changes_the_batch(name):
    network = build_network({**ALL[name], 'upscale': 2})
    shown = batch(1 if name in LUMINANCE else 3)
    before = shown.lq.clone(), shown.gt.clone()
    TeacherEnsemble({'a': FrozenNetwork(network)})(shown)
    network.train()(shown.lq)  # without the copy that kdsr makes
    assert torch.equal(shown.lq, before[0])
    assert torch.equal(shown.gt, before[1])


@pytest.mark.parametrize('channels_last', [False, True])
def test_a_teacher_that_changes_its_input_changes_no_one_elses(channels_last):
    shown, clean = batch(), FrozenNetwork(nn.Upsample(scale_factor=2))
    before = shown.lq.clone()
    foreign = FrozenNetwork(Multiplying(), channels_last=channels_last)
    expected = clean(before).image
    both = TeacherEnsemble({'foreign': foreign, 'clean': clean})
    images = both.images(shown)
    assert torch.equal(shown.lq, before)
    assert torch.equal(images[:, 3:], expected)
    assert torch.equal(both.images(shown), images)


def test_a_network_that_needs_no_padding_gets_a_copy_too():
    image = torch.rand(1, 3, 8, 8)
    before = image.clone()
    run_padded(Multiplying(), image, 8)
    assert torch.equal(image, before)
