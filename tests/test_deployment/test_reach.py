"""How far a network looks is not less than what a change of its input shows."""

import pytest
import torch
from basicsr.archs import build_network
from torch import nn

from kdsr.deployment.reach import reach_of
from tests.conftest import NETWORKS
from tests.helpers.networks import TINY

EVERYWHERE = ['RFDN', 'E-RFDN', 'IMDN', 'SAN', 'RCAN', 'SwinIRLight']  # pooling, strides or windows
SIDE = 64


def shown_reach(network, channels):
    """Return the least distance from which on a change of the input does not show."""
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(1, channels, 24, SIDE, generator=generator)
    with torch.no_grad():
        before = network(image)
        scale = before.shape[-1] // SIDE
        for distance in range(SIDE // 2):
            changed = image.clone()
            changed[..., SIDE // 2 + distance :] += 1
            if torch.equal(network(changed)[..., : scale * SIDE // 2], before[..., : scale * SIDE // 2]):
                return distance
    return SIDE


@pytest.mark.parametrize('name', ['FSRCNN', 'IDN', 'CARN', 'CARN-M', 'EDSR'])
@pytest.mark.parametrize('scale', [2, 3])
def test_convolutions_are_followed(name, scale):
    torch.manual_seed(0)
    network = build_network({**{**TINY, **NETWORKS}[name], 'upscale': scale}).eval()
    channels = 1 if name == 'FSRCNN' else 3
    found = reach_of(network, channels)
    if found is None:
        pytest.skip('not followed')
    assert shown_reach(network, channels) <= found <= 48


def test_it_is_exact_for_plain_convolutions():
    network = nn.Sequential(nn.Conv2d(3, 4, 5, padding=2), nn.ReLU(), nn.Conv2d(4, 12, 3, padding=2, dilation=2))
    assert reach_of(nn.Sequential(*network, nn.PixelShuffle(2)), 3) == 4
    late = nn.Sequential(nn.Conv2d(3, 12, 1), nn.PixelShuffle(2), nn.Conv2d(3, 3, 5, padding=2))
    assert reach_of(late, 3) == 1


@pytest.mark.parametrize('name', EVERYWHERE)
def test_what_looks_everywhere_is_unknown(name):
    network = build_network({**{**TINY, **NETWORKS}[name], 'upscale': 2}).eval()
    assert reach_of(network, 3) is None


class Shifted(nn.Module):
    """Looks to the left by a slice, without any convolution."""

    def forward(self, x):
        return x[..., 5:]


def test_slices_count():
    assert reach_of(Shifted(), 3) == 5
