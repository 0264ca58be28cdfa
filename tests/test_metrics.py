"""PSNR and SSIM against BasicSR, closed forms, and edge cases."""

import math

import cv2
import numpy as np
import pytest
import torch
from basicsr.metrics import calculate_psnr, calculate_ssim

from kdsr.metrics import NotFiniteError, check_finite, psnr_of_error, score
from kdsr.models.validation import measure
from kdsr.pictures.images import super_resolve


@pytest.mark.parametrize(
    ('error', 'peak', 'expected'),
    [(1.0, 255.0, 48.1308), (0.01, 1.0, 20.0), (1e-12, 1.0, 120.0), (0.0, 255.0, math.inf), (math.nan, 1.0, math.nan)],
)
def test_psnr_of_an_error(error, peak, expected):
    assert psnr_of_error(error, peak) == pytest.approx(expected, abs=1e-4, nan_ok=True)


def test_psnr_is_that_of_the_y_channel_inside_the_border():
    """Grey images: Y = 16 + 219/255 * grey, so an error of 2 grey levels is one of 2 * 219/255 in Y."""
    gt = np.full((32, 32, 3), 100, np.uint8)
    image = gt + 2
    image[0] = 0  # inside the border that is left out
    psnr, _ = score(image, gt, 4)
    assert psnr == pytest.approx(20 * np.log10(255 / (2 * 219 / 255)), abs=1e-3)
    assert score(gt, gt, 4) == (float('inf'), pytest.approx(1.0))


@pytest.mark.parametrize('y_channel', [True, False])
@pytest.mark.parametrize('border', [0, 3])
def test_scores_are_basicsrs(border, y_channel):
    rng = np.random.default_rng(0)
    gt = cv2.resize(rng.integers(0, 256, (9, 12, 3), np.uint8), (61, 47))
    image = np.clip(gt + rng.normal(0, 5, gt.shape), 0, 255).round().astype(np.uint8)
    luminance = gt[..., 0] + np.float32(0.3)
    for one, other in ((image, gt), (image[..., 0], luminance)):
        settings = {'crop_border': border, 'test_y_channel': y_channel}
        expected = calculate_psnr(one, other, **settings), calculate_ssim(one, other, **settings)
        assert score(one, other, border, y_channel) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize('value', [math.nan, math.inf, -math.inf])
def test_an_image_that_is_not_finite_has_no_score(value):
    image = torch.zeros(1, 3, 16, 16)
    image[0, 1, 3, 3] = value
    with pytest.raises(NotFiniteError, match='teacher x gives values that are not finite'):
        check_finite(image, 'teacher x')
    with pytest.raises(NotFiniteError):
        measure(image, torch.zeros(1, 3, 16, 16), {'psnr': {'type': 'calculate_psnr', 'crop_border': 2}}, False)
    with pytest.raises(NotFiniteError):
        super_resolve(lambda _: image, np.zeros((8, 8, 3), np.uint8))
