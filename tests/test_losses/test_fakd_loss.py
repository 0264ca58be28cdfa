from types import SimpleNamespace

import numpy as np
import pytest
import torch

from kdsr.distillation.outputs import NetworkOutput
from kdsr.losses.fakd_loss import FAKDLoss, affinity_distance
from tests.references import feature_losses
from tests.references.frequency import numerical_gradient
from tests.references.loss_checks import NO_BATCH, check_low_precision_and_zeros, check_scale_and_order
from tests.references.memory import LargestTensor

AFFINITIES = ('spatial', 'channel', 'instance')
SELECTIVE = ('none', 'features', 'normalised')


def output(**features):
    return NetworkOutput(sr=torch.zeros(2, 3, 8, 8), features=features)


def maps(channels, seed, height=4, width=5, samples=2):
    return torch.randn(samples, channels, height, width, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize('affinity', AFFINITIES)
def test_value_and_gradient_summed_over_features(affinity):
    student = output(a=maps(3, 1, samples=3).requires_grad_(), b=maps(2, 2, 3).requires_grad_())
    teacher = output(a=maps(3 if affinity == 'channel' else 7, 3, samples=3), b=maps(2, 4, 3))
    value = FAKDLoss(affinity)(student, teacher, NO_BATCH)
    value.backward()
    expected = 0
    for name in student.features:
        s, t = (x.features[name].detach().double().numpy() for x in (student, teacher))
        expected += feature_losses.fakd_loss(s, t, affinity)
        gradient = numerical_gradient(lambda x, t=t: feature_losses.fakd_loss(x, t, affinity), s)
        np.testing.assert_allclose(
            student.features[name].grad.numpy(), gradient, atol=1e-4 * abs(gradient).max(), err_msg=name
        )
    assert value.item() == pytest.approx(expected, rel=1e-5)


def with_image(feature, seed):
    image = torch.rand(len(feature), 3, *(2 * side for side in feature.shape[2:]), generator=torch.manual_seed(seed))
    return NetworkOutput(sr=image.requires_grad_(feature.requires_grad), features={'f': feature})


@pytest.mark.parametrize('affinity', AFFINITIES)
@pytest.mark.parametrize('selective', ['features', 'normalised'])
def test_value_and_gradient_with_the_map_of_lsfd(affinity, selective):
    student = with_image(maps(3, 1, samples=3).requires_grad_(), 1)
    teacher = with_image(maps(3, 2, samples=3), 2)
    value = FAKDLoss(affinity, selective)(student, teacher, NO_BATCH)
    value.backward()
    images = (x.sr.detach().double().numpy() for x in (student, teacher))
    attention = 255 * feature_losses.selective_map(*images, 2)
    s, t = (x.features['f'].detach().double().numpy() for x in (student, teacher))
    meant = 'features' if affinity == 'instance' else selective

    def reference(x):
        return feature_losses.selective_fakd_loss(x, t, affinity, attention, meant)

    assert value.item() == pytest.approx(reference(s), rel=1e-5)
    expected = numerical_gradient(reference, s)
    np.testing.assert_allclose(student.features['f'].grad.numpy(), expected, atol=1e-4 * abs(expected).max())
    assert student.sr.grad is None, 'a gradient flows through the map'
    small = FAKDLoss(affinity, selective, loss_range=1)(student, teacher, NO_BATCH)
    assert value.item() / small.item() == pytest.approx(255, rel=1e-6)


def test_on_the_features_themselves_the_map_cancels_in_the_spatial_affinity():
    student, teacher = with_image(maps(3, 1), 1), with_image(maps(5, 2), 2)
    plain, before, after = (FAKDLoss(selective=s)(student, teacher, NO_BATCH) for s in SELECTIVE)
    assert before.item() == pytest.approx(plain.item(), rel=1e-5)
    assert after.item() != pytest.approx(plain.item(), rel=0.1)


@pytest.mark.parametrize('block', [1, 3, 10, 19, 20, 64])
def test_row_blocks_of_any_height_give_the_same(block):
    ours, theirs = maps(3, 1).double().requires_grad_(), maps(7, 2).double()
    value = affinity_distance(ours, theirs, block=block)
    (gradient,) = torch.autograd.grad(3 * value, ours)
    s, t = ours.detach().numpy(), theirs.numpy()
    assert value.item() == pytest.approx(feature_losses.fakd_loss(s, t, 'spatial'), rel=1e-9)
    expected = numerical_gradient(lambda x: 3 * feature_losses.fakd_loss(x, t, 'spatial'), s)
    np.testing.assert_allclose(gradient.numpy(), expected, atol=1e-6 * abs(expected).max())


def test_large_maps_keep_their_digits():
    """5.3 million terms in single precision."""
    ours, theirs = maps(4, 1, 48, 48, 1), maps(6, 2, 48, 48, 1)
    unit = [(x / (x.norm(dim=1, keepdim=True) + 1e-8)).flatten(2)[0] for x in (ours.double(), theirs.double())]
    expected = (unit[0].T @ unit[0] - unit[1].T @ unit[1]).abs().mean().item()
    assert affinity_distance(ours, theirs).item() == pytest.approx(expected, rel=1e-6)


def test_by_hand():
    """Columns (1,0), (1,1) and (1,0), (0,1): affinities 1/sqrt(2) and 0 off the diagonal, 1 on it. Two of four differ.

    Normalised over space instead, the first would have 1/sqrt(2), 1/2 + 1 and so on: another value.
    """
    ours, theirs = torch.tensor([1.0, 1, 0, 1]).view(1, 2, 1, 2), torch.tensor([1.0, 0, 0, 1]).view(1, 2, 1, 2)
    assert affinity_distance(ours, theirs).item() == pytest.approx(2 * 0.5**0.5 / 4)
    # channels (1,1), (0,1): cosine 1/sqrt(2) as well, against (1,0), (0,1)
    assert affinity_distance(ours, theirs, 'channel').item() == pytest.approx(2 * 0.5**0.5 / 4)
    # samples 1 and 2: Gram (1 2; 2 4) has rows (1 2)/sqrt(5) twice; the teacher's (1 0; 0 4) the unit rows
    ours, theirs = torch.tensor([1.0, 2]).view(2, 1, 1, 1), torch.tensor([1.0, 0, 0, 2]).view(2, 2, 1, 1)
    expected = (abs(1 / 5**0.5 - 1) + 2 / 5**0.5 + 1 / 5**0.5 + abs(2 / 5**0.5 - 1)) / 4
    assert affinity_distance(ours, theirs, 'instance').item() == pytest.approx(expected, rel=1e-6)


def test_zero_columns():
    """A position without any activation has affinity 0 with all others, and its own gradient is that of x / 1e-8."""
    ours, theirs = maps(3, 1).double(), maps(7, 2).double()
    ours[..., 2, 3] = 0
    ours.requires_grad_()
    affinity_distance(ours, theirs).backward()
    s, t = ours.detach().numpy(), theirs.numpy()
    expected = numerical_gradient(lambda x: feature_losses.fakd_loss(x, t, 'spatial'), s, step=1e-14)
    np.testing.assert_allclose(ours.grad.numpy(), expected, atol=1e-4 * abs(expected).max())
    assert ours.grad[..., 2, 3].abs().max() > 1e5


def test_equal_wide_features_are_exactly_equal():
    """A product of many channels is summed in parts, which must not end in different roundings of the two sides."""
    ours = maps(512, 1, 12, 12).requires_grad_()
    value = affinity_distance(ours, maps(512, 1, 12, 12))
    value.backward()
    assert value == 0
    assert not ours.grad.any()


def test_strength_of_a_position_does_not_count():
    """The diagonal is 1 whatever the features' length: only directions are compared."""
    ours = maps(3, 1).double()
    assert affinity_distance(ours * (1 + torch.rand(2, 1, 4, 5)), ours).item() == pytest.approx(0, abs=1e-7)
    assert affinity_distance(ours * (1 + torch.rand(2, 3, 1, 1)), ours).item() > 1e-3


def test_no_affinity_matrix_ever_exists():
    """At 40x40 a matrix has 10.2 MB a sample; the largest thing held is a row block or the teacher's features."""
    ours, theirs = maps(8, 1, 40, 40).requires_grad_(), maps(32, 2, 40, 40)
    with LargestTensor() as held:
        affinity_distance(ours, theirs, block=64).backward()
    assert ours.grad.abs().sum() > 0
    assert held.largest <= max(64 * 1600, 2 * 32 * 1600) * 4
    with LargestTensor() as plain:
        ours.flatten(2).mT @ ours.flatten(2)
    assert plain.largest == 2 * 1600**2 * 4


@pytest.mark.parametrize('affinity', AFFINITIES)
def test_contract(affinity):
    student, teacher = output(f=maps(3, 1).requires_grad_()), output(f=maps(3, 2).requires_grad_())
    FAKDLoss(affinity)(student, teacher, NO_BATCH).backward()
    assert student.features['f'].grad.abs().sum() > 0
    assert teacher.features['f'].grad is None
    student.features['f'].grad = None
    zero = FAKDLoss(affinity)(student, output(f=maps(3, 1)), NO_BATCH)
    zero.backward()
    assert zero == 0
    assert not student.features['f'].grad.any()
    a, b = maps(3, 1), maps(3, 2)
    check_scale_and_order(lambda w: FAKDLoss(affinity, loss_weight=w), lambda x: output(f=x), a, b)
    check_low_precision_and_zeros(FAKDLoss(affinity), lambda x: output(f=x), a, b)


def test_cost_is_reported_and_absurd_sizes_are_refused(monkeypatch):
    lines = []
    monkeypatch.setattr('kdsr.losses.fakd_loss.get_root_logger', lambda: SimpleNamespace(info=lines.append))
    student, teacher = (output(up=torch.zeros(1, c, 1, 1).expand(2, -1, 128, 128)) for c in (64, 256))
    FAKDLoss().build_helpers(student, teacher)
    assert lines == ["FAKDLoss: 'up', 128x128: 120.3 GFLOP a sample, 4.2 MB a sample kept and 59 MB of working memory."]
    larger = output(up=torch.zeros(1, 64, 1, 1).expand(2, -1, 192, 128))
    with pytest.raises(ValueError, match=r"'up', 192x128: 270.6 GFLOP.*tap a layer before the upsampler"):
        FAKDLoss().build_helpers(larger, output(up=torch.zeros(1, 256, 1, 1)))
    FAKDLoss('instance').build_helpers(larger, larger)


def test_without_gradient():
    with torch.no_grad():
        value = FAKDLoss()(output(f=maps(3, 1)), output(f=maps(5, 2)), NO_BATCH)
    assert value > 0


def test_published_range_is_255_times_the_other():
    student, teacher = output(f=maps(3, 1)), output(f=maps(5, 2))
    large, small = (FAKDLoss(loss_range=r)(student, teacher, NO_BATCH).item() for r in (255, 1))
    assert large / small == pytest.approx(255, rel=1e-6)
    assert large == pytest.approx(affinity_distance(maps(3, 1), maps(5, 2)).item(), rel=1e-6)


def test_sizes_and_options():
    with pytest.raises(ValueError, match=r"feature 'f' is \(2, 3, 4, 5\) in the student and \(2, 3, 8, 5\)"):
        FAKDLoss()(output(f=maps(3, 1)), output(f=maps(3, 1, 8)), NO_BATCH)
    with pytest.raises(ValueError, match=r"affinity: channel.*equal channels.*'f' is \(2, 3, 4, 5\).*\(2, 5, 4, 5\)"):
        FAKDLoss('channel')(output(f=maps(3, 1)), output(f=maps(5, 1)), NO_BATCH)
    with pytest.raises(ValueError, match='spatial, channel, instance'):
        FAKDLoss('batch')
    with pytest.raises(ValueError, match='none, features, normalised'):
        FAKDLoss(selective='before')
    with pytest.raises(ValueError, match=r'image of \(8, 8\) does not fit features of \(4, 5\)'):
        FAKDLoss(selective='features')(output(f=maps(3, 1)), output(f=maps(3, 2)), NO_BATCH)
