import numpy as np
import pytest
import torch

from kdsr.distillation.outputs import NetworkOutput
from kdsr.losses.attention_transfer_loss import AttentionTransferLoss, attention_distance
from tests.references import feature_losses
from tests.references.frequency import numerical_gradient
from tests.references.loss_checks import NO_BATCH, check_low_precision_and_zeros, check_scale_and_order

MODES = ('code', 'paper', 'fakd')


def output(**features):
    return NetworkOutput(sr=torch.zeros(2, 3, 8, 8), features=features)


def maps(channels, seed, height=4, width=5):
    return torch.randn(2, channels, height, width, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize('mode', MODES)
def test_value_and_gradient_summed_over_features_of_any_width(mode):
    student = output(a=maps(3, 1).requires_grad_(), b=maps(2, 2, 3).requires_grad_())
    teacher = output(a=maps(7, 3), b=maps(2, 4, 3))
    value = AttentionTransferLoss(mode)(student, teacher, NO_BATCH)
    value.backward()
    expected = 0
    for name in student.features:
        s, t = (x.features[name].detach().double().numpy() for x in (student, teacher))
        expected += feature_losses.attention_loss(s, t, mode)
        gradient = numerical_gradient(lambda x, t=t: feature_losses.attention_loss(x, t, mode), s)
        np.testing.assert_allclose(
            student.features[name].grad.numpy(), gradient, atol=1e-4 * abs(gradient).max(), err_msg=name
        )
    assert value.item() == pytest.approx(expected, rel=1e-5)


def test_by_hand():
    """Two channels (3, 0) and (0, sqrt 7) have Q = (9, 7) / 2, one channel (3, 4) has Q = (9, 16)."""
    ours, theirs = torch.tensor([0.0, 1.0]).view(1, 1, 1, 2), torch.tensor([1.0, 0.0]).view(1, 1, 1, 2)
    assert attention_distance(ours, theirs, 'code').item() == pytest.approx((1 + 1) / 2)
    assert attention_distance(ours, theirs, 'paper').item() == pytest.approx(2**0.5)
    assert attention_distance(ours, theirs, 'fakd').item() == pytest.approx((1 + 1) / 2, rel=1e-5)
    two, one = torch.tensor([3.0, 0, 0, 7**0.5]).view(1, 2, 1, 2), torch.tensor([3.0, 4.0]).view(1, 1, 1, 2)
    q, p = np.array([9, 7]) / 130**0.5, np.array([9, 16]) / 337**0.5
    assert attention_distance(two, one, 'code').item() == pytest.approx(np.mean((q - p) ** 2), rel=1e-5)


def test_fakds_epsilon_shows_on_weak_features():
    """With |F|^2 summing to 1e-6 the divisor is doubled; mean over channels would make it weaker still."""
    weak, strong = torch.full((1, 2, 1, 1), (0.5e-6) ** 0.5), torch.ones(1, 2, 1, 1)
    assert attention_distance(weak, strong, 'fakd').item() == pytest.approx(0.5, rel=1e-4)
    assert attention_distance(weak, strong, 'code').item() == pytest.approx(0, abs=1e-6)


def test_modes_differ():
    assert len({round(attention_distance(maps(3, 1), maps(4, 2), mode).item(), 6) for mode in MODES}) == 3


@pytest.mark.parametrize('mode', MODES)
def test_contract(mode):
    student, teacher = output(f=maps(3, 1).requires_grad_()), output(f=maps(5, 2).requires_grad_())
    AttentionTransferLoss(mode)(student, teacher, NO_BATCH).backward()
    assert student.features['f'].grad.abs().sum() > 0
    assert teacher.features['f'].grad is None
    assert AttentionTransferLoss(mode)(teacher, teacher, NO_BATCH) == 0
    a, b = maps(3, 1), maps(5, 2)
    check_scale_and_order(lambda w: AttentionTransferLoss(mode, loss_weight=w), lambda x: output(f=x), a, b)
    check_low_precision_and_zeros(AttentionTransferLoss(mode), lambda x: output(f=x), a, b)


def test_published_range_is_255_times_the_other():
    student, teacher = output(f=maps(3, 1).double()), output(f=maps(5, 2).double())
    large, small = (AttentionTransferLoss(loss_range=r)(student, teacher, NO_BATCH).item() for r in (255, 1))
    assert large / small == pytest.approx(255, rel=1e-6)
    assert large == pytest.approx(attention_distance(maps(3, 1), maps(5, 2)).item(), rel=1e-5)


def test_sizes_and_mode():
    with pytest.raises(ValueError, match=r"feature 'f' is \(2, 3, 4, 5\) in the student and \(2, 3, 8, 5\)"):
        AttentionTransferLoss()(output(f=maps(3, 1)), output(f=maps(3, 1, 8)), NO_BATCH)
    with pytest.raises(ValueError, match='code, paper, fakd'):
        AttentionTransferLoss('papers')
