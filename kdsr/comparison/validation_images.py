"""The validation images of a comparison, as its runs are validated on them."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import torch
from basicsr.data import build_dataset
from basicsr.utils.color_util import rgb2ycbcr_pt
from torch import Tensor

from kdsr.wording import printable


def read_images(
    dataset_opt: Mapping[str, Any], scale: int, count: int | None = None, names: Collection[str] = ()
) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Yield the images of a validation set that have a ground truth.

    Args:
        dataset_opt: Options of the set.
        scale: S.
        count: How many images to take, from the first; None for all.
        names: Take these images instead, wherever in the set they are.

    Yields:
        Name without ending, lq (1, C, h, w) and gt (1, C, S*h, S*w), RGB in [0, 1], on the CPU.
    """
    dataset = build_dataset({**dataset_opt, 'phase': 'val', 'scale': scale})
    for i in range(len(dataset) if names or count is None else min(count, len(dataset))):
        data = dataset[i]
        name = os.path.splitext(os.path.basename(data['lq_path']))[0]
        if 'gt' in data and (not names or name in names):
            lq, gt = (data[key][None] for key in ('lq', 'gt'))
            yield printable(name), *(image.float() / 255 if image.dtype == torch.uint8 else image for image in (lq, gt))


def to_network_colours(image: Tensor, luminance: bool) -> Tensor:
    """Return an image (1, C, h, w), RGB in [0, 1], as validation gives it to a network.

    Args:
        image: RGB, or luminance already.
        luminance: The experiment has `color: y`.
    """
    return rgb2ycbcr_pt(image, y_only=True) if luminance and image.shape[1] == 3 else image
