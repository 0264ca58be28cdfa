"""Resizing a stream gives what resizing the whole image gives."""

import cv2
import numpy as np
import pytest
from PIL import Image

from kdsr.image_files.picture import layout_of
from kdsr.image_files.resampling import resample_rows
from tests.helpers.image_files import pixels


def photo(dtype=np.uint8, height=301, width=153):
    large = cv2.resize(pixels(3, np.uint8, 40, 20), (width, height), interpolation=cv2.INTER_CUBIC)
    return large if dtype == np.uint8 else large.astype(np.uint16) * 257


@pytest.mark.parametrize(('height', 'width'), [(150, 76), (301, 90), (700, 400), (1, 1), (455, 153), (64, 300)])
@pytest.mark.parametrize('step', [1, 37, 400])
def test_a_stream_is_resized_as_the_whole_image(height, width, step):
    image = photo()
    rows = (image[i : i + step] for i in range(0, len(image), step))
    found = np.concatenate(list(resample_rows(rows, layout_of(image), height, width)))
    expected = np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.LANCZOS))
    assert found.dtype == np.uint8
    assert np.abs(found.astype(int) - expected).max() <= 1


def test_16_bits_stay_16_bits():
    image = photo(np.uint16)
    found = np.concatenate(list(resample_rows([image], layout_of(image), 150, 76)))
    expected = np.asarray(Image.fromarray(photo()).resize((76, 150), Image.Resampling.LANCZOS))
    assert found.dtype == np.uint16
    assert np.unique(found).size > 256
    assert np.abs(found / 257 - expected).max() < 1.5


def test_colours_do_not_depend_on_alpha():
    image = np.dstack([photo(), np.zeros((301, 153), np.uint8)])
    found = np.concatenate(list(resample_rows([image], layout_of(image), 150, 76)))
    opaque = np.concatenate(list(resample_rows([image[..., :3]], layout_of(image[..., :3]), 150, 76)))
    np.testing.assert_array_equal(found[..., :3], opaque)
    assert found[..., 3].max() == 0


def test_grey_rows_without_a_channel_axis():
    image = photo()[..., 0]
    found = np.concatenate(list(resample_rows([image], layout_of(image), 150, 76)))
    assert found.shape == (150, 76, 1)
