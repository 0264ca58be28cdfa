import cv2
import numpy as np
import pytest
import torch
from basicsr.metrics import calculate_psnr, calculate_ssim

from kdsr.errors import UserError
from kdsr.pictures.scores import read_image, score, super_resolve


def test_colours_and_rounding_survive_a_network():
    image = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    seen = []

    def double(x):
        seen.append(x)
        return x.repeat_interleave(2, -1).repeat_interleave(2, -2)

    assert np.array_equal(super_resolve(double, image), image.repeat(2, 0).repeat(2, 1))
    assert torch.equal(seen[0][0, 0], torch.from_numpy(image[..., 2].copy()) / 255)  # RGB: red first


def test_psnr_is_that_of_the_y_channel_inside_the_border():
    """Grey images: Y = 16 + 219/255 * grey, so an error of 2 grey levels is one of 2 * 219/255 in Y."""
    gt = np.full((32, 32, 3), 100, np.uint8)
    image = gt + 2
    image[0] = 0  # inside the border that is left out
    psnr, _ = score(image, gt, 4)
    assert psnr == pytest.approx(20 * np.log10(255 / (2 * 219 / 255)), abs=1e-3)
    assert score(gt, gt, 4) == (float('inf'), pytest.approx(1.0))


def test_what_is_no_image_is_named(tmp_path):
    (tmp_path / 'a.png').write_text('no image')
    for name in ('a.png', 'b.png'):
        with pytest.raises(UserError, match=name):
            read_image(str(tmp_path / name))
    cv2.imwrite(str(tmp_path / 'grey.png'), np.zeros((4, 4), np.uint8))
    assert read_image(str(tmp_path / 'grey.png')).shape == (4, 4, 3)


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
