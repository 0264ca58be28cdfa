import itertools

import numpy as np
import pytest
import torch

from kdsr.distillation.adapters import helper_key
from kdsr.distillation.outputs import NetworkOutput
from kdsr.losses.lsfd_loss import FEATURE_NORMS, REDUCTIONS, LSFDLoss, feature_difference, selective_map
from tests.references import feature_losses
from tests.references.frequency import numerical_gradient
from tests.references.loss_checks import NO_BATCH


def maps(channels, seed, size=3, samples=2):
    return torch.randn(samples, channels, size, size, generator=torch.Generator().manual_seed(seed))


def images(seed, size=6, samples=2):
    return torch.rand(samples, 3, size, size, generator=torch.Generator().manual_seed(seed))


def output(image=None, **features):
    return NetworkOutput(sr=images(0) if image is None else image, features=features)


def make_loss(student, teacher, **options):
    torch.manual_seed(0)
    loss = LSFDLoss(**options)
    loss.build_helpers(student, teacher)
    return loss


def pair():
    """Two features, wider in the teacher, and images of twice their size."""
    student = output(images(1).requires_grad_(), a=maps(2, 1).requires_grad_(), b=maps(3, 2).requires_grad_())
    return student, output(images(2), a=maps(4, 3), b=maps(4, 4))


def array(tensor):
    return tensor.detach().double().numpy()


@pytest.mark.parametrize(('feature_norm', 'reduction'), list(itertools.product(FEATURE_NORMS, REDUCTIONS)))
@pytest.mark.parametrize('selective', [True, False])
def test_value_and_gradient(selective, feature_norm, reduction):
    student, teacher = pair()
    loss = make_loss(student, teacher, selective=selective, feature_norm=feature_norm, reduction=reduction)
    value = loss(student, teacher, NO_BATCH)
    value.backward()
    attention = 255 * feature_losses.selective_map(array(student.sr), array(teacher.sr), 2) if selective else 1
    weight, expected = 10 if selective else 2000, 0
    for name, feature in student.features.items():
        parameters = feature_losses.regressor_arguments(loss.regressors[helper_key(name)])
        target = array(teacher.features[name])

        def reference(x, target=target, parameters=parameters):
            regressed = feature_losses.regress(x, *parameters)
            return weight * feature_losses.lsfd_term(regressed, target, attention, feature_norm, reduction)

        expected += reference(array(feature))
        gradient = numerical_gradient(reference, array(feature))
        np.testing.assert_allclose(array(feature.grad), gradient, atol=1e-4 * abs(gradient).max(), err_msg=name)
    assert value.item() == pytest.approx(expected, rel=1e-5)
    assert student.sr.grad is None, 'the map is detached'


@pytest.mark.parametrize('kernel', [1, 2, 3, 4])
def test_selective_map(kernel):
    """Summed over RGB (not averaged: three times less), average-pooled (not max), as large as the feature."""
    image, target = images(1, 3 * kernel), images(2, 3 * kernel)
    actual = selective_map(image, target, torch.Size((3, 3)))
    assert actual.shape == (2, 1, 3, 3)
    expected = feature_losses.selective_map(array(image), array(target), kernel)
    np.testing.assert_allclose(actual.numpy(), expected, rtol=1e-5)


def test_gradient_through_the_map_only_when_asked():
    student, teacher = pair()
    loss = make_loss(student, teacher, detach_attention=False, regressor='deep')
    loss(student, teacher, NO_BATCH).backward()
    regressed = {
        name: feature_losses.regress(
            array(feature), *feature_losses.regressor_arguments(loss.regressors[helper_key(name)])
        )
        for name, feature in student.features.items()
    }

    def reference(image):
        attention = 255 * feature_losses.selective_map(image, array(teacher.sr), 2)
        return 10 * sum(
            feature_losses.lsfd_term(regressed[name], array(teacher.features[name]), attention, 'l2_flat', 'mean')
            for name in regressed
        )

    gradient = numerical_gradient(reference, array(student.sr))
    assert abs(gradient).max() > 0
    np.testing.assert_allclose(array(student.sr.grad), gradient, atol=1e-4 * abs(gradient).max())


def test_by_hand():
    """Features (3, 4) and (4, 3) of length 5: D = (1/5, 1/5).

    Images differ by 0.1 in each of R, G, B of one pixel in four: M = 0.3 / 4 = 0.075 at the left, 0 at the right.
    """
    image = torch.zeros(1, 3, 2, 4)
    image[..., 0, 0] = 0.1
    student = output(torch.zeros(1, 3, 2, 4), f=torch.tensor([3.0, 4.0]).view(1, 1, 1, 2))
    teacher = output(image, f=torch.tensor([4.0, 3.0]).view(1, 1, 1, 2))
    plain = {'regressor': 'none', 'loss_range': 1}
    lsfd = make_loss(student, teacher, **plain)(student, teacher, NO_BATCH).item()
    assert lsfd == pytest.approx(10 * 0.075 * 0.2 / 2, rel=1e-6)
    lfd = make_loss(student, teacher, selective=False, **plain)(student, teacher, NO_BATCH).item()
    assert lfd == pytest.approx(2000 / 255 * 0.2, rel=1e-6)
    inside = make_loss(student, teacher, alpha1_inside_D=True, **plain)(student, teacher, NO_BATCH).item()
    assert inside == pytest.approx(2000 * lsfd, rel=1e-6)
    same = make_loss(student, teacher, selective=False, alpha1_inside_D=True, **plain)(student, teacher, NO_BATCH)
    assert same.item() == pytest.approx(lfd)
    total = make_loss(student, teacher, reduction='sum_per_sample', **plain)(student, teacher, NO_BATCH).item()
    assert total == pytest.approx(2 * lsfd)


def test_norms_differ():
    """Over the channels at one position (3, 4) has length 5, over two positions twice as much under the root.

    Over the two positions (3, 3) and (4, 4) have 3 and 4 times the root of 2.
    """
    ours = torch.tensor([3.0, 3, 4, 4]).view(1, 2, 1, 2)
    zero = torch.zeros_like(ours)
    assert feature_difference(ours, zero, 'none')[0, :, 0, 0].tolist() == [3, 4]
    assert feature_difference(ours, zero, 'l2_channel')[0, :, 0, 0].tolist() == pytest.approx([0.6, 0.8])
    assert feature_difference(ours, zero, 'l2_spatial')[0, :, 0, 0].tolist() == pytest.approx([0.5**0.5] * 2)
    assert feature_difference(ours, zero)[0, :, 0, 0].tolist() == pytest.approx([3 / 50**0.5, 4 / 50**0.5])


@pytest.mark.parametrize('feature_norm', FEATURE_NORMS)
def test_zero_features_get_the_gradient_of_the_difference(feature_norm):
    """Not 1e12 times it; and what is short but not zero is normalised as anything else."""
    zeros, ours, theirs = torch.zeros(2, 3, 3, 3, requires_grad=True), maps(3, 1), maps(3, 2)
    feature_difference(zeros, theirs, feature_norm).sum().backward()
    torch.testing.assert_close(zeros.grad, -theirs.sign())
    if feature_norm != 'none':
        short = feature_difference(1e-9 * ours, theirs, feature_norm)
        torch.testing.assert_close(short, feature_difference(ours, theirs, feature_norm))


@pytest.mark.parametrize('selective', [True, False])
def test_published_range_is_255_times_the_other(selective):
    student, teacher = output(images(1).double(), f=maps(3, 1).double()), output(images(2).double(), f=maps(3, 2))
    values = [
        make_loss(student, teacher, selective=selective, regressor='none', loss_range=r)(student, teacher, NO_BATCH)
        for r in (255, 1)
    ]
    assert (values[0] / values[1]).item() == pytest.approx(255, rel=1e-12)


@pytest.mark.parametrize(
    ('channels', 'options', 'count'),
    [
        ((64, 64), {}, 184_644),
        ((64, 256), {}, 2_508_036),
        ((64, 64), {'kernel_size': 1}, 20_804),
        ((64, 256), {'kernel_size': 1}, 279_812),
        ((64, 64), {'kernel_size': 1, 'num_layers': 1}, 4_160),
        ((64, 256), {'kernel_size': 1, 'narrow': True}, 4 * 4_160 + 64 * 256 + 256 + 4),
        ((64, 256), {'num_layers': 1, 'narrow': True}, 64 * 256 * 9 + 256),
    ],
)
def test_size_of_the_regressor(channels, options, count):
    student, teacher = (output(f=torch.zeros(1, c, 2, 2)) for c in channels)
    loss = make_loss(student, teacher, **options)
    assert sum(p.numel() for p in loss.parameters()) == count
    regressed, target = loss.regressors.regress_pair('LSFDLoss', 'f', student.features['f'], teacher.features['f'])
    assert regressed.shape == target.shape == (1, channels[1], 2, 2)


def test_regressor_sees_eleven_by_eleven_and_ends_without_activation():
    student = output(f=torch.zeros(1, 2, 15, 15, requires_grad=True))
    loss = make_loss(student, student)
    regressed, _ = loss.regressors.regress_pair('x', 'f', student.features['f'], student.features['f'])
    regressed[0, :, 7, 7].sum().backward()
    seen = student.features['f'].grad[0].abs().sum(0).nonzero()
    assert seen.min() == 2
    assert seen.max() == 12
    assert type(list(loss.regressors.modules())[-1]) is torch.nn.Conv2d


@pytest.mark.parametrize('act_last', [True, False])
@pytest.mark.parametrize(('num_layers', 'narrow'), [(1, False), (1, True), (3, False), (3, True)])
def test_the_last_activation_is_there_when_it_is_asked_for(num_layers, narrow, act_last):
    student, teacher = output(f=maps(2, 1)), output(f=maps(4, 1))
    loss = make_loss(student, teacher, act='relu', num_layers=num_layers, narrow=narrow, act_last=act_last)
    layers = [m for m in loss.regressors.modules() if isinstance(m, (torch.nn.Conv2d, torch.nn.ReLU))]
    kinds = ['Conv2d', 'ReLU'] * num_layers
    assert [type(layer).__name__ for layer in layers] == (kinds if act_last else kinds[:-1])
    widths = [2] * num_layers + [4] if narrow else [2] + [4] * num_layers
    assert [layer.weight.shape[1] for layer in layers[::2]] == widths[:-1]
    regressed, _ = loss.regressors.regress_pair('x', 'f', student.features['f'], teacher.features['f'])
    assert (regressed.min() >= 0) == act_last


def test_gradient_reaches_every_helper_but_no_teacher():
    student, teacher = pair()
    for tensor in (teacher.sr, *teacher.features.values()):
        tensor.requires_grad_()
    for options in (
        {},
        {'narrow': True, 'kernel_size': 1},
        {'act_last': True, 'act': 'lrelu', 'detach_attention': False},
    ):
        loss = make_loss(student, teacher, **options)
        loss(student, teacher, NO_BATCH).backward()
        assert all(p.grad.abs().sum() > 0 for p in loss.parameters())
        assert teacher.sr.grad is None
        assert all(f.grad is None for f in teacher.features.values())


def test_zero_features_and_equality():
    zeros = output(images(1), f=torch.zeros(2, 3, 3, 3, requires_grad=True))
    for norm in FEATURE_NORMS:
        value = make_loss(zeros, zeros, regressor='none', feature_norm=norm)(zeros, output(f=maps(3, 1)), NO_BATCH)
        value.backward()
        assert torch.isfinite(value)
        assert torch.isfinite(zeros.features['f'].grad).all()
    student, teacher = pair()
    same_image = output(student.sr, **teacher.features)
    assert make_loss(student, teacher)(student, same_image, NO_BATCH) == 0
    assert make_loss(student, teacher, selective=False)(student, same_image, NO_BATCH) > 0
    assert make_loss(teacher, teacher, selective=False, regressor='none')(teacher, teacher, NO_BATCH) == 0


def test_wrong_sizes():
    with pytest.raises(ValueError, match=r"feature 'f' is \(2, 3, 3, 3\) in the student and \(2, 3, 4, 4\)"):
        make_loss(output(f=maps(3, 1)), output(f=maps(3, 1, 4)))
    with pytest.raises(ValueError, match=r"regressor: none.*feature 'f' is \(2, 3, 3, 3\).*\(2, 4, 3, 3\)"):
        make_loss(output(f=maps(3, 1)), output(f=maps(4, 1)), regressor='none')
    odd = output(f=maps(3, 1, 4))
    with pytest.raises(ValueError, match=r'image of \(6, 6\) does not fit features of \(4, 4\).*selective: false'):
        make_loss(odd, odd)(odd, odd, NO_BATCH)
    with pytest.raises(ValueError, match='shape'):
        make_loss(odd, odd)(odd, output(images(1, 8), f=maps(3, 1, 4)), NO_BATCH)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'feature_norm': 'l2'}, 'l2_flat, l2_channel, l2_spatial, none'),
        ({'reduction': 'sum'}, 'mean, sum_per_sample'),
        ({'regressor': 'conv1x1'}, 'deep, none'),
        ({'act': 'gelu'}, 'prelu'),
        ({'loss_range': 256}, '255'),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(ValueError, match=message):
        LSFDLoss(**options)
