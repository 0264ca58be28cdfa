"""A large feature made as small as the student's, by hand."""

import pytest
import torch

from kdsr.distillation.feature_size import shrink
from kdsr.errors import UserError


def test_blocks_are_averaged_or_their_first_pixel_is_taken():
    feature = torch.arange(24.0).view(1, 1, 4, 6)  # rows 0..5, 6..11, 12..17, 18..23
    assert shrink(feature, 'average', 2).tolist() == [[[[3.5, 5.5, 7.5], [15.5, 17.5, 19.5]]]]
    assert shrink(feature, 'subsample', 2).tolist() == [[[[0, 2, 4], [12, 14, 16]]]]
    with pytest.raises(UserError, match='average, subsample'):
        shrink(feature, 'mean', 2)
