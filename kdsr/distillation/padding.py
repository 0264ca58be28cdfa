"""Run networks that accept only some image sizes on images of any size."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor
from torch.nn import functional as F


def pad_to_multiple(image: Tensor, multiple: int) -> Tensor:
    """Pad right and bottom so that both sides become multiples of `multiple`.

    The border is reflected, as SwinIR's authors do; where the image is too small for that, its last row or column is
    repeated.

    Args:
        image: (N, C, h, w).
        multiple: 1 leaves the image as it is.
    """
    h, w = image.shape[-2:]
    down, right = -h % multiple, -w % multiple
    if not down and not right:
        return image
    mode = 'reflect' if down < h and right < w else 'replicate'
    return F.pad(image, (0, right, 0, down), mode)


def run_padded(network: Callable[[Tensor], Tensor], image: Tensor, multiple: int) -> Tensor:
    """Run `network` on the padded image, and crop the padding off its output.

    The network gets a tensor of its own: some (spandrel's RCAN) change their input in place.

    Args:
        network: Maps (N, C, h, w) to (N, C', S*h, S*w).
        image: (N, C, h, w), any size.
        multiple: The network's window size; 1 for none.
    """
    padded = pad_to_multiple(image, multiple)
    if padded is image:
        return network(image.clone())
    output = network(padded)
    scale = output.shape[-1] // padded.shape[-1]
    return output[..., : image.shape[-2] * scale, : image.shape[-1] * scale]


def crop_padding(feature: Tensor, size: Sequence[int]) -> Tensor:
    """Cut off what a network padded at the right and the bottom, so that its map has the size of the image.

    A map that is larger than the image, but by less than a factor of 2, is taken for padded: upsamplers enlarge by 2 or
    more. spandrel's CRAFT always pads by up to a window, SwinIR up to the next whole window.

    Args:
        feature: (N, C, h', w').
        size: (h, w) of the image.

    Returns:
        (N, C, h, w) for a padded map, a view of it; else the map as it is.
    """
    if all(side <= own < 2 * side for own, side in zip(feature.shape[-2:], size)):
        return feature[..., : size[0], : size[1]]
    return feature
