"""Views: extra batches made of a training pair, on which the student learns from its teachers too."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from basicsr.utils.registry import Registry
from torch import Tensor, nn

from kdsr.distillation.bicubic import bicubic_downscale
from kdsr.distillation.building import check_arguments
from kdsr.distillation.distillation_loss import MissingFeaturesError
from kdsr.distillation.outputs import Batch, NetworkOutput
from kdsr.errors import UserError, did_you_mean

VIEW_REGISTRY = Registry('view')
Image = Callable[[Tensor], Tensor]
ImageTerms = Callable[[Tensor, Tensor], dict[str, Tensor]]


class View:
    """Base of all views: an extra batch made of the training pair, and how the student is judged on it.

    The teachers are run on the batch, the student on A(lq); the inverse of A is applied to its image, which then goes
    through the losses of the run:

        F~(X) = A^-1( F( A(X) ) )

    A is drawn for every sample: colour inversion 1 - x, flip of height, flip of width, transposition, in this order,
    each with probability `consistency`. With 0 nothing is drawn and F~ = F.

    A view is a subclass that overrides :meth:`make`, registered in `VIEW_REGISTRY`; its constructor arguments are its
    options. Random numbers come from torch's CPU generator.

    Args:
        consistency: Probability of each part of A, from 0 to 1.
        losses: Names from `distillation.losses`; all that compare images when left out.
        loss_weight: Factor on the view's terms.

    Raises:
        ValueError: a probability outside [0, 1].
    """

    def __init__(self, consistency: float = 0.0, losses: list[str] | None = None, loss_weight: float = 1.0) -> None:
        if isinstance(consistency, (str, bool)) or not 0 <= consistency <= 1:
            raise UserError(f'`consistency` is a probability, from 0 to 1, not {consistency!r}.')
        self.consistency = consistency
        self.losses = losses
        self.loss_weight = loss_weight

    def make(self, batch: Batch) -> Batch:
        """Return the extra batch; with `gt` where there is a ground truth, which the image losses then compare."""
        raise NotImplementedError


@VIEW_REGISTRY.register()
class ZoomIn(View):
    """Zoom-in of DUKD [1]: blocks of the ground truth as low-resolution images, without a ground truth of their own.

    The ground truth is cut into its S x S grid of blocks of the low-resolution size; `count` of them, drawn anew for
    each batch and the same for all of its samples (as in the released code), give (count*N, C, h, w).

    The released code applies A a second time instead of its inverse; the two differ where an image is transposed and
    flipped once.

    Args:
        count: From 1 to S*S.
        consistency: See :class:`View`; 0.3 in [1], 0 for RCAN.
        losses: See :class:`View`.
        loss_weight: See :class:`View`.

    Raises:
        ValueError: `count` is not in the grid.

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
        gt, (h, w) = _ground_truth(batch), batch.lq.shape[-2:]
        rows, columns = gt.shape[-2] // h, gt.shape[-1] // w
        if not 1 <= self.count <= rows * columns:
            raise UserError(f'`count` must be from 1 to {rows * columns}, the blocks of the grid, not {self.count!r}.')
        chosen = torch.randperm(rows * columns)[: self.count].tolist()
        corners = [(k // columns * h, k % columns * w) for k in chosen]
        return Batch(torch.cat([gt[..., top : top + h, left : left + w] for top, left in corners]))


@VIEW_REGISTRY.register()
class ZoomOut(View):
    """Zoom-out of DUKD: the low-resolution image as the ground truth of its own bicubic downscaling by S.

    MATLAB's antialiased bicubic, not rounded, as in the released code. Sides that are no multiple of S are cropped
    (right and bottom) first. Its losses are the pixel loss (SRModel's `pixel_opt`) and the distillation losses.

    Args:
        consistency: See :class:`View`.
        losses: See :class:`View`.
        loss_weight: See :class:`View`.
    """

    def make(self, batch: Batch) -> Batch:
        """Return the downscaled low-resolution image, with the low-resolution image as ground truth."""
        scale = _ground_truth(batch).shape[-1] // batch.lq.shape[-1]
        h, w = (side - side % scale for side in batch.lq.shape[-2:])
        label = batch.lq[..., :h, :w]
        return Batch(bicubic_downscale(label, scale), label)


def _ground_truth(batch: Batch) -> Tensor:
    if batch.gt is None:
        raise UserError('a view is made of the ground truth, but this batch has none.')
    return batch.gt


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


# What a model does with views.


def build_view(where: str, opt: Mapping[str, Any], losses: nn.ModuleDict, batch: Batch) -> View:
    """Build a view from its options and decide which losses judge the student on it.

    Args:
        where: Its key in the YAML, for messages.
        opt: `type` and arguments.
        losses: Those of the run.
        batch: Any with ground truth, to learn which losses compare images.

    Raises:
        UserError: unknown arguments or losses, or a named loss needs features.
    """
    check_arguments(VIEW_REGISTRY, where, opt)
    try:
        view: View = VIEW_REGISTRY.get(opt['type'])(**{k: v for k, v in opt.items() if k != 'type'})
    except ValueError as error:
        raise UserError(f'{where}: {error}') from None
    on_images = [name for name, loss in losses.items() if _compares_images(loss, batch)]
    for name in view.losses or ():
        if name not in losses:
            raise UserError(f'{where}.losses: there is no loss {name!r}.{did_you_mean(name, losses)}')
        if name not in on_images:
            raise UserError(f'{where}.losses: {name!r} needs features, which are tapped on the training pair only.')
    view.losses = on_images if view.losses is None else view.losses
    return view


@torch.no_grad()
def _compares_images(loss: nn.Module, batch: Batch) -> bool:
    image = NetworkOutput(_ground_truth(batch))
    try:
        loss(image, image, batch)
    except MissingFeaturesError:
        return False
    return True


def view_terms(
    view: View,
    batch: Batch,
    student: Image,
    teacher: Callable[[Batch], NetworkOutput],
    losses: nn.ModuleDict,
    image_terms: ImageTerms,
) -> dict[str, Tensor]:
    """Run teachers and student on a view of a batch; return what is to be minimised, by the names of the losses.

    Args:
        view: As :func:`build_view` returns it.
        batch: The training pair.
        student: Maps (N, C, h, w), any size, to (N, C, S*h, S*w).
        teacher: Of the run.
        losses: Of the run, by name.
        image_terms: Image and ground truth to the model's own losses; for views that have a ground truth.
    """
    extra = view.make(batch)
    drawn = draw_parts(view.consistency, len(extra.lq), extra.lq.device)
    answer = NetworkOutput(undo(student(augment(extra.lq, drawn)), drawn))
    terms = {} if extra.gt is None else image_terms(answer.sr, extra.gt)
    if view.losses:
        target = NetworkOutput(teacher(extra).sr)
        terms.update({name: losses[name](answer, target, extra) for name in view.losses})
    return {name: view.loss_weight * term for name, term in terms.items()}
