"""The graph round a network: pixels in, pixels out, in whatever order it computes."""

import numpy as np
import pytest
import torch
from basicsr.utils.color_util import rgb2ycbcr_pt
from torch import nn

from kdsr.archs.bicubic import BicubicUpsample
from kdsr.deployment.pixel_network import PixelNetwork, find_tail

NOISE = torch.rand(2, 9, 13, 3, generator=torch.Generator().manual_seed(0))


class Shuffled(nn.Module):
    """A convolution and a shuffle, and then what `end` does."""

    def __init__(self, channels, end, scale=2):
        super().__init__()
        torch.manual_seed(1)
        self.conv = nn.Conv2d(channels, channels * scale**2, 3, padding=1)
        self.shuffle, self.end = nn.PixelShuffle(scale), end

    def forward(self, x):
        return self.end(self.shuffle(self.conv(x)) + 0)


def scaled(x):
    return (x * 255) / 255 * 0.5


ENDS = {
    'nothing': nn.Identity(),
    'a factor': scaled,
    'a shift': lambda x: x + 0.1,
    'a convolution': nn.AvgPool2d(3, 1, 1),
}


@pytest.mark.parametrize(
    ('end', 'factor'), [('nothing', 1), ('a factor', 0.5), ('a shift', None), ('a convolution', None)]
)
def test_a_shuffle_at_the_end_is_found(end, factor):
    network = Shuffled(3, ENDS[end]).eval()
    tail = find_tail(network, NOISE.permute(0, 3, 1, 2))
    assert (tail is None) == (factor is None)
    if tail is not None:
        assert tail.shuffle is network.shuffle
        assert tail.factor == pytest.approx(factor)
    assert find_tail(nn.Upsample(scale_factor=2), NOISE.permute(0, 3, 1, 2)) is None


@torch.no_grad()
def expected_of(network, pixels, luminance):
    """The same by NumPy's and BasicSR's conversions, one after the other."""
    image = pixels.permute(0, 3, 1, 2)
    grey = image.shape[1] == 1
    if not luminance:
        large = network(image.expand(-1, 3, -1, -1))
        large = large.mean(1, keepdim=True) if grey else large
    elif grey:
        large = (network((16 + 219 * image) / 255) * 255 - 16) / 219
    else:
        ycbcr = rgb2ycbcr_pt(image)
        large = torch.cat([network(ycbcr[:, :1]), BicubicUpsample(2)(ycbcr[:, 1:])], dim=1)
        back = np.linalg.inv(
            np.array([[65.481, -37.797, 112.0], [128.553, -74.203, -93.786], [24.966, 112.0, -18.214]])
        )
        large = torch.einsum(
            'nchw,cd->ndhw', 255 * large - torch.tensor([16.0, 128, 128]).view(1, 3, 1, 1), torch.tensor(back).float()
        )
    return large.clamp(0, 1).permute(0, 2, 3, 1)


@pytest.mark.parametrize('with_tail', [False, True])
@pytest.mark.parametrize('luminance', [False, True])
@pytest.mark.parametrize('channels', [1, 3])
def test_pixels_are_those_of_the_plain_order(with_tail, luminance, channels):
    network = Shuffled(1 if luminance else 3, scaled).eval()
    pixels = NOISE[..., :channels].contiguous()
    tail = find_tail(network, torch.rand(1, 1 if luminance else 3, 8, 8)) if with_tail else None
    assert (tail is not None) == with_tail
    settings = {'luminance': luminance, 'channels': channels, 'tail': tail}
    expected = expected_of(network, pixels, luminance)
    with torch.no_grad():
        floats, mean = PixelNetwork(network, 2, eight_bit=False, **settings)(pixels)
        torch.testing.assert_close(floats, expected, atol=2e-6, rtol=0)
        cut, _ = PixelNetwork(network, 2, eight_bit=False, edges_are_cut=True, **settings)(pixels)
        torch.testing.assert_close(cut[:, 4:-4, 4:-4], expected[:, 4:-4, 4:-4], atol=2e-6, rtol=0)
        bytes_, _ = PixelNetwork(network, 2, **settings)((255 * pixels).round().to(torch.uint8))
        again = expected_of(network, (255 * pixels).round() / 255, luminance)
    assert (bytes_.float() - 255 * again).abs().max() < 0.51
    assert torch.isfinite(mean)


@pytest.mark.parametrize('with_tail', [False, True])
def test_one_value_that_is_not_finite_is_in_the_mean(with_tail):
    network = Shuffled(3, scaled).eval()
    tail = find_tail(network, torch.rand(1, 3, 8, 8)) if with_tail else None
    with torch.no_grad():
        network.conv.bias[7] = float('inf')
        _, mean = PixelNetwork(network, 2, tail=tail)((255 * NOISE).to(torch.uint8))
    assert not torch.isfinite(mean)
