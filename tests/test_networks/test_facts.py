"""How many channels a network takes, whatever it does with them first."""

import pytest
import torch
from basicsr.archs import build_network
from torch import nn

from kdsr.networks.candidates import find_candidates
from kdsr.networks.facts import find_input_channels

RRDB = {'type': 'RRDBNet', 'num_in_ch': 3, 'num_out_ch': 3, 'scale': 2, 'num_feat': 8, 'num_block': 1, 'num_grow_ch': 4}


class Repeating(nn.Module):
    """As BSRN: the input is repeated four times before the first convolution."""

    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(4 * channels, 4 * channels, 3, 1, 1)

    def forward(self, x):
        return nn.functional.pixel_shuffle(self.conv(torch.cat([x] * 4, dim=1)), 2)


@pytest.mark.parametrize('given', [None, RRDB])
def test_a_network_that_folds_its_input(given):
    network = build_network(RRDB)
    assert next(network.parameters()).shape[1] == 12
    assert find_input_channels(network, given) == 3


@pytest.mark.parametrize('channels', [1, 3])
def test_a_network_that_repeats_its_input(channels):
    assert find_input_channels(Repeating(channels)) == channels


def test_options_count_before_the_first_convolution_and_that_before_a_try():
    assert find_input_channels(build_network({'type': 'FSRCNN', 'num_in_ch': 3, 'num_out_ch': 3})) == 3
    assert find_input_channels(build_network({'type': 'FSRCNN'})) == 1
    assert find_input_channels(nn.Conv2d(5, 3, 3)) == 5  # neither 3 nor 1 fits


def test_a_benchmark_takes_rrdbnet_x2(tmp_path):
    """It was refused: "its input has 12 channels"."""
    torch.save({'params': build_network(RRDB).state_dict(), 'network': RRDB}, tmp_path / 'rrdb.pth')
    (one,) = find_candidates([str(tmp_path / 'rrdb.pth')])
    assert (one.luminance, one.scale) == (False, 2)
