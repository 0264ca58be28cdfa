import numpy as np
import pytest
import torch

from kdsr.distillation.adapters import helper_key
from kdsr.distillation.outputs import NetworkOutput
from kdsr.losses.fitnet_loss import FitNetLoss
from tests.references.frequency import numerical_gradient
from tests.references.loss_checks import NO_BATCH, check_low_precision_and_zeros, check_scale_and_order

IMAGE = torch.zeros(2, 3, 4, 4)


def output(**features):
    return NetworkOutput(sr=IMAGE, features=features)


def maps(channels, seed, size=4):
    return torch.randn(2, channels, size, size, generator=torch.Generator().manual_seed(seed))


def make_loss(student, teacher, **options):
    torch.manual_seed(0)
    loss = FitNetLoss(**options)
    loss.build_helpers(student, teacher)
    return loss


def reference(feature, target, weight, bias, act, norm):
    """weight: (C_T, C_S)."""
    regressed = np.einsum('ts,nshw->nthw', weight, feature) + bias[:, None, None]
    if act == 'relu':
        regressed = np.maximum(regressed, 0)
    difference = regressed - target
    return np.mean(np.abs(difference)) if norm == 'l1' else np.mean(difference**2)


@pytest.mark.parametrize('act', ['relu', 'none'])
@pytest.mark.parametrize('norm', ['l1', 'l2'])
def test_value_and_gradient(act, norm):
    pairs = {'stage1': (maps(3, 1, 3), maps(5, 2, 3)), 'trunk': (maps(3, 3, 3), maps(5, 4, 3))}
    student, teacher = (output(**{name: pair[i] for name, pair in pairs.items()}) for i in (0, 1))
    loss = make_loss(student, teacher, act=act, norm=norm)
    for feature in student.features.values():
        feature.requires_grad_()
    value = loss(student, teacher, NO_BATCH)
    value.backward()
    expected = 0
    for name, (feature, target) in pairs.items():
        conv = loss.regressors[helper_key(name)][0]
        fixed = (target.double().numpy(), conv.weight[..., 0, 0].double().tolist(), conv.bias.double().tolist())
        fixed = (fixed[0], np.array(fixed[1]), np.array(fixed[2]), act, norm)
        x = feature.detach().double().numpy()
        expected += reference(x, *fixed)
        gradient = numerical_gradient(lambda x, fixed=fixed: reference(x, *fixed), x)
        np.testing.assert_allclose(feature.grad.numpy(), gradient, atol=1e-4 * abs(gradient).max())
        weight_gradient = numerical_gradient(
            lambda w, fixed=fixed, x=x: reference(x, fixed[0], w, *fixed[2:]), fixed[1]
        )
        np.testing.assert_allclose(
            conv.weight.grad[..., 0, 0].numpy(), weight_gradient, atol=1e-4 * abs(weight_gradient).max()
        )
    assert value.item() == pytest.approx(expected, rel=1e-5)


def test_by_hand():
    """r(x) = ReLU(2x - 1): (1, 0, 3, -1) becomes (1, 0, 5, 0), against (0, 0, 1, 1): (1 + 0 + 4 + 1) / 4."""
    feature, target = (torch.tensor(v).view(1, 1, 2, 2) for v in ([1.0, 0, 3, -1], [0.0, 0, 1, 1]))
    student, teacher = output(f=feature), output(f=target)
    loss = make_loss(student, teacher)
    loss.regressors[helper_key('f')][0].weight.data.fill_(2)
    loss.regressors[helper_key('f')][0].bias.data.fill_(-1)
    assert loss(student, teacher, NO_BATCH).item() == pytest.approx(6 / 4)


def test_without_regressor():
    """FAKD's 'fitnet': raw L1, no parameters, zero at equality."""
    student, teacher = output(f=maps(4, 1)), output(f=maps(4, 2))
    loss = make_loss(student, teacher, regressor='none')
    assert not list(loss.parameters())
    expected = np.abs(student.features['f'].numpy() - teacher.features['f'].numpy()).mean()
    assert loss(student, teacher, NO_BATCH).item() == pytest.approx(expected, rel=1e-6)
    assert loss(teacher, teacher, NO_BATCH) == 0


def test_gradient_reaches_student_and_regressor_but_not_teacher():
    student, teacher = output(f=maps(3, 1).requires_grad_()), output(f=maps(5, 2).requires_grad_())
    loss = make_loss(student, teacher)
    loss(student, teacher, NO_BATCH).backward()
    assert student.features['f'].grad.abs().sum() > 0
    assert all(p.grad.abs().sum() > 0 for p in loss.parameters())
    assert teacher.features['f'].grad is None


def test_zero_when_the_regressor_is_the_identity_and_features_agree():
    student = output(f=maps(4, 1).abs())
    loss = make_loss(student, student)
    torch.nn.init.dirac_(loss.regressors[helper_key('f')][0].weight)
    torch.nn.init.zeros_(loss.regressors[helper_key('f')][0].bias)
    assert loss(student, student, NO_BATCH) == 0


def test_weight_batch_order_zeros_and_low_precision():
    a, b = maps(4, 1), maps(4, 2)
    check_scale_and_order(
        lambda weight: make_loss(output(f=a), output(f=b), loss_weight=weight), lambda x: output(f=x), a, b
    )
    loss = make_loss(output(f=a), output(f=b), regressor='none')
    check_low_precision_and_zeros(loss, lambda x: output(f=x), a, b)
    loss = make_loss(output(f=a), output(f=b))
    with torch.autocast('cpu', torch.bfloat16):
        value = loss(output(f=a), output(f=b), NO_BATCH)
    assert value.dtype == torch.float32
    assert torch.isfinite(value)


def test_feature_names_with_dots_survive_a_checkpoint():
    features = {'body.3': maps(3, 1), 'body/4': maps(3, 2)}
    student = output(**features)
    loss = make_loss(student, student)
    other = FitNetLoss()
    other.build_helpers(student, student)
    other.load_state_dict(loss.state_dict())
    torch.testing.assert_close(other(student, student, NO_BATCH), loss(student, student, NO_BATCH))


def test_only_named_features_are_compared():
    student, teacher = output(a=maps(3, 1), b=maps(3, 2)), output(a=maps(3, 3), b=maps(3, 2))
    loss = make_loss(student, teacher, regressor='none', features=['b'])
    assert loss(student, teacher, NO_BATCH) == 0


def test_published_range_is_255_times_the_other():
    student, teacher = output(f=maps(3, 1)), output(f=maps(5, 2))
    large, small, default = (make_loss(student, teacher, **o) for o in ({'loss_range': 255}, {'loss_range': 1}, {}))
    values = [loss(student, teacher, NO_BATCH).item() for loss in (large, small, default)]
    assert values[0] / values[1] == pytest.approx(255, rel=1e-6)
    assert values[0] == values[2]
    with pytest.raises(ValueError, match='loss_range'):
        FitNetLoss(loss_range=100)


def test_sizes_differ():
    with pytest.raises(ValueError, match=r"feature 'f' is \(2, 3, 4, 4\) in the student and \(2, 5, 8, 8\)"):
        make_loss(output(f=maps(3, 1)), output(f=maps(5, 2, size=8)))


def test_channels_differ_without_regressor():
    with pytest.raises(ValueError, match=r"equal channels.*feature 'f' is \(2, 3, 4, 4\).*takes any"):
        make_loss(output(f=maps(3, 1)), output(f=maps(5, 2)), regressor='none')


@pytest.mark.parametrize('options', [{'act': 'gelu'}, {'norm': 'l3'}, {'regressor': 'conv3x3'}])
def test_unknown_option_names_the_choices(options):
    with pytest.raises(ValueError, match='must be one of'):
        FitNetLoss(**options)
