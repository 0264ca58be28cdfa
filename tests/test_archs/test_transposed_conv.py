import numpy as np
import pytest
import torch
from basicsr.archs import build_network
from torch import nn
from torch.nn import functional as F

from kdsr.archs.transposed_conv import EnlargingConvTranspose2d, subpixel_kernel
from tests.references import sr_blocks

SIZES = ((7, 5), (1, 1), (1, 6), (2, 3), (16, 16))


def both(scale, kernel_size=9, dtype=torch.float32):
    """Torch's transposed convolution and ours with its weights."""
    torch.manual_seed(scale)
    torchs = nn.ConvTranspose2d(8, 2, kernel_size, scale, padding=kernel_size // 2, output_padding=scale - 1).to(dtype)
    ours = EnlargingConvTranspose2d(8, 2, kernel_size, scale).to(dtype)
    ours.load_state_dict(torchs.state_dict())  # the same names and shapes
    return torchs, ours


@pytest.mark.parametrize('scale', [1, 2, 3, 4, 5])
@pytest.mark.parametrize('kernel_size', [9, 17, 3])
def test_equals_torchs_for_any_size(scale, kernel_size):
    torchs, ours = both(scale, kernel_size, torch.float64)
    for size in SIZES:
        x = torch.rand(2, 8, *size, dtype=torch.float64)
        torch.testing.assert_close(ours(x), torchs(x), rtol=0, atol=1e-14)


@pytest.mark.parametrize('scale', [2, 3, 4])
def test_in_single_precision_it_differs_by_rounding_alone(scale):
    """In FSRCNN, layout and all, on images of odd sizes; a pixel is a sum of more than a thousand products."""
    network = build_network({'type': 'FSRCNN', 'upscale': scale})
    torchs = nn.ConvTranspose2d(56, 1, 9, scale, padding=4, output_padding=scale - 1)
    torchs.load_state_dict(network.last_layer.state_dict())
    for size in ((33, 17), (5, 9), (24, 24)):
        x = torch.rand(2, 1, *size)
        with torch.no_grad():
            feature = x
            for part in (network.feature_extraction, network.shrinking, network.mapping, network.expanding):
                feature = part(feature)
            expected = torchs(feature)
            torch.testing.assert_close(network(x), expected, rtol=0, atol=2e-6)
            assert (network(x) - expected).abs().mean() < 2e-7


@pytest.mark.parametrize('scale', [2, 3, 4])
def test_gradients_reach_input_weight_and_bias_and_are_torchs(scale):
    results = []
    for module in both(scale, dtype=torch.float64):
        torch.manual_seed(0)
        x = torch.rand(2, 8, 5, 6, dtype=torch.float64, requires_grad=True)
        (module(x) - torch.rand(2, 2, 5 * scale, 6 * scale, dtype=torch.float64)).square().mean().backward()
        results.append((x.grad, module.weight.grad, module.bias.grad))
    for torchs, ours in zip(*results):
        torch.testing.assert_close(ours, torchs, rtol=0, atol=1e-14)


def test_elsewhere_it_is_torchs():
    """Complexity is counted on the meta device: the published counts are those of the transposed convolution."""
    _, ours = both(2)
    calls = []
    hooked = F.conv_transpose2d
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(F, 'conv_transpose2d', lambda *args: calls.append(args) or hooked(*args))
        assert ours.to('meta')(torch.empty(1, 8, 3, 4, device='meta')).shape == (1, 2, 6, 8)
    assert len(calls) == 1


def test_kernel_by_hand():
    """One dimension's worth of a 3-wide kernel (a, b, c) at stride 2: even pixels see b, odd ones c x[q] + a x[q+1]."""
    weight = torch.zeros(1, 1, 3, 3)
    weight[0, 0, 1] = torch.tensor([1.0, 2.0, 3.0])  # a, b, c in the middle row
    kernel = subpixel_kernel(weight, 2)
    assert kernel.shape == (4, 1, 2, 2)
    assert kernel[0, 0].tolist() == [[2, 0], [0, 0]]
    assert kernel[1, 0].tolist() == [[3, 1], [0, 0]]
    assert not kernel[2:].any()


def test_plain_convolution_at_scale_one():
    network = build_network({'type': 'FSRCNN', 'upscale': 1}).double()
    assert sum(p.numel() for p in network.parameters()) == 12_644
    assert network.last_layer.weight.shape == (1, 56, 9, 9)
    weights = {k: v.numpy() for k, v in network.state_dict().items()}
    x = torch.rand(1, 1, 7, 10, dtype=torch.float64)
    flipped = {**weights, 'last_layer.weight': weights['last_layer.weight'].transpose(1, 0, 2, 3)[..., ::-1, ::-1]}
    with torch.no_grad():
        np.testing.assert_allclose(network(x)[0].numpy(), sr_blocks.fsrcnn(x[0].numpy(), flipped, 1, 4), atol=1e-12)
