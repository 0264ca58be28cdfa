from __future__ import annotations

import numpy as np
import pytest

from kdsr.data.random_crops import copy_flipped


@pytest.mark.parametrize('flips', [(h, v, r) for h in (0, 1) for v in (0, 1) for r in (0, 1)])
def test_flips_are_those_of_augment(flips):
    image = np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    expected = image[:, ::-1] if flips[0] else image
    expected = expected[::-1] if flips[1] else expected
    expected = expected.transpose(1, 0, 2) if flips[2] else expected
    view = np.pad(image.transpose(2, 0, 1), 3)[3:-3, 3:-3, 3:-3]
    view.flags.writeable = False
    np.testing.assert_array_equal(copy_flipped(view, *flips), expected.transpose(2, 0, 1))
