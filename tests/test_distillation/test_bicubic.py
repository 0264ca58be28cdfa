import numpy as np
import pytest
import torch

from kdsr.data.matlab_bicubic import imresize_bicubic
from kdsr.distillation.bicubic import bicubic_downscale, downscaling_matrix
from tests.references.views import downscaled


def random_image(*shape):
    return np.random.default_rng(0).integers(0, 256, shape)


@pytest.mark.parametrize('scale', [1, 2, 3, 4])
@pytest.mark.parametrize('times', [(1, 2), (4, 3)])
def test_downscaling_equals_the_exact_definition(scale, times):
    image = random_image(*(scale * t for t in times))
    ours = bicubic_downscale(torch.from_numpy(image).double(), scale)
    np.testing.assert_allclose(ours.numpy(), downscaled(image, scale), rtol=1e-12)


@pytest.mark.parametrize('scale', [2, 3, 4])
def test_it_is_what_the_data_are_made_with_but_for_their_rounding(scale):
    image = random_image(48, 36, 3).astype(np.uint8)
    ours = bicubic_downscale(torch.from_numpy(image).permute(2, 0, 1)[None] / 255, scale) * 255
    theirs = imresize_bicubic(image, scale)
    assert np.abs(ours[0].permute(1, 2, 0).numpy() - theirs).max() < 1.2  # two roundings of a half, and lobes


def test_a_constant_stays_and_a_ramp_stays_a_ramp_inside():
    torch.testing.assert_close(downscaling_matrix(36, 3).sum(1), torch.ones(12, dtype=torch.float64))
    ramp = torch.arange(48, dtype=torch.float64).repeat(48, 1)
    small = bicubic_downscale(ramp, 4)
    torch.testing.assert_close(small[5, 2:-2], 1.5 + 4 * torch.arange(2, 10, dtype=torch.float64))


def test_low_precision_is_computed_in_single():
    image = random_image(8, 12)  # whole numbers up to 255 are exact in bf16
    with torch.autocast('cpu', torch.bfloat16):
        small = bicubic_downscale(torch.from_numpy(image).bfloat16(), 2)
    assert small.dtype == torch.float32
    np.testing.assert_allclose(small.numpy(), downscaled(image, 2), rtol=1e-5)
