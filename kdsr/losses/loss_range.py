"""Balance between image losses, which grow with the image range, and feature losses, which do not."""

from __future__ import annotations

from typing import Literal, get_args

from torch import Tensor

from kdsr.errors import UserError

LossRange = Literal[255, 1]
PUBLISHED_PEAK = 255


def check_loss_range(loss_range: object) -> None:
    """Refuse a `loss_range` other than 255 and 1.

    Raises:
        UserError: another value.
    """
    if isinstance(loss_range, bool) or loss_range not in get_args(LossRange):
        raise UserError(
            f'`loss_range` must be 255 (weights as published) or 1 (all terms 255 times smaller), not {loss_range!r}.'
        )


def scale_to_range(term: Tensor, loss_range: int, image_term: bool) -> Tensor:
    """Scale one term of a loss so that published weights keep their balance.

    Published weights of feature losses stand beside image losses on 0..255. Images are in [0, 1] here.

        image term:       term * loss_range           factor 255 or 1
        any other term:   term * loss_range / 255     factor 1 or 1/255

    The balance between both kinds is the published one for either value; 255 gives exactly 255 times the result of 1.
    An image loss without this option (BasicSR's `pixel_opt`, `ResponseLoss`) has range 1: beside losses of range 255,
    multiply its published weight by 255.

    Args:
        term: 0-dim tensor, computed from images in [0, 1] or from features.
        loss_range: 255 or 1.
        image_term: The term grows linearly with the range of the images. Features do not.

    Returns:
        A 0-dim tensor.
    """
    return term * (loss_range if image_term else loss_range / PUBLISHED_PEAK)
