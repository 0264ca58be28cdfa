import numpy as np
import pytest
import scipy.fft
import torch
from basicsr.archs import build_network
from torch import nn

from kdsr.archs.dctswin_arch import DCTSwin
from kdsr.archs.window_dct import WindowDCT, attention_mask
from tests.references import dctswin_layer

TINY = {'embed_dim': 8, 'depths': [2], 'num_heads': 2, 'num_feat': 8}
CPU = torch.device('cpu')


def count(**options):
    return sum(p.numel() for p in DCTSwin(**options).parameters())


def images(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


class NoAttention(nn.Module):
    def forward(self, tokens, mask=None):
        return tokens


# Parameter counts of the paper's and of the released configuration.


@pytest.mark.parametrize(
    ('options', 'expected'),
    [
        ({'upscale': 2}, 247_043),
        ({'upscale': 3}, 441_403),
        ({'upscale': 4}, 418_083),
        ({'num_teachers': 2}, 407_715),
        ({'num_teachers': 1}, 397_347),
        ({'upscale': 2, 'embed_dim': 96, 'depths': [4, 4]}, 1_094_579),
        ({'upscale': 3, 'embed_dim': 96, 'depths': [4, 4]}, 1_318_099),
        ({'upscale': 4, 'embed_dim': 96, 'depths': [4, 4]}, 1_335_603),
        ({'block': 'swin'}, 418_083),
    ],
)
def test_published_parameter_counts(options, expected):
    assert count(**options) == expected


@pytest.mark.parametrize('options', [{}, {'upscale': 2}, {'embed_dim': 96, 'depths': [4, 4]}])
def test_mixer_has_as_many_parameters(options):
    assert count(block='mixer', **options) == pytest.approx(count(**options), rel=0.01)


def test_token_mlp_ratio_sets_the_hidden_width():
    """From 64 to 128 hidden units over 64 positions, in 8 layers."""
    wider = count(block='mixer', token_mlp_ratio=2) - count(block='mixer', token_mlp_ratio=1)
    assert wider == 8 * 64 * (64 + 64 + 1)


# The window transform.


@pytest.mark.parametrize(('norm', 'scipy_norm'), [('ortho', 'ortho'), ('none', 'backward')])
@pytest.mark.parametrize('window', [4, 8])
def test_window_dct_is_scipys_and_invertible(norm, scipy_norm, window):
    dct = WindowDCT(window, norm)
    tokens = images(5, window**2, 3)
    spatial = tokens.double().numpy().reshape(5, window, window, 3)
    expected = scipy.fft.dctn(spatial, axes=(1, 2), norm=scipy_norm).reshape(5, window**2, 3)
    np.testing.assert_allclose(dct(tokens).numpy(), expected, atol=1e-6 * abs(expected).max())
    torch.testing.assert_close(dct.inverse(dct(tokens)), tokens, atol=1e-5, rtol=0)


def test_dct_scale():
    one, noise = torch.ones(1, 64, 1), images(4, 64, 3)
    assert WindowDCT(8, 'none')(one)[0, 0, 0].item() == pytest.approx(256, abs=1e-3)
    assert WindowDCT(8, 'ortho')(one)[0, 0, 0].item() == pytest.approx(8, abs=1e-5)
    energy = WindowDCT(8, 'ortho')(noise).square().sum() / noise.square().sum()
    assert energy.item() == pytest.approx(1, abs=1e-5)


def test_dct_axes():
    """A window that varies along x only has frequencies along x only: ky = 0, the first `window` tokens."""
    tokens = images(8).repeat(8).view(1, 64, 1)
    coefficients = WindowDCT(8, 'ortho')(tokens).flatten()
    assert coefficients[:8].abs().min() > 1e-3
    assert coefficients[8:].abs().max() < 1e-5


def test_dct_is_computed_in_single_precision_under_autocast():
    dct, tokens = WindowDCT(8, 'none'), images(2, 64, 3)
    with torch.autocast('cpu', torch.bfloat16):
        coefficients = dct(tokens)
    assert coefficients.dtype == torch.float32
    assert torch.equal(coefficients, dct(tokens))


# The mask.


def open_share(kind, window_index, size=(32, 24), shift=4):
    return (attention_mask(*size, 8, shift, kind, CPU)[window_index] == 0).float().mean().item()


def test_no_mask_by_default():
    assert attention_mask(32, 24, 8, 4, 'none', CPU) is None
    assert attention_mask(32, 24, 8, 0, 'spatial', CPU) is None
    assert DCTSwin(**TINY).layers[0].residual_group.blocks[1].attn_mask == 'none'
    assert DCTSwin(**TINY, block='swin').layers[0].residual_group.blocks[1].attn_mask == 'spatial'


def test_spatial_mask_opens_half_of_an_edge_and_a_quarter_of_the_corner():
    """4x3 windows in reading order: the last column and the last row are edges, the last window is the corner."""
    shares = [open_share('spatial', i) for i in range(12)]
    assert shares == [1, 1, 0.5, 1, 1, 0.5, 1, 1, 0.5, 0.5, 0.5, 0.25]


def test_official_mask_cuts_off_the_dc_without_a_shift():
    mask = attention_mask(16, 16, 8, 0, 'official', CPU)
    expected = torch.zeros(64, 64)
    expected[0, 1:] = expected[1:, 0] = -100
    assert torch.equal(mask, expected.expand(4, 64, 64))


@pytest.mark.skipif(not torch.backends.mkl.is_available(), reason='the pattern depends on the FFT: torch-dct with MKL')
def test_official_mask_has_the_shares_of_torch_dct():
    """Shares of open pairs that the published code gives with torch-dct 0.1.6: 85.1 % and 74.1 %."""
    assert open_share('official', 0) == 1
    assert open_share('official', 2) == pytest.approx(0.851, abs=5e-4)
    assert open_share('official', 9) == pytest.approx(0.851, abs=5e-4)
    assert open_share('official', 11) == pytest.approx(0.741, abs=5e-4)


def test_mask_is_built_once_per_size():
    attention_mask.cache_clear()
    net = DCTSwin(upscale=2, block='swin', **{**TINY, 'depths': [2, 2]}).eval()
    with torch.inference_mode():
        net(images(1, 9, 32, 32))
    assert attention_mask.cache_info().misses == 2  # one for layers with a shift, one for those without
    net(images(1, 9, 32, 32)).sum().backward()
    assert attention_mask.cache_info().misses == 2


# One layer.


@pytest.mark.parametrize('norm', ['ortho', 'none'])
@pytest.mark.parametrize('index', [0, 1])
def test_layer_without_attention_is_its_input_path(norm, index):
    layer = DCTSwin(**TINY, dct_norm=norm).eval().layers[0].residual_group.blocks[index]
    layer.attn = NoAttention()
    tokens = images(2, 16 * 24, 8)
    expected = tokens + layer.norm1(tokens)
    expected = expected + layer.mlp(layer.norm2(expected))
    torch.testing.assert_close(layer(tokens, (16, 24)), expected, atol=2e-5, rtol=0)


@pytest.mark.parametrize('index', [0, 1])
@pytest.mark.parametrize(
    ('block', 'norm', 'mask'),
    [('dctswin', 'ortho', 'none'), ('dctswin', 'none', 'none'), ('dctswin', 'ortho', 'spatial'),
     ('swin', None, 'spatial'), ('swin', None, 'none')],
)  # fmt: skip
def test_layer_equals_numpy(block, norm, mask, index):
    net = DCTSwin(**TINY, window_size=4, block=block, dct_norm=norm or 'ortho', attn_mask=mask).eval()
    layer = net.layers[0].residual_group.blocks[index]
    for parameter in layer.parameters():
        nn.init.normal_(parameter, std=0.4)
    tokens = images(1, 12 * 8, 8)
    parameters = {k: v.double().numpy() for k, v in layer.state_dict().items()}
    shift = 2 * index
    expected = dctswin_layer.layer(
        tokens[0].double().numpy().reshape(12, 8, 8),
        parameters,
        num_heads=2,
        window=4,
        shift=shift,
        dct_norm=norm,
        spatial_mask=mask == 'spatial',
    )
    result = layer(tokens, (12, 8)).detach().numpy().reshape(12, 8, 8)
    np.testing.assert_allclose(result, expected, atol=1e-4)


def test_mixer_mixes_positions_of_its_window_only():
    layer = DCTSwin(**TINY, block='mixer').eval().layers[0].residual_group.blocks[0]
    for parameter in layer.parameters():
        nn.init.normal_(parameter, std=0.4)
    tokens = images(1, 16 * 16, 8)
    changed = tokens.clone()
    changed[0, 0] += images(8)
    moved = (layer(changed, (16, 16)) - layer(tokens, (16, 16))).view(16, 16, 8).abs().amax(-1) > 0
    assert moved[:8, :8].all()
    assert moved.sum() == 64


# The whole network.


def route_first_teacher(net, scale):
    """Weights with which the network's output is its first three image channels; LeakyReLU is kept positive."""
    for parameter in net.parameters():
        nn.init.zeros_(parameter)
    channels = 3 * scale**2
    with torch.no_grad():
        for i in range(channels):
            net.conv_first.weight[i, i, 1, 1] = 1
            net.conv_before_upsample[0].weight[i, i, 1, 1] = 1
        net.conv_before_upsample[0].bias.fill_(1)
        convs = [m for m in net.upsample if isinstance(m, nn.Conv2d)]
        if len(convs) == 1:
            for i in range(channels):
                convs[0].weight[i, i, 1, 1] = 1
        else:  # x4 in two steps of two: the sub-pixel (dy, dx) is (2 dy1 + dy2, 2 dx1 + dx2)
            for c, dy1, dx1, dy2, dx2 in np.ndindex(3, 2, 2, 2, 2):
                source = 16 * c + 4 * (2 * dy1 + dy2) + 2 * dx1 + dx2
                convs[0].weight[4 * (4 * c + 2 * dy2 + dx2) + 2 * dy1 + dx1, source, 1, 1] = 1
            for i in range(12):
                convs[1].weight[i, i, 1, 1] = 1
        for c in range(3):
            net.conv_last.weight[c, c, 1, 1] = 1
        net.conv_last.bias.fill_(-1)


@pytest.mark.parametrize('scale', [2, 3, 4])
def test_identity_weights_reproduce_the_first_teacher(scale):
    net = DCTSwin(upscale=scale, embed_dim=48, depths=[2], num_heads=2).eval()
    route_first_teacher(net, scale)
    teachers = images(1, 9, 13 * scale, 9 * scale)
    torch.testing.assert_close(net(teachers), teachers[:, :3], atol=1e-5, rtol=0)


@pytest.mark.parametrize('block', ['dctswin', 'swin', 'mixer'])
@pytest.mark.parametrize(('scale', 'low_size'), [(2, (9, 17)), (3, (8, 5)), (4, (16, 8)), (4, (1, 3)), (2, (4, 33))])
def test_any_size(block, scale, low_size):
    size = tuple(scale * s for s in low_size)
    net = DCTSwin(upscale=scale, **TINY, block=block)
    for training in (True, False):
        out = net.train(training)(images(2, 9, *size))
        assert out.shape == (2, 3, *size)
        assert torch.isfinite(out).all()


def test_padding_reflects_on_the_right_and_at_the_bottom():
    net = DCTSwin(upscale=2, **TINY).eval()
    whole = np.pad(images(1, 9, 26, 20).numpy(), ((0, 0), (0, 0), (0, 6), (0, 12)), mode='reflect')
    padded = net(torch.from_numpy(whole))
    torch.testing.assert_close(net(images(1, 9, 26, 20)), padded[..., :26, :20])


def test_affine_variants():
    mean = torch.tensor([0.4488, 0.4371, 0.4040]).view(1, 3, 1, 1)
    teachers = images(1, 9, 16, 16)
    nets = {affine: DCTSwin(upscale=2, **TINY, affine=affine).eval() for affine in ('mean_shift', 'official', 'none')}
    for net in nets.values():
        net.load_state_dict(nets['none'].state_dict())
    raw = nets['none'](teachers)
    torch.testing.assert_close(nets['official'](teachers), raw / 255 + mean)
    shifted = torch.cat([t - mean for t in teachers.chunk(3, 1)], 1)
    torch.testing.assert_close(nets['mean_shift'](teachers), nets['none'](shifted) + mean)


def test_gradient_reaches_every_parameter():
    for block in ('dctswin', 'swin', 'mixer'):
        net = DCTSwin(upscale=2, **TINY, block=block, drop_path_rate=0)
        net(images(2, 9, 32, 32)).square().sum().backward()
        assert [n for n, p in net.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_drop_path_only_in_training():
    net = DCTSwin(upscale=2, **TINY, drop_path_rate=0.9)
    for parameter in net.layers.parameters():
        nn.init.normal_(parameter, std=0.4)
    teachers = images(2, 9, 32, 32)
    assert torch.equal(net.eval()(teachers), net(teachers))
    results = [net.train()(teachers) for _ in range(4)]
    assert any(not torch.equal(results[0], other) for other in results[1:])


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
@pytest.mark.parametrize(
    'options', [{'dct_norm': 'none', 'attn_mask': 'official'}, {'block': 'swin'}, {'block': 'mixer'}]
)
def test_autocast(dtype, options):
    net, teachers = DCTSwin(upscale=2, **TINY, **options).eval(), images(1, 9, 32, 32)
    with torch.no_grad():
        exact = net(teachers)
        with torch.autocast('cpu', dtype):
            low = net(teachers)
    torch.testing.assert_close(low.float(), exact, atol=0.02, rtol=0)


def test_half_precision_as_a_whole():
    net = DCTSwin(upscale=2, **TINY, attn_mask='spatial').eval()
    exact = net(images(1, 9, 32, 32))
    low = net.bfloat16()(images(1, 9, 32, 32).bfloat16())
    assert low.dtype == torch.bfloat16
    torch.testing.assert_close(low.float(), exact, atol=0.03, rtol=0)


def test_names_are_swinirs_and_constants_are_not_saved():
    net = build_network({'type': 'DCTSwin', **TINY})
    keys = set(net.state_dict())
    swinir = build_network(
        {'type': 'SwinIR', 'in_chans': 3, 'upscale': 4, 'embed_dim': 8, 'depths': [2], 'num_heads': [2],
         'window_size': 8, 'upsampler': 'pixelshuffle', 'img_size': 64}
    )  # fmt: skip
    assert keys == {key for key in swinir.state_dict() if 'attn_mask' not in key}


def test_heads_per_block():
    net = DCTSwin(embed_dim=12, depths=[1, 1], num_heads=[2, 3])
    assert [layer.residual_group.blocks[0].attn.num_heads for layer in net.layers] == [2, 3]


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'block': 'dct'}, 'dctswin, swin, mixer'),
        ({'dct_norm': 'orto'}, 'ortho, none'),
        ({'attn_mask': 'swin'}, 'none, spatial, official'),
        ({'affine': 'mean'}, 'mean_shift, official, none'),
        ({'block': 'mixer', 'attn_mask': 'spatial'}, 'needs an attention'),
        ({'num_heads': 5}, '`embed_dim` 24 must be a multiple'),
        ({'num_heads': [6, 6]}, 'names 2 blocks and `depths` 4'),
        ({'window_size': 7}, 'even'),
        ({'num_teachers': 0}, 'at least 1'),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(ValueError, match=message):
        DCTSwin(**options)


def test_wrong_number_of_channels():
    with pytest.raises(ValueError, match=r'3 teachers needs .*\(N, 9, H, W\), not \(1, 6, 32, 32\)'):
        DCTSwin(**TINY)(images(1, 6, 32, 32))


@pytest.mark.parametrize('affine', ['mean_shift', 'official', 'none'])
def test_a_residual_network_starts_at_the_mean_of_its_teachers_and_learns_from_there(affine):
    network = DCTSwin(upscale=2, num_teachers=2, embed_dim=12, depths=[1], residual='teacher_mean', affine=affine)
    first, second = torch.rand(1, 3, 18, 22), torch.rand(1, 3, 18, 22)
    output = network(torch.cat([first, second], 1))
    torch.testing.assert_close(output, (first + second) / 2)
    output.square().mean().backward()
    assert network.conv_last.weight.grad.abs().sum() > 0
