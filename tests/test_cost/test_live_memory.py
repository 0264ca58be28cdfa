"""Peak memory, counted by hand: bytes of what is alive while an operation's result appears."""

import pytest
import torch
from basicsr.archs import build_network
from basicsr.archs.swinir_arch import SwinTransformerBlock
from torch import nn
from torch.nn import functional as F

from kdsr.compat.swinir import basicsr_calculate_mask
from kdsr.cost.live_memory import count_peak_memory
from kdsr.cost.on_meta import copy_to_meta


class Chain(nn.Module):
    """An image of 4 values a pixel beside one of 16, which is freed before the last."""

    def __init__(self, keep):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(100))
        self.keep = keep

    def forward(self, x):
        wide = torch.cat([x] * 4, 1)
        kept = wide if self.keep else None
        narrow = wide[:, :2].clone()
        del wide
        narrow += 1  # in place: nothing new
        result = F.interpolate(narrow, scale_factor=3)
        return result if kept is None else result + 0 * kept.sum()


@pytest.mark.parametrize(('keep', 'values'), [(False, 4 + 2 + 18), (True, 4 + 16 + 2 + 18 + 18)])
def test_by_hand(keep, values):
    network = Chain(keep).to('meta')
    scalars = 2 * 4 if keep else 0  # the sum and its product
    assert count_peak_memory(network, (4, 5, 6)) == pytest.approx(400 + 4 * 30 * values, abs=scalars)


def test_views_and_repeats_of_one_storage_count_once():
    class Views(nn.Module):
        def forward(self, x):
            return x.flatten(1).view(1, 2, -1).transpose(1, 2)

    assert count_peak_memory(Views(), (4, 5, 6)) == 4 * 120


@pytest.mark.parametrize('size', [(3, 32, 32), (3, 24, 40)])
def test_the_mask_that_swinir_keeps_counts_once(size, monkeypatch):
    """A wide MLP has the peak. BasicSR's own SwinIR holds no mask there; kdsr's holds one, which all blocks share."""
    options = {'type': 'SwinIR', 'upscale': 2, 'img_size': 8, 'window_size': 8, 'embed_dim': 12, 'mlp_ratio': 64}
    network = copy_to_meta(build_network({**options, 'depths': [2, 4], 'num_heads': [2, 2]})).eval()
    kept = count_peak_memory(network, size)
    assert count_peak_memory(network, size) == kept  # also if the mask was made before
    monkeypatch.setattr(SwinTransformerBlock, 'calculate_mask', basicsr_calculate_mask)
    windows = size[1] * size[2] // 64
    assert kept - count_peak_memory(network, size) == windows * 64 * 64 * 4
