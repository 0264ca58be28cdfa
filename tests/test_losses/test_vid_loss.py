import math
from itertools import product

import numpy as np
import pytest
import torch
from torch import nn

from kdsr.distillation.adapters import helper_key
from kdsr.distillation.outputs import NetworkOutput
from kdsr.losses.vid_loss import OFFICIAL_FACTOR, Estimator, VIDLoss, negative_log_likelihood
from tests.references import feature_losses
from tests.references.frequency import numerical_gradient
from tests.references.loss_checks import NO_BATCH

PDFS = ('laplace', 'gaussian')
FORMS = ('paper', 'official')
SCALES = ('element', 'channel', 'position', 'layer')

ALL = list(product(PDFS, FORMS, SCALES))


def output(**features):
    return NetworkOutput(sr=torch.zeros(2, 1, 4, 4, dtype=torch.float64), features=features)


def maps(channels, seed, height=2, width=3):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, channels, height, width, dtype=torch.float64, generator=generator)


def make_loss(student, teacher, **options):
    torch.manual_seed(0)
    loss = VIDLoss(**options)
    loss.build_helpers(student, teacher)
    return loss.double()


def arrays(branch):
    """Weights of a branch as the reference takes them: matrices for the 1x1 convolutions, a number for the slope."""
    first, act, second = branch
    values = [first.weight[..., 0, 0], first.bias, act.weight, second.weight[..., 0, 0], second.bias]
    return [v.detach().numpy().copy() for v in values]


@pytest.mark.parametrize(('pdf', 'form', 'scale'), ALL)
def test_value_and_gradient_of_student_and_estimators(pdf, form, scale):
    feature, target = maps(3, 1).requires_grad_(), maps(4, 2)
    loss = make_loss(output(f=feature), output(f=target), pdf=pdf, form=form, scale=scale)
    value = loss(output(f=feature), output(f=target), NO_BATCH)
    value.backward()
    estimator = loss.estimators[helper_key('f')]
    weights = {'mean': arrays(estimator.mean), 'scale': arrays(estimator.scale)}

    def reference(x, **changed):
        w = {**weights, **changed}
        return feature_losses.vid_loss(
            x, target.numpy(), mean_weights=w['mean'], scale_weights=w['scale'], pdf=pdf, form=form, scale=scale
        )

    x = feature.detach().numpy()
    assert value.item() == pytest.approx(reference(x), rel=1e-9)
    gradient = numerical_gradient(reference, x)
    np.testing.assert_allclose(feature.grad.numpy(), gradient, atol=1e-5 * abs(gradient).max())
    for branch, parameters in (('mean', estimator.mean), ('scale', estimator.scale)):
        for i, parameter in enumerate(p for p in parameters.parameters()):

            def changed(w, branch=branch, i=i):
                return reference(x, **{branch: [*weights[branch][:i], w, *weights[branch][i + 1 :]]})

            gradient = numerical_gradient(changed, weights[branch][i])
            ours = parameter.grad.numpy().reshape(gradient.shape)
            np.testing.assert_allclose(ours, gradient, atol=1e-5 * abs(gradient).max(), err_msg=f'{branch} {i}')


def test_by_hand():
    """softplus(log(e - 1)) is 1: with a scale of 1 only the distances of 1 and 3 remain."""
    mean, target = torch.zeros(1, 2, 1, 1), torch.tensor([1.0, -3]).view(1, 2, 1, 1)
    raw = torch.full_like(mean, math.log(math.e - 1))
    assert negative_log_likelihood(mean, raw, target).item() == pytest.approx(2)
    assert negative_log_likelihood(mean, raw, target, 'gaussian').item() == pytest.approx(5 / 2)
    constant = 2 * math.log(2 * math.pi) / 2  # C is 2
    expected = constant + math.log(2 * 0.1) + 2 / 0.1
    assert negative_log_likelihood(mean, raw, target, form='official').item() == pytest.approx(expected)
    expected = constant + math.log(0.001) / 2 + 5 / 0.00200002  # 1e-8 shows
    assert negative_log_likelihood(mean, raw, target, 'gaussian', 'official').item() == pytest.approx(expected)


def test_only_the_official_form_has_the_small_scale():
    assert OFFICIAL_FACTOR == {'laplace': 0.1, 'gaussian': 0.001}
    mean, raw, target = maps(3, 1), maps(3, 2), maps(3, 3)
    for pdf in PDFS:  # the scale that makes the target likely is the same number: softplus has to be larger for it
        softplus = nn.functional.softplus(raw) / OFFICIAL_FACTOR[pdf]
        larger = softplus + torch.log(-torch.expm1(-softplus))
        official = negative_log_likelihood(mean, larger, target, pdf, 'official')
        constant = 3 * math.log(2 * math.pi) / 2 + (math.log(2) if pdf == 'laplace' else 0)
        paper = negative_log_likelihood(mean, raw, target, pdf, 'paper')
        assert (official - paper).item() == pytest.approx(constant, rel=1e-6)


@pytest.mark.parametrize('pdf', PDFS)
@pytest.mark.parametrize('form', FORMS)
def test_the_constants_do_not_move_the_gradients_and_scale_sharing_only_broadcasts(pdf, form):
    mean, target = maps(3, 1), maps(3, 3)
    for shape in ((2, 3, 1, 1), (2, 1, 2, 3), (2, 1, 1, 1)):
        raw = torch.randn(shape, dtype=torch.float64)
        shared = negative_log_likelihood(mean, raw, target, pdf, form)
        torch.testing.assert_close(shared, negative_log_likelihood(mean, raw.expand_as(mean), target, pdf, form))


def test_the_estimator_has_the_published_size():
    estimator = Estimator(56, 56)
    for branch in (estimator.mean, estimator.scale):
        assert sum(p.numel() for p in branch.parameters()) == 6_385
    feature = torch.rand(2, 56, 5, 7)
    sizes = {'element': (56, 5, 7), 'channel': (56, 1, 1), 'position': (1, 5, 7), 'layer': (1, 1, 1)}
    for scale, size in sizes.items():
        mean, raw = Estimator(56, 40 if scale == 'layer' else 56, scale)(feature)
        assert mean.shape == (2, 40 if scale == 'layer' else 56, 5, 7)
        assert raw.shape == (2, *size)


def test_features_are_summed_and_have_estimators_of_their_own():
    pairs = {'early.1': (maps(3, 1), maps(5, 2)), 'late': (maps(2, 3), maps(4, 4))}
    student, teacher = (output(**{name: pair[i] for name, pair in pairs.items()}) for i in (0, 1))
    loss = make_loss(student, teacher)
    parts = []
    for name in pairs:
        alone = VIDLoss(features=[name])
        alone.estimators[helper_key(name)] = loss.estimators[helper_key(name)]
        parts.append(alone(student, teacher, NO_BATCH))
    torch.testing.assert_close(loss(student, teacher, NO_BATCH), sum(parts))
    assert len(loss.state_dict()) == 2 * 2 * 5


def test_scales_near_zero_stay_finite():
    """Single precision: softplus(-200) is 0."""
    mean, target = torch.zeros(1, 2, 2, 2), torch.ones(1, 2, 2, 2)
    for pdf, form, certain in product(PDFS, FORMS, (target, mean)):
        raw = torch.full_like(mean, -200).requires_grad_()
        value = negative_log_likelihood(mean, raw, certain, pdf, form)
        value.backward()
        assert value.isfinite()
        assert raw.grad.isfinite().all()


@pytest.mark.parametrize(('option', 'value'), [('pdf', 'laplacian'), ('form', 'offical'), ('scale', 'elements')])
def test_wrong_options_are_reported(option, value):
    with pytest.raises(ValueError, match=f'`{option}`.*Did you mean'):
        VIDLoss(**{option: value})


def test_features_of_other_sizes_are_reported():
    with pytest.raises(ValueError, match=r"VIDLoss.*'f' is \(2, 3, 2, 3\).*\(2, 3, 4, 6\)"):
        make_loss(output(f=maps(3, 1)), output(f=maps(3, 2, 4, 6)))
