import numpy as np
import pytest
import torch
from torch import nn

from kdsr.distillation.adapters import ConvRegressor, helper_key


def count(module):
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize(
    ('teacher_channels', 'kernel_size', 'num_layers', 'act', 'expected'),
    [
        (64, 3, 5, 'prelu', 184_644),
        (64, 1, 5, 'prelu', 20_804),
        (64, 1, 1, 'relu', 4_160),
        (256, 3, 5, 'prelu', 2_508_036),
        (256, 1, 5, 'prelu', 279_812),
        (256, 1, 1, 'relu', 16_640),
    ],
)
def test_parameter_counts(teacher_channels, kernel_size, num_layers, act, expected):
    """The published widths, RCAN 64 to 64 and EDSR 64 to 256, counted by hand: weights, biases, one slope a layer."""
    assert count(ConvRegressor(64, teacher_channels, kernel_size, num_layers, act)) == expected


@pytest.mark.parametrize('kernel_size', [1, 3, 5])
def test_size_is_kept(kernel_size):
    assert ConvRegressor(3, 5, kernel_size, 2)(torch.zeros(2, 3, 7, 9)).shape == (2, 5, 7, 9)


@pytest.mark.parametrize(('act', 'slope'), [('relu', 0.0), ('prelu', 0.25), ('lrelu', 0.1), ('none', 1.0)])
@pytest.mark.parametrize('act_last', [False, True])
def test_two_pointwise_layers_by_hand(act, slope, act_last):
    regressor = ConvRegressor(1, 1, num_layers=2, act=act, act_last=act_last)
    convs = [m for m in regressor if isinstance(m, nn.Conv2d)]
    for conv, weight, bias in zip(convs, (2.0, -1.0), (-1.0, 0.5)):
        conv.weight.data.fill_(weight)
        conv.bias.data.fill_(bias)
    x = np.array([-1.0, 0.0, 1.0, 2.0])
    hidden = 2 * x - 1
    expected = 0.5 - np.where(hidden > 0, hidden, slope * hidden)
    if act_last:
        expected = np.where(expected > 0, expected, slope * expected)
    result = regressor(torch.tensor(x, dtype=torch.float32).view(1, 1, 2, 2)).flatten().tolist()
    assert result == pytest.approx(expected.tolist(), abs=1e-6)


def test_every_prelu_has_one_slope_of_its_own():
    slopes = [m for m in ConvRegressor(4, 6, num_layers=3, act='prelu', act_last=True) if isinstance(m, nn.PReLU)]
    assert [m.weight.tolist() for m in slopes] == [[0.25]] * 3
    assert len({id(m.weight) for m in slopes}) == 3


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'act': 'leaky'}, 'relu, prelu, lrelu, none'),
        ({'kernel_size': 2}, 'odd'),
        ({'num_layers': 0}, 'at least 1'),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(ValueError, match=message):
        ConvRegressor(4, 4, **options)


def test_helper_key_fits_a_module_dict():
    helpers = nn.ModuleDict({helper_key(name): nn.Identity() for name in ('body.3', 'body', 'trunk')})
    assert len(helpers) == 3
