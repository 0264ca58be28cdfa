import os

import cv2
import numpy as np
import pytest
import torch

from kdsr.errors import UserError
from kdsr.pictures.images import read_image, super_resolve


def test_colours_and_rounding_survive_a_network():
    image = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    seen = []

    def double(x):
        seen.append(x)
        return x.repeat_interleave(2, -1).repeat_interleave(2, -2)

    assert np.array_equal(super_resolve(double, image), image.repeat(2, 0).repeat(2, 1))
    assert torch.equal(seen[0][0, 0], torch.from_numpy(image[..., 2].copy()) / 255)  # RGB: red first


def test_what_is_no_image_is_named(tmp_path):
    (tmp_path / 'a.png').write_text('no image')
    for name in ('a.png', 'b.png'):
        with pytest.raises(UserError, match=name):
            read_image(str(tmp_path / name))
    cv2.imwrite(str(tmp_path / 'grey.png'), np.zeros((4, 4), np.uint8))
    assert read_image(str(tmp_path / 'grey.png')).shape == (4, 4, 3)


@pytest.mark.parametrize('name', ['half.jpg', 'half.png', 'pipe.png'])
def test_half_files_and_pipes_are_not_scored(tmp_path, name):
    """OpenCV decodes the first half of a JPEG and leaves the rest grey; a pipe would wait for ever."""
    path = tmp_path / name
    if name == 'pipe.png':
        if not hasattr(os, 'mkfifo'):
            pytest.skip('no pipes with names here')
        os.mkfifo(path)
    else:
        image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
        content = cv2.imencode(path.suffix, image)[1].tobytes()
        path.write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match=name):
        read_image(str(path))
