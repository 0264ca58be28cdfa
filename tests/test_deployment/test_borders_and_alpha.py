"""What a network sees where the image has nothing: beyond its border, and under alpha 0."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from kdsr.deployment import Upscaler
from kdsr.deployment.alpha import spread_colours
from kdsr.deployment.borders import BorderedImage, needed_border
from kdsr.networks.candidates import find_candidates

CPU = torch.device('cpu')
SHAKY = ['rfdn_tiny_x3', 'rfdn_tiny_x4', 'rfdn_small_x4', 'fsrcnn_x4']  # draw a frame of 17 to 37 levels by themselves


def white_frame(image):
    """Return how far a flat image is from itself at its edge: levels that no pixel in the middle has."""
    middle = image[image.shape[0] // 2, image.shape[1] // 2].astype(int)
    return np.abs(image.astype(int) - middle).max()


@pytest.mark.parametrize('name', SHAKY)
def test_a_white_image_gets_no_frame(name):
    white = np.full((40, 48, 3), 255, np.uint8)
    (one,) = find_candidates([name])
    given = torch.full((1, 1 if one.luminance else 3, 40, 48), 235 / 255 if one.luminance else 1.0)
    with torch.no_grad():
        bare = (255 * one.network(given).clamp(0, 1)).round()[0].permute(1, 2, 0).numpy()
    assert white_frame(bare) > 10, 'the network itself draws one'
    assert white_frame(Upscaler(name)(white)) <= 2
    assert Upscaler(name).border == 4


class Zeros(nn.Module):
    """Enlarges by a convolution that pads with zeros, or repeats the border."""

    def __init__(self, mode, weight=1 / 9):
        super().__init__()
        self.mode, self.weight = mode, weight

    def forward(self, x):
        padded = F.pad(x, (1, 1, 1, 1), mode=self.mode)
        kernel = torch.full((x.shape[1], 1, 3, 3), self.weight)
        return F.conv2d(padded, kernel, groups=x.shape[1]).repeat_interleave(2, 2).repeat_interleave(2, 3)


def test_only_networks_that_draw_a_frame_get_a_border():
    given = {'luminance': False, 'device': CPU}
    assert needed_border(Zeros('constant'), multiple=1, **given) == 4
    assert needed_border(Zeros('constant'), multiple=8, **given) == 8
    assert needed_border(Zeros('replicate'), multiple=1, **given) == 0


def bordered(image, border, multiple, seamless=False):
    """Return the whole of what tiles are cut of."""
    one = BorderedImage(image, border, multiple, seamless)
    return one.cut((0, one.height), (0, one.width))


@pytest.mark.parametrize('multiple', [1, 8])
def test_a_border_mirrors_and_fills_up_to_the_multiple(multiple):
    image = np.arange(5 * 3).reshape(5, 3, 1)
    found = bordered(image, 4, multiple)
    assert found.shape[0] % multiple == found.shape[1] % multiple == 0
    rows, columns = [3, 2, 1, 0, 0, 1, 2, 3, 4, 4, 3, 2, 1], [2, 2, 1, 0, 0, 1, 2, 2, 1, 0, 0]
    np.testing.assert_array_equal(found[:13, :11], image[rows][:, columns])
    repeated = bordered(image, 4, 1, seamless=True)
    np.testing.assert_array_equal(repeated, image[np.arange(-4, 9) % 5][:, np.arange(-4, 7) % 3])


def test_each_tile_of_an_image_with_a_border_is_that_part_of_the_whole():
    image = np.arange(9 * 11 * 2).reshape(9, 11, 2)
    whole = np.pad(image, ((4, 7), (4, 5), (0, 0)), mode='symmetric')
    one = BorderedImage(image, 4, 20, seamless=False)
    assert (one.height, one.width) == (20, 20)
    for top, bottom, left, right in [(0, 6, 0, 20), (4, 13, 4, 15), (5, 9, 0, 7), (12, 20, 13, 20)]:
        np.testing.assert_array_equal(one.cut((top, bottom), (left, right)), whole[top:bottom, left:right])


def test_an_image_is_not_copied_for_its_border():
    image = np.zeros((300, 200, 3), np.uint8)
    tile = BorderedImage(image, 4, 1, seamless=False).cut((10, 50), (20, 90))
    assert np.shares_memory(tile, image)
    assert np.shares_memory(bordered(image, 0, 4), image)


def disc(outside, size=48, radius=18):
    """A red disc with a soft edge on a colour that nobody sees."""
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    alpha = (255 * np.clip(radius - np.hypot(y, x) + 0.5, 0, 1)).round().astype(np.uint8)
    colours = np.where(alpha[..., None] > 0, np.array([200, 40, 40], np.uint8), np.uint8(outside))
    return np.dstack([colours, alpha])


@pytest.mark.parametrize('mode', ['bicubic', 'network'])
@pytest.mark.parametrize('name', ['rfdn_small_x4', 'fsrcnn_x2'])
@pytest.mark.parametrize('outside', [0, 255])
def test_a_disc_gets_no_ring_whatever_is_under_alpha_0(name, outside, mode):
    """Composited on the disc's own colour, nothing may be seen of its edge, nor of what lies outside."""
    large = Upscaler(name, alpha=mode)(disc(outside)).astype(float)
    share = large[..., 3:] / 255
    red = np.array([200, 40, 40])
    on_red = large[..., :3] * share + red * (1 - share)
    assert np.abs(on_red - red).max() <= 6


@pytest.mark.parametrize('mode', ['bicubic', 'network'])
def test_what_is_opaque_or_invisible_stays_exactly_so(mode):
    image = disc(0)
    large = Upscaler('rfdn_small_x4', alpha=mode)(image)[..., 3]
    assert (large[:16, :16] == 0).all()
    assert (large[80:112, 80:112] == 255).all()
    image[..., 3] = 255
    assert (Upscaler('rfdn_small_x4', alpha=mode)(image)[..., 3] == 255).all()


def test_alpha_by_the_network_has_sharper_edges():
    soft, sharp = (Upscaler('rfdn_small_x4', alpha=mode)(disc(0))[..., 3] for mode in ('bicubic', 'network'))
    between = [((alpha > 20) & (alpha < 235)).mean() for alpha in (soft, sharp)]
    assert between[1] < 0.8 * between[0]


def test_hidden_pixels_take_the_nearest_visible_colour():
    rng = np.random.default_rng(0)
    colours = rng.integers(0, 256, (13, 17, 3), np.uint8)
    alpha = (rng.random((13, 17)) < 0.1).astype(np.uint16) * 9
    spread = spread_colours(colours, alpha)
    seen = np.argwhere(alpha > 0)
    for y, x in np.ndindex(alpha.shape):
        distances = np.hypot(seen[:, 0] - y, seen[:, 1] - x)
        nearest = seen[distances < distances.min() * 1.03 + 0.05]  # the distances of OpenCV are not exact
        assert any((spread[y, x] == colours[i, j]).all() for i, j in nearest)
    np.testing.assert_array_equal(spread[alpha > 0], colours[alpha > 0])
    for whole in (np.zeros_like(alpha), np.ones_like(alpha)):
        assert spread_colours(colours, whole) is colours
