import numpy as np
import pytest
import scipy.fft
import torch

from kdsr.distillation.dct import dct2, dct_matrix
from kdsr.losses.dct_loss import DCTLoss
from tests.references import frequency
from tests.references.loss_checks import NO_BATCH, check_image_loss, image_output, random_images


@pytest.mark.parametrize('norm', ['ortho', 'none'])
def test_contract(norm):
    check_image_loss(lambda weight: DCTLoss(norm=norm, loss_weight=weight))


@pytest.mark.parametrize('norm', ['ortho', 'none'])
@pytest.mark.parametrize('shape', [(2, 3, 4, 6), (1, 1, 5, 3)])
def test_value_and_gradient(norm, shape):
    image, target = random_images(shape)
    image.requires_grad_()
    value = DCTLoss(norm=norm)(image_output(image), image_output(target), NO_BATCH)
    value.backward()
    s, t = image.detach().double().numpy(), target.double().numpy()
    assert value.item() == pytest.approx(frequency.dct_loss(s, t, norm), rel=1e-5)
    expected = frequency.numerical_gradient(lambda x: frequency.dct_loss(x, t, norm), s)
    np.testing.assert_allclose(image.grad.numpy(), expected, atol=1e-4 * abs(expected).max())


def test_by_hand():
    """A difference of 1 everywhere in 2x2: one coefficient, sqrt(2) * sqrt(2) = 2 (ortho) or 4 * 4 = 16."""
    one, zero = torch.ones(1, 1, 2, 2), torch.zeros(1, 1, 2, 2)
    assert DCTLoss()(image_output(one), image_output(zero), NO_BATCH).item() == pytest.approx(2 / 4, abs=1e-6)
    assert DCTLoss('none')(image_output(one), image_output(zero), NO_BATCH).item() == pytest.approx(16 / 4, abs=1e-5)


def test_transform_is_scipys():
    x = np.random.default_rng(0).normal(size=(2, 3, 24, 17))
    for ours, theirs in (('ortho', 'ortho'), ('none', 'backward')):
        expected = scipy.fft.dctn(x, axes=(2, 3), norm=theirs)
        np.testing.assert_allclose(dct2(torch.tensor(x), ours).numpy(), expected, atol=1e-10)


def test_ortho_keeps_energy():
    x = random_images((1, 3, 24, 17))[0]
    assert (dct2(x).square().sum() / x.square().sum()).item() == pytest.approx(1, abs=1e-5)
    np.testing.assert_allclose((dct_matrix(9) @ dct_matrix(9).T).numpy(), np.eye(9), atol=1e-12)


def test_first_use_in_validation_does_not_break_training():
    image, target = random_images((1, 1, 11, 13))
    with torch.inference_mode():
        DCTLoss()(image_output(image), image_output(target), NO_BATCH)
    image.requires_grad_()
    DCTLoss()(image_output(image), image_output(target), NO_BATCH).backward()
    assert image.grad.abs().sum() > 0


def test_unknown_norm_names_the_choices():
    with pytest.raises(ValueError, match=r"`norm` must be one of ortho, none, not 'orto'\. Did you mean 'ortho'"):
        DCTLoss(norm='orto')
