"""DUKD: blocks of the ground truth as inputs, the input as a ground truth, and label consistency (Zhang et al.)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from kdsr.distillation.bicubic import bicubic_downscale
from kdsr.distillation.outputs import Batch
from kdsr.distillation.views import VIEW_REGISTRY, View
from kdsr.errors import UserError


class ConsistentView(View):
    """A view on which the student runs on A(lq), and the inverse of A is applied to its image.

        F~(X) = A^-1( F( A(X) ) )

    A is drawn for every sample: colour inversion 1 - x, flip of height, flip of width, transposition, in this order,
    each with probability `consistency`. With 0 nothing is drawn and F~ = F.

    Args:
        consistency: Probability of each part of A, from 0 to 1.
        losses: See :class:`View`.
        loss_weight: See :class:`View`.

    Raises:
        UserError: a probability outside [0, 1].
    """

    def __init__(self, consistency: float = 0.0, losses: list[str] | None = None, loss_weight: float = 1.0) -> None:
        super().__init__(losses, loss_weight)
        if isinstance(consistency, (str, bool)) or not 0 <= consistency <= 1:
            raise UserError(f'`consistency` is a probability, from 0 to 1, not {consistency!r}.')
        self.consistency = consistency

    def run_student(self, student: Callable[[Tensor], Tensor], lq: Tensor) -> Tensor:
        """Return F~(lq), (N, C, S*h, S*w); `lq` must be square where A can transpose it."""
        drawn = draw_parts(self.consistency, len(lq), lq.device)
        return undo(student(augment(lq, drawn)), drawn)


@VIEW_REGISTRY.register()
class ZoomIn(ConsistentView):
    """Zoom-in of DUKD [1]: blocks of the ground truth as low-resolution images, without a ground truth of their own.

    The ground truth is cut into its S x S grid of blocks of the low-resolution size; `count` of them, drawn for
    each batch and the same for all of its samples (as in the released code), make up (count*N, C, h, w).

    The released code applies A a second time instead of its inverse; the two differ where an image is transposed and
    flipped once.

    Args:
        count: From 1 to S*S.
        consistency: See :class:`ConsistentView`; 0.3 in [1], 0 for RCAN.
        losses: See :class:`View`.
        loss_weight: See :class:`View`.

    Raises:
        UserError: `count` is not in the grid.

    References:
        [1] Zhang, Li, Hu, et al. Data Upcycling Knowledge Distillation for Image Super-Resolution. 2023.
            https://arxiv.org/abs/2309.14162
    """

    def __init__(
        self,
        count: int = 1,
        consistency: float = 0.3,
        losses: list[str] | None = None,
        loss_weight: float = 1.0,
    ) -> None:
        super().__init__(consistency, losses, loss_weight)
        self.count = count

    def make(self, batch: Batch) -> Batch:
        """Return blocks of the ground truth, block by block."""
        gt, (h, w) = batch.require('gt', 'a view'), batch.lq.shape[-2:]
        rows, columns = gt.shape[-2] // h, gt.shape[-1] // w
        if not 1 <= self.count <= rows * columns:
            raise UserError(f'`count` must be from 1 to {rows * columns}, the blocks of the grid, not {self.count!r}.')
        chosen = torch.randperm(rows * columns)[: self.count].tolist()
        corners = [(k // columns * h, k % columns * w) for k in chosen]
        return Batch(torch.cat([gt[..., top : top + h, left : left + w] for top, left in corners]))


@VIEW_REGISTRY.register()
class ZoomOut(ConsistentView):
    """Zoom-out of DUKD: the low-resolution image as the ground truth of its own bicubic downscaling by S.

    MATLAB's antialiased bicubic, not rounded, as in the released code. Sides that are not a multiple of S are cropped
    (right and bottom) first. Its losses are the pixel loss (SRModel's `pixel_opt`) and the distillation losses.

    Args:
        consistency: See :class:`ConsistentView`.
        losses: See :class:`View`.
        loss_weight: See :class:`View`.
    """

    def make(self, batch: Batch) -> Batch:
        """Return the downscaled low-resolution image, with the low-resolution image as ground truth."""
        scale = batch.require('gt', 'a view').shape[-1] // batch.lq.shape[-1]
        h, w = (side - side % scale for side in batch.lq.shape[-2:])
        label = batch.lq[..., :h, :w]
        return Batch(bicubic_downscale(label, scale), label)


# Label consistency: each part is its own inverse.


def _inverted(images: Tensor) -> Tensor:
    return 1 - images


def _flipped_in_height(images: Tensor) -> Tensor:
    return images.flip(-2)


def _flipped_in_width(images: Tensor) -> Tensor:
    return images.flip(-1)


def _transposed(images: Tensor) -> Tensor:
    if images.shape[-2] != images.shape[-1]:
        raise UserError(f'`consistency` transposes images, which must be square; they are {tuple(images.shape[-2:])}.')
    return images.mT


PARTS = (_inverted, _flipped_in_height, _flipped_in_width, _transposed)


def draw_parts(probability: float, samples: int, device: torch.device) -> Tensor | None:
    """Draw which parts of A each sample gets: (4, samples), true or false; None where all have probability 0."""
    if probability == 0:
        return None
    return (torch.rand(len(PARTS), samples) < probability).to(device, non_blocking=True)


def augment(images: Tensor, drawn: Tensor | None) -> Tensor:
    """Return A(images), (N, C, H, W); they must be square."""
    for part, mask in zip(PARTS, () if drawn is None else drawn):
        images = torch.where(mask.view(-1, 1, 1, 1), part(images), images)
    return images


def undo(images: Tensor, drawn: Tensor | None) -> Tensor:
    """Return the inverse of :func:`augment`: the same parts in the opposite order."""
    for part, mask in reversed(list(zip(PARTS, () if drawn is None else drawn))):
        images = torch.where(mask.view(-1, 1, 1, 1), part(images), images)
    return images
