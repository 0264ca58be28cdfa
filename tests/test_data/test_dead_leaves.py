"""Drawn training images: what is random in them, and what is not."""

import cv2
import numpy as np
import pytest
from scipy import stats

from kdsr.cli import main
from kdsr.data.dead_leaves import _draw_radius, draw_dead_leaves, draw_image
from kdsr.errors import UserError


def test_a_number_is_an_image():
    image = draw_image(3, 48, 64)
    assert (image.shape, image.dtype) == ((48, 64, 3), np.uint8)
    np.testing.assert_array_equal(image, draw_image(3, 48, 64))
    assert np.abs(image.astype(int) - draw_image(4, 48, 64)).mean() > 5


def test_sizes_have_the_density_of_the_inverse_cube():
    random = np.random.default_rng(0)
    sizes = [_draw_radius(random, 2.0, 50.0) for _ in range(2000)]
    total = (2.0**-2 - 50.0**-2) / 2  # integral of r^-3
    assert stats.kstest(sizes, lambda r: (2.0**-2 - np.asarray(r) ** -2) / 2 / total).pvalue > 0.01


def test_their_spectrum_falls_as_that_of_photos():
    """The power of photos falls with the frequency to the power of about -2 (Field, 1987)."""
    slopes = []
    for number in range(3):
        grey = draw_image(number, 160, 160).mean(axis=2)
        window = np.hanning(160)
        power = np.abs(np.fft.fft2((grey - grey.mean()) * np.outer(window, window))) ** 2
        frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(160), np.fft.fftfreq(160)))
        low = (frequency > 0.02) & (frequency < 0.25)
        bands = np.digitize(np.log(frequency[low]), np.linspace(np.log(0.02), np.log(0.25), 12))
        mean = [
            (np.log(frequency[low][bands == b]).mean(), np.log(power[low][bands == b].mean())) for b in range(1, 12)
        ]
        slopes.append(np.polyfit(*zip(*mean), 1)[0])
    assert -3.2 < np.mean(slopes) < -1.5


def test_the_command_draws_what_is_missing(tmp_path):
    main(['dead-leaves', str(tmp_path / 'HR'), '--count', '2', '--size', '40', '--first', '1', '--workers', '1'])
    first, second = sorted((tmp_path / 'HR').iterdir())
    assert (first.name, second.name) == ('leaves_0001.png', 'leaves_0002.png')
    np.testing.assert_array_equal(cv2.imread(str(first)), draw_image(1, 40, 40))
    kept = second.stat().st_mtime_ns
    first.unlink()
    draw_dead_leaves(tmp_path / 'HR', 2, 40, first=1, workers=1)
    assert first.exists()
    assert second.stat().st_mtime_ns == kept


def test_bad_wishes_are_refused(tmp_path):
    for wrong, told in (
        ({'size': 16}, '--size 16: it must be at least 32'),
        ({'count': 0}, '--count 0'),
        ({'first': -1}, '--first -1'),
        ({'workers': 0}, '1 worker is needed'),
    ):
        with pytest.raises(UserError, match=told):
            draw_dead_leaves(tmp_path / 'none', **{'count': 1, **wrong})
    assert not (tmp_path / 'none').exists()
    draw_dead_leaves(tmp_path, 1, 40, workers=1)
    with pytest.raises(UserError, match=r'leaves_0000\.png has 40x40 pixels, not 48x48'):
        draw_dead_leaves(tmp_path, 1, 48, workers=1)
    (tmp_path / 'leaves_0001.png').write_bytes(b'')
    with pytest.raises(UserError, match=r'leaves_0001\.png is damaged\. Delete it'):
        draw_dead_leaves(tmp_path, 2, 40, workers=1)
