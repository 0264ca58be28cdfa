"""Channels get equal sizes, and the network's function stays."""

import pytest
import torch
from torch import nn

from kdsr.distillation.equalisation import equalise_channels


def uneven(activation):
    """Return two convolutions with an activation in between, and 16 channels of very different sizes."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), activation, nn.Conv2d(16, 3, 3, padding=1))
    with torch.no_grad():
        network[0].weight.mul_(torch.logspace(-2, 0, 16).view(-1, 1, 1, 1))
        network[0].bias.mul_(torch.logspace(-2, 0, 16))
    return network


@pytest.mark.parametrize('activation', [nn.ReLU(), nn.LeakyReLU(0.2), nn.PReLU(1, 0.3), nn.PReLU(16, 0.3)])
def test_the_function_stays_and_the_channels_get_closer(activation):
    network, image = uneven(activation), torch.rand(2, 3, 12, 12)
    with torch.no_grad():
        before, sizes = network(image), network[0](image).abs().amax((0, 2, 3))
        assert equalise_channels(network, image) == 1
        after, equal = network(image), network[0](image).abs().amax((0, 2, 3))
    torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-6)
    assert float(sizes.max() / sizes.min()) > 50
    assert float(equal.max() / equal.min()) == pytest.approx(float(sizes.max() / sizes.min()) ** 0.5, rel=1e-3)


class Skip(nn.Module):
    """The first convolution's tensor has a second reader, which no hook shows."""

    def __init__(self):
        super().__init__()
        self.pair = uneven(nn.Sigmoid())
        self.pair[1] = nn.ReLU()

    def forward(self, x):
        y = self.pair[0](x)
        return self.pair[2](self.pair[1](y)) + y.mean()


@pytest.mark.parametrize('network', [Skip(), uneven(nn.Tanh())])
def test_what_cannot_be_scaled_is_left_as_it_was(network):
    image, before = torch.rand(2, 3, 12, 12), [p.clone() for p in network.parameters()]
    assert equalise_channels(network, image) == 0
    assert all(torch.equal(p, q) for p, q in zip(network.parameters(), before))
