"""Peak memory, counted by hand: bytes of what is alive while an operation's result appears."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from kdsr.cost.live_memory import peak_memory


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
    assert peak_memory(network, (4, 5, 6)) == pytest.approx(400 + 4 * 30 * values, abs=scalars)


def test_views_and_repeats_of_one_storage_count_once():
    class Views(nn.Module):
        def forward(self, x):
            return x.flatten(1).view(1, 2, -1).transpose(1, 2)

    assert peak_memory(Views(), (4, 5, 6)) == 4 * 120
