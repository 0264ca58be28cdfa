"""Bring the features of a teacher that works on large images to the size of the student's."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from kdsr.errors import check_choice

SHRINK = ('average', 'subsample')


def shrink(feature: Tensor, how: str, factor: int) -> Tensor:
    """Return a feature of a `factor`-th of the size.

    Args:
        feature: (N, C, factor*h, factor*w), any range.
        how: 'average' of each square of factor x factor values, or 'subsample', its first value.
        factor: Whole number.

    Returns:
        (N, C, h, w).

    Raises:
        ValueError: unknown `how`.
    """
    check_choice('shrink', how, SHRINK)
    return F.avg_pool2d(feature, factor) if how == 'average' else feature[..., ::factor, ::factor]
