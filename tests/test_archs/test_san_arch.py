import numpy as np
import pytest
import scipy.linalg
import torch
from torch import nn
from torch.nn import functional as F

from kdsr.archs import san_arch
from kdsr.archs.san_arch import (
    SAN,
    RegionNonLocal,
    ResidualBlock,
    SecondOrderAttention,
    covariance,
    newton_schulz_root,
)
from kdsr.distillation.feature_tap import FeatureTap
from kdsr.distillation.quadrants import run_in_quadrants
from kdsr.errors import UserError

TINY = {'num_feat': 8, 'num_group': 3, 'num_block': 1, 'squeeze_factor': 4}


def tiny(upscale=2, seed=0, **options):
    """A small network in which nothing is zero at the start."""
    torch.manual_seed(seed)
    network = SAN(upscale=upscale, **{**TINY, **options}).eval()
    for parameter in (network.gamma, network.non_local.out.weight, network.non_local.out.bias):
        nn.init.normal_(parameter, std=0.3)
    return network


# Parameter counts of the papers: 24 of two mean shifts and the authors' unused ones among them.


@pytest.mark.parametrize(
    ('options', 'expected'),
    [
        ({}, (15_712_800, 15_897_440, 15_860_512)),
        ({'num_group': 6}, (4_847_834, 5_032_474, 4_995_546)),
        ({'non_local_reduction': 4}, (15_714_872, 15_899_512, 15_862_584)),
        ({'num_group': 6, 'non_local_reduction': 4}, (4_849_906, 5_034_546, 4_997_618)),
    ],
)
def test_published_parameter_counts(options, expected):
    with torch.device('meta'):
        networks = [SAN(upscale=s, **options) for s in (2, 3, 4)]
    assert tuple(sum(p.numel() for p in n.parameters()) for n in networks) == expected


# Second-order attention.


def test_covariance_is_numpys():
    x = torch.randn(2, 5, 7, 9) * 3 + 40
    matrix = covariance(x).numpy()
    for sample, result in zip(x.double().numpy(), matrix):
        rows, count = sample.reshape(5, 63), 63
        centring = np.eye(count) / count - np.ones((count, count)) / count**2
        np.testing.assert_allclose(result, rows @ centring @ rows.T, atol=1e-4)


def test_covariance_of_a_large_map_is_that_of_its_middle(monkeypatch):
    monkeypatch.setattr(san_arch, 'COVARIANCE_SIDE', 6)
    x = torch.randn(1, 3, 11, 5)
    torch.testing.assert_close(covariance(x), covariance(x[:, :, 2:8]))
    torch.testing.assert_close(covariance(x.transpose(2, 3)), covariance(x[:, :, 2:8]))


def positive(size, smallest, seed=0):
    """A symmetric matrix with eigenvalues from `smallest` to 1."""
    q, _ = np.linalg.qr(np.random.default_rng(seed).standard_normal((size, size)))
    return q @ np.diag(np.linspace(smallest, 1, size)) @ q.T * 50


def test_root_is_scipys_where_it_has_converged():
    matrix = positive(3, smallest=0.5)
    expected = scipy.linalg.sqrtm(matrix)
    np.testing.assert_allclose(newton_schulz_root(torch.from_numpy(matrix)[None])[0].numpy(), expected, rtol=1e-3)
    close = newton_schulz_root(torch.from_numpy(positive(16, smallest=0.01))[None], iterations=20)[0].numpy()
    np.testing.assert_allclose(close, scipy.linalg.sqrtm(positive(16, smallest=0.01)), atol=1e-9)


@pytest.mark.parametrize('iterations', [1, 2, 5])
def test_root_after_n_iterations(iterations):
    """All matrices of the iteration share their eigenvectors, so that it acts on each eigenvalue alone."""
    matrix = positive(16, smallest=0.0)
    values, vectors = np.linalg.eigh(matrix)
    root, inverse = values / values.sum(), np.ones(16)
    for _ in range(iterations):
        step = (3 - inverse * root) / 2
        root, inverse = root * step, inverse * step
    expected = vectors @ np.diag(root * np.sqrt(values.sum())) @ vectors.T
    result = newton_schulz_root(torch.from_numpy(matrix).float()[None], iterations)[0].numpy()
    np.testing.assert_allclose(result, expected, atol=1e-4)


def test_attention_scales_channels_by_the_mean_row_of_the_root():
    attention, x = SecondOrderAttention(8, 4), torch.randn(2, 8, 6, 5)
    squeeze, excite = attention.attention[0], attention.attention[2]
    expected = []
    for sample in x:
        root = newton_schulz_root(torch.cov(sample.flatten(1), correction=0)[None])[0]
        hidden = F.relu(squeeze.weight[:, :, 0, 0] @ root.mean(0) + squeeze.bias)
        expected.append(sample * torch.sigmoid(excite.weight[:, :, 0, 0] @ hidden + excite.bias)[:, None, None])
    torch.testing.assert_close(attention(x), torch.stack(expected))


def test_gradient_of_the_root_is_that_of_finite_differences():
    matrix = torch.from_numpy(positive(4, smallest=0.2))[None].requires_grad_()
    assert torch.autograd.gradcheck(newton_schulz_root, matrix)


def test_residual_block():
    block, x = ResidualBlock(4), torch.randn(1, 4, 5, 6)
    hidden = F.conv2d(x, block.conv1.weight, block.conv1.bias, padding=1)
    expected = x + F.conv2d(hidden.clamp(min=0), block.conv2.weight, block.conv2.bias, padding=1)
    torch.testing.assert_close(block(x), expected)


# Region-level non-local attention.


@pytest.mark.parametrize('size', [(6, 8), (7, 5), (1, 4), (1, 1)])
def test_non_local_is_numpys_in_each_quadrant(size):
    module, x = RegionNonLocal(8, 3), torch.randn(2, 8, *size)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.5)
    w = {k: v.double().numpy() for k, v in module.state_dict().items()}

    def project(name, tokens):
        return tokens @ w[f'{name}.weight'][:, :, 0, 0].T + w[f'{name}.bias']

    expected = x.double().numpy().copy()
    middle = (size[0] // 2, size[1] // 2)
    for sample in expected:
        for rows in (slice(0, middle[0]), slice(middle[0], None)):
            for columns in (slice(0, middle[1]), slice(middle[1], None)):
                region = sample[:, rows, columns]
                if not region.size:
                    continue
                tokens = region.reshape(8, -1).T
                logits = project('theta', tokens) @ project('phi', tokens).T
                weights = np.exp(logits - logits.max(1, keepdims=True))
                weights /= weights.sum(1, keepdims=True)
                sample[:, rows, columns] += project('out', weights @ project('g', tokens)).T.reshape(region.shape)
    np.testing.assert_allclose(module(x).detach().numpy(), expected, atol=1e-4)


def test_non_local_starts_as_the_identity():
    x = torch.randn(1, 8, 6, 6)
    assert torch.equal(RegionNonLocal(8, 1)(x), x)


# The whole network.


@pytest.mark.parametrize('scale', [2, 3, 4, 8])
@pytest.mark.parametrize('size', [(9, 7), (1, 4), (8, 12)])
def test_any_size(scale, size):
    out = tiny(scale)(torch.rand(1, 3, *size))
    assert out.shape == (1, 3, size[0] * scale, size[1] * scale)
    assert torch.isfinite(out).all()


def test_a_network_without_residuals_gives_the_mean_colour():
    network = SAN(upscale=2, **TINY)
    nn.init.zeros_(network.conv_last.weight)
    nn.init.zeros_(network.conv_last.bias)
    expected = torch.tensor([0.4488, 0.4371, 0.4040]).view(1, 3, 1, 1).expand(1, 3, 8, 8)
    torch.testing.assert_close(network(torch.rand(1, 3, 4, 4)), expected)


def test_the_mean_colour_is_black_inside():
    network, seen = tiny(), []
    network.conv_first.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    grey = torch.tensor([0.4488, 0.4371, 0.4040]).view(1, 3, 1, 1).expand(1, 3, 4, 4)
    network(grey)
    network(grey + 0.1)
    with torch.autocast('cpu', torch.bfloat16):  # which keeps 8 bits: 140.1 would become 140
        network(grey + 0.1)
    torch.testing.assert_close(seen[0], torch.zeros(1, 3, 4, 4), atol=1e-4, rtol=0)
    torch.testing.assert_close(seen[1], torch.full((1, 3, 4, 4), 25.5), atol=1e-4, rtol=0)
    assert torch.equal(seen[2], seen[1])


def test_points_of_the_papers():
    """A group's output holds the shared skip; the non-local module's is that of its second call, before the head."""
    network = tiny()
    points = ('conv_first', 'body.0', 'body.1', 'body.2', 'non_local', 'upsample:input')
    tap = FeatureTap(network, {p: p for p in points})
    with torch.no_grad():
        tap.calibrate(lambda: network(torch.rand(1, 3, 9, 8)))
        assert tap.copied == frozenset()
        with tap as seen:
            network(torch.rand(1, 3, 9, 8))
        shared = network.non_local(seen['conv_first'])
        group = network.body[1]
        inner = group.conv(group.soca(group.blocks(seen['body.0'])))
        expected = seen['body.0'] + inner + network.gamma * shared
        torch.testing.assert_close(seen['body.1'], expected)
        torch.testing.assert_close(seen['non_local'], network.non_local(seen['body.2']))
        torch.testing.assert_close(seen['upsample:input'], seen['non_local'] + seen['conv_first'])
    assert (network.gamma * shared).abs().max() > 1e-2  # the skip is no rounding error


def test_every_parameter_has_a_gradient_or_is_one_of_the_authors_unused():
    """So that a distributed run needs no `find_unused_parameters`."""
    network = tiny()
    network(torch.rand(2, 3, 8, 8)).square().sum().backward()
    without = [n for n, p in network.named_parameters() if p.grad is None]
    assert without == [n for n, p in network.named_parameters() if not p.requires_grad]
    assert all(n.endswith('.gamma') or n.startswith(('conv_unused.', 'non_local.soca.')) for n in without)
    frozen = sum(p.numel() for n, p in network.named_parameters() if n in without)
    assert frozen == 3 + (8 * 8 * 9 + 8) + (8 + 1 + 8 + 8)


@pytest.mark.parametrize('value', [0.0, 1.0])
def test_flat_images_have_finite_values_and_gradients(value):
    network = tiny()
    image = torch.full((1, 3, 8, 9), value, requires_grad=True)
    network(image).sum().backward()
    assert torch.isfinite(image.grad).all()
    assert all(torch.isfinite(p.grad).all() for p in network.parameters() if p.requires_grad)


def test_zero_features_have_a_zero_root_and_a_finite_gradient():
    x = torch.zeros(1, 8, 6, 6, requires_grad=True)
    root = newton_schulz_root(covariance(x))
    assert not root.any()
    root.sum().backward()
    assert torch.isfinite(x.grad).all()


def test_autocast_computes_covariance_and_attention_in_single_precision():
    network, image = tiny(seed=1), torch.rand(1, 3, 16, 12)
    with torch.no_grad():
        exact = network(image)
        with torch.autocast('cpu', torch.bfloat16):
            low = network(image)
            assert newton_schulz_root(covariance(image.bfloat16())).dtype == torch.float32
    assert torch.isfinite(low).all()
    torch.testing.assert_close(low.float(), exact, atol=0.03, rtol=0)


def test_half_precision_as_a_whole():
    exact = tiny()(torch.full((1, 3, 8, 8), 0.5))
    low = tiny().bfloat16()(torch.full((1, 3, 8, 8), 0.5, dtype=torch.bfloat16))
    assert low.dtype == torch.bfloat16
    torch.testing.assert_close(low.float(), exact, atol=0.05, rtol=0)


@pytest.mark.parametrize(
    ('options', 'message'),
    [({'upscale': 5}, 'must be 2, 3, 4 or 8'), ({'num_feat': 8, 'squeeze_factor': 16}, 'at least 16')],
)
def test_wrong_options(options, message):
    with pytest.raises(UserError, match=message):
        SAN(**options)


# Testing by quadrants.


class Nearest(nn.Module):
    """Upsampling without a network: every pixel is answered alone."""

    def __init__(self):
        super().__init__()
        self.sizes = []

    def forward(self, image):
        self.sizes.append(tuple(image.shape[-2:]))
        return image.repeat_interleave(3, -1).repeat_interleave(3, -2)


@pytest.mark.parametrize('size', [(8, 6), (9, 7), (2, 2), (1, 5), (5, 1), (1, 1)])
def test_an_upsampler_of_single_pixels_does_not_notice_the_division(size):
    network, image = Nearest(), torch.rand(2, 3, *size)
    assert torch.equal(run_in_quadrants(network, image), Nearest()(image))
    assert len(network.sizes) == (2 if size[0] > 1 else 1) * (2 if size[1] > 1 else 1)


def test_quarters_meet_at_the_floor_of_half_the_size_without_overlap():
    network = Nearest()
    run_in_quadrants(network, torch.rand(1, 3, 9, 7))
    assert network.sizes == [(4, 3), (4, 4), (5, 3), (5, 4)]


def test_each_quarter_is_super_resolved_alone():
    network, image = tiny(), torch.rand(1, 3, 9, 11)
    with torch.no_grad():
        whole = run_in_quadrants(network, image)
        assert whole.shape == (1, 3, 18, 22)
        torch.testing.assert_close(whole[..., 8:, :10], network(image[..., 4:, :5]))
