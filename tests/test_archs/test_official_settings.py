"""Range, mean colour and channel order of official files, found out on photos; ruined networks are refused."""

import pytest
import torch
from basicsr.archs import build_network

from kdsr.archs.convert import convert_checkpoint
from kdsr.archs.official_settings import choose_settings, reverse_channels
from kdsr.distillation.photo_probe import probe, warn_if_worse
from kdsr.errors import UserError
from kdsr.networks.weight_files import identify

SHAPE = {'type': 'RFDN', 'upscale': 2, 'num_feat': 16, 'num_block': 1, 'block': 'e_rfdb'}


AUTHORS_NAMES = {
    'conv_first': 'fea_conv', 'body.0.fuse': 'B1.c5', 'body.0.last': 'B1.c4', 'body.0.attention': 'B1.esa',
    **{f'body.0.distill.{i}': f'B1.c{i + 1}_d' for i in range(3)},
    **{f'body.0.refine.{i}': f'B1.c{i + 1}_r' for i in range(3)},
    'fuse.0': 'c.0', 'conv_after_body': 'LR_conv', 'upsample.0': 'upsampler.0',
}  # fmt: skip


def saved(weights, folder):
    """Write weights under the names that E-RFDN's authors use; return the path."""
    renamed = {}
    for key, value in weights.items():
        ours = next(name for name in AUTHORS_NAMES if key.startswith(f'{name}.'))
        renamed[AUTHORS_NAMES[ours] + key[len(ours) :]] = value
    torch.save(renamed, folder / 'official.pth')
    return str(folder / 'official.pth')


def enlarging_rfdn(img_range, gain=1.0, swap=False):
    """An E-RFDN whose weights are set by hand: it nearly repeats every pixel of images in [0, img_range].

    Args:
        img_range: The contrast is 0.9, and a constant that fits this range alone keeps the brightness.
        gain: What colours are multiplied with.
        swap: Red gets darker, for images with blue first.
    """
    network = build_network({**SHAPE, 'img_range': 1.0})
    with torch.no_grad():
        for p in network.parameters():
            p.zero_()
        for channel in range(3):
            network.conv_first.weight[channel, channel, 1, 1] = gain
            weak = 0.88 if swap and channel == 2 else 0.9
            network.upsample[0].weight[4 * channel : 4 * channel + 4, channel, 1, 1] = weak
        network.upsample[0].bias += 0.045 * img_range
    return {key: value.clone() for key, value in network.state_dict().items()}


@pytest.mark.parametrize('img_range', [1.0, 255.0])
def test_the_range_comes_from_the_photos_not_from_the_shape_of_the_file(img_range, tmp_path):
    """Before, every file of this shape got 255: RFDN_x4 of MTKDSR had 13.26 dB in place of 32.09."""
    source = saved(enlarging_rfdn(img_range), tmp_path)
    report = convert_checkpoint(source, str(tmp_path / 'out.pth'))
    assert f'img_range: {img_range}' in report
    assert torch.load(tmp_path / 'out.pth', weights_only=True)['network']['img_range'] == img_range
    assert identify(source)[0]['img_range'] == img_range


def test_a_network_that_ruins_photos_is_refused_and_not_written(tmp_path):
    source = saved(enlarging_rfdn(1.0, gain=-1.0), tmp_path)
    with pytest.raises(UserError, match='bicubic upsampling reaches') as refusal:
        convert_checkpoint(source, str(tmp_path / 'out.pth'))
    assert 'import_modules' in str(refusal.value)
    assert not (tmp_path / 'out.pth').exists()
    with pytest.raises(UserError, match='bicubic upsampling reaches'):
        identify(source)


def test_a_network_a_little_below_bicubic_is_written_with_a_loud_line(tmp_path):
    source = saved(enlarging_rfdn(1.0), tmp_path)
    assert '\nWARNING: ' in convert_checkpoint(source, str(tmp_path / 'out.pth'))


def test_a_network_of_bgr_gets_its_channels_reversed():
    weights = enlarging_rfdn(1.0, swap=True)
    options = {**SHAPE, 'img_range': 1.0}
    _, as_rgb = reverse_channels(options, weights)
    images = torch.rand(2, 3, 20, 24)
    networks = [build_network(options).eval() for _ in range(2)]
    for network, own in zip(networks, (weights, as_rgb)):
        network.load_state_dict(own)
    torch.testing.assert_close(networks[1](images), networks[0](images.flip(1)).flip(1))


def test_reversed_channels_are_chosen_where_they_are_clearly_better():
    options = {**SHAPE, 'img_range': 1.0}
    chances = {}
    for order in ('rgb', 'bgr'):
        weights = enlarging_rfdn(1.0, swap=True)
        if order == 'bgr':
            _, weights = reverse_channels(options, weights)
        _, chosen, scores = choose_settings(options, weights, 'file')
        chances[order] = chosen, scores.psnr
    assert chances['rgb'][1] == pytest.approx(chances['bgr'][1], abs=1e-4)
    assert all(torch.equal(value, chances['bgr'][0][key]) for key, value in chances['rgb'][0].items())


@pytest.mark.parametrize('scale', [2, 3, 4])
def test_bicubic_itself_is_not_worse_than_bicubic(scale):
    def upsample(image):
        return torch.nn.functional.interpolate(image, scale_factor=scale, mode='bicubic', antialias=True)

    found = probe(upsample, scale)
    assert found.psnr == pytest.approx(found.bicubic, abs=1e-3)
    assert warn_if_worse('same', upsample, scale) is None
    assert 'WARNING: dark' in warn_if_worse('dark', lambda image: 0.9 * upsample(image), scale)
    assert warn_if_worse('broken', lambda image: float('nan') * upsample(image), scale) is not None


def test_luminance_networks_and_networks_that_do_not_enlarge():
    assert warn_if_worse('grey', torch.nn.Upsample(scale_factor=2), 2, channels=1) is not None
    assert warn_if_worse('nothing', torch.nn.Identity(), 1) is None
    assert warn_if_worse('black', torch.zeros_like, 1) is not None
