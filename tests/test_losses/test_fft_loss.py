import itertools

import numpy as np
import pytest
import torch

from kdsr.losses.fft_loss import FFTLoss, fourier_distance
from tests.references import feature_losses
from tests.references.frequency import numerical_gradient
from tests.references.loss_checks import NO_BATCH, check_image_loss, image_output, random_images

VARIANTS = list(itertools.product(('modulus', 'real_imag'), ('ortho', 'backward'), ('full', 'half')))


@pytest.mark.parametrize('options', [{}, {'complex': 'real_imag'}, {'plane': 'half', 'fft_norm': 'backward'}])
def test_contract(options):
    check_image_loss(lambda weight: FFTLoss(loss_weight=weight, **options))


@pytest.mark.parametrize('variant', VARIANTS)
@pytest.mark.parametrize('size', [(4, 6), (5, 7), (1, 1)])
def test_value_and_gradient(variant, size):
    image, target = random_images((2, 2, *size))
    image.requires_grad_()
    value = FFTLoss(*variant, loss_range=1)(image_output(image), image_output(target), NO_BATCH)
    value.backward()
    s, t = image.detach().double().numpy(), target.double().numpy()
    assert value.item() == pytest.approx(feature_losses.fft_loss(s, t, *variant), rel=1e-5)
    gradient = numerical_gradient(lambda x: feature_losses.fft_loss(x, t, *variant), s)
    np.testing.assert_allclose(image.grad.numpy(), gradient, atol=1e-4 * abs(gradient).max())


def test_variants_differ():
    image, target = random_images((2, 3, 12, 10))
    values = [fourier_distance(image, target, *variant).item() for variant in VARIANTS]
    assert len({round(v, 6) for v in values}) == len(VARIANTS)


def test_by_hand():
    """The row (1, 2) over zero has the spectrum (3, -1), over sqrt(2) with 'ortho'; (1, 2, 0, 0) has 3, 1-2i, -1, 1+2i.

    Moduli 3, sqrt(5), 1, sqrt(5); |Re| 3, 1, 1, 1; |Im| 0, 2, 0, 2.
    """
    row, four = torch.tensor([1.0, 2]).view(1, 1, 1, 2), torch.tensor([1.0, 2, 0, 0]).view(1, 1, 1, 4)
    assert fourier_distance(row, torch.zeros_like(row)).item() == pytest.approx(2 / 2**0.5)
    zero = torch.zeros_like(four)
    modulus = fourier_distance(four, zero, fft_norm='backward').item()
    assert modulus == pytest.approx((3 + 5**0.5 + 1 + 5**0.5) / 4)
    half = fourier_distance(four, zero, fft_norm='backward', plane='half').item()
    assert half == pytest.approx((3 + 5**0.5 + 1) / 3)
    parts = fourier_distance(four, zero, 'real_imag', 'backward').item()
    assert parts == pytest.approx((3 + 1 + 1 + 1 + 2 + 2) / 8)


def test_phase_counts():
    """A shifted image has the magnitudes of the image: a loss on magnitudes alone would be 0."""
    image, _ = random_images()
    assert fourier_distance(image, image.roll(3, -1)) > 0.1


def test_published_range_is_255_times_the_other():
    image, target = (x.double() for x in random_images())
    large, small = (FFTLoss(loss_range=r)(image_output(image), image_output(target), NO_BATCH).item() for r in (255, 1))
    assert large / small == pytest.approx(255, rel=1e-12)
    assert small == pytest.approx(fourier_distance(image, target).item(), rel=1e-12)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'complex': 'magnitude'}, 'modulus, real_imag'),
        ({'fft_norm': 'none'}, 'ortho, backward'),
        ({'plane': 'rfft'}, 'full, half'),
        ({'loss_range': 100}, '255 .* or 1'),
        ({'loss_range': True}, '255 .* or 1'),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(ValueError, match=message):
        FFTLoss(**options)


def test_shapes_of_the_pure_function():
    with pytest.raises(ValueError, match=r'\(1, 3, 4, 4\) and \(1, 3, 4, 5\)'):
        fourier_distance(torch.zeros(1, 3, 4, 4), torch.zeros(1, 3, 4, 5))
