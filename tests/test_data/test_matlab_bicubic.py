from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest

from kdsr.data.matlab_bicubic import imresize_bicubic, upsample_bicubic
from tests.references.imresize import imresize

SHARED = Path(os.environ.get('KDSR_SHARED', Path(__file__).resolve().parents[3] / 'shared'))
SET5 = SHARED / 'data' / 'benchmark' / 'Set5'


def random_image(*shape):
    return np.random.default_rng(sum(shape)).integers(0, 256, shape, dtype=np.uint8)


def extreme_image(*shape):
    """Only 0 and 255: the kernel's lobes overshoot on both sides, so that clipping between the passes shows."""
    return np.random.default_rng(sum(shape)).integers(0, 2, shape, dtype=np.uint8) * np.uint8(255)


@pytest.mark.parametrize('make', [random_image, extreme_image])
@pytest.mark.parametrize('shape', [(24, 36, 3), (25, 19), (13, 17, 3), (3, 2), (1, 7), (1, 1, 1)])
@pytest.mark.parametrize('scale', [1, 2, 3, 4])
def test_downscaling_equals_the_exact_definition(make, shape, scale):
    image = make(*shape)
    np.testing.assert_array_equal(imresize_bicubic(image, scale), imresize(image, Fraction(1, scale)))


@pytest.mark.parametrize('make', [random_image, extreme_image])
@pytest.mark.parametrize('shape', [(7, 9, 3), (5, 6), (1, 2)])
@pytest.mark.parametrize('scale', [1, 2, 3, 4])
def test_upscaling_equals_the_exact_definition(make, shape, scale):
    image = make(*shape)
    np.testing.assert_array_equal(upsample_bicubic(image, scale), imresize(image, Fraction(scale)))


@pytest.mark.shared
@pytest.mark.skipif(not SET5.is_dir(), reason='Set5 with MATLAB-made LR images is not beside the repository')
@pytest.mark.parametrize('name', ['baby', 'bird', 'butterfly', 'head', 'woman'])
@pytest.mark.parametrize('scale', [2, 3, 4])
def test_matlab_made_the_same_pixels(scale, name):
    image = cv2.imread(str(SET5 / 'HR' / f'{name}.png'))
    height, width = (n - n % scale for n in image.shape[:2])
    expected = cv2.imread(str(SET5 / 'LR_bicubic' / f'X{scale}' / f'{name}x{scale}.png'))
    np.testing.assert_array_equal(imresize_bicubic(image[:height, :width], scale), expected)


@pytest.mark.parametrize('resize', [imresize_bicubic, upsample_bicubic])
def test_memory_layout_does_not_matter(resize):
    image = random_image(12, 20, 3)
    expected = resize(image, 2)
    assert expected.flags['C_CONTIGUOUS']
    np.testing.assert_array_equal(resize(np.asfortranarray(image), 2), expected)
    np.testing.assert_array_equal(resize(image[..., ::-1], 2), expected[..., ::-1])


@pytest.mark.parametrize('resize', [imresize_bicubic, upsample_bicubic])
@pytest.mark.parametrize(
    ('image', 'scale', 'error', 'words'),
    [
        (np.zeros((4, 4), np.float32), 2, TypeError, 'uint8.*float32'),
        (np.zeros((4, 0, 3), np.uint8), 2, ValueError, r'\(4, 0, 3\)'),
        (np.zeros((1, 4, 4, 3), np.uint8), 2, ValueError, r'\(1, 4, 4, 3\)'),
        (np.zeros((4, 4), np.uint8), 0, ValueError, 'at least 1; got 0'),
        (np.zeros((4, 4), np.uint8), 0.5, TypeError, r'integer; got 0\.5'),
    ],
)
def test_wrong_arguments_are_named(resize, image, scale, error, words):
    with pytest.raises(error, match=words):
        resize(image, scale)
