"""Published weights of feature losses balance image losses on 0..255, while images are in [0, 1] here."""

from __future__ import annotations

from torch import Tensor

from kdsr.errors import UserError

PUBLISHED_PEAK = 255


def check_loss_range(loss_range: object) -> None:
    """Refuse a `loss_range` other than 255 and 1.

    Raises:
        UserError: names the choices.
    """
    if isinstance(loss_range, bool) or loss_range not in (PUBLISHED_PEAK, 1):
        raise UserError(
            f'`loss_range` must be 255 (weights as published) or 1 (everything 255 times smaller), not {loss_range!r}.'
        )


def in_loss_range(term: Tensor, loss_range: int, image_term: bool) -> Tensor:
    """Return a term of a loss as it would be if the images were in 0..`loss_range`, up to one common factor.

        image term (grows with the image range): term * loss_range               255 or 1
        any other term:                          term * loss_range / 255         1   or 1/255

    Both forms have the published balance between the two kinds, and the first is exactly 255 times the second. An
    image loss without this option (BasicSR's `pixel_opt`, `ResponseLoss`) is one of range 1: beside losses of range
    255 its weight is 255 times the published one.

    Args:
        term: Computed from images in [0, 1] or from features.
        loss_range: 255 or 1.
        image_term: Whether the term grows linearly with the images' range; features do not grow with it.
    """
    return term * (loss_range if image_term else loss_range / PUBLISHED_PEAK)
