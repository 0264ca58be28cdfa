"""Views: extra batches made of a training pair, on which the student learns from its teachers too.

The views that come with kdsr are in `kdsr/views/`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from basicsr.utils.registry import Registry
from torch import Tensor, nn

from kdsr.distillation.building import check_arguments
from kdsr.distillation.distillation_loss import MissingFeaturesError
from kdsr.distillation.outputs import Batch, NetworkOutput
from kdsr.errors import UserError, did_you_mean

VIEW_REGISTRY = Registry('view')
Image = Callable[[Tensor], Tensor]
ImageTerms = Callable[[Tensor, Tensor], dict[str, Tensor]]


class View:
    """Base of all views: an extra batch made of the training pair, and the losses of the student on it.

    The teachers are run on the batch, and so is the student; its image goes through the losses of the run.

    A view is a subclass that overrides :meth:`make`, registered in `VIEW_REGISTRY`; its constructor arguments are its
    options. Random numbers come from torch's CPU generator.

    Args:
        losses: Names from `distillation.losses`; all that compare images when left out.
        loss_weight: Factor on the view's terms.
    """

    def __init__(self, losses: list[str] | None = None, loss_weight: float = 1.0) -> None:
        self.losses = losses
        self.loss_weight = loss_weight

    def make(self, batch: Batch) -> Batch:
        """Return the extra batch; with `gt` where there is a ground truth, which the image losses then compare."""
        raise NotImplementedError

    def run_student(self, student: Image, lq: Tensor) -> Tensor:
        """Return the student's image of the extra batch, (N, C, S*h, S*w).

        Args:
            student: Maps (N, C, h, w), any size, to (N, C, S*h, S*w).
            lq: Of the extra batch.
        """
        return student(lq)


def build_view(where: str, opt: Mapping[str, Any], losses: nn.ModuleDict, batch: Batch) -> View:
    """Build a view from its options, and choose the losses that it uses.

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
    image = NetworkOutput(batch.require('gt', 'a view'))
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
    """Run teachers and student on a view of a batch; return the terms to minimise, by the names of the losses.

    Args:
        view: As :func:`build_view` returns it.
        batch: The training pair.
        student: Maps (N, C, h, w), any size, to (N, C, S*h, S*w).
        teacher: Of the run.
        losses: Of the run, by name.
        image_terms: Image and ground truth to the model's own losses; for views that have a ground truth.
    """
    extra = view.make(batch)
    image = view.run_student(student, extra.lq)
    answer = NetworkOutput(image)
    terms = {} if extra.gt is None else image_terms(image, extra.gt)
    if view.losses:
        target = NetworkOutput(teacher(extra).sr)
        terms.update({name: losses[name](answer, target, extra) for name in view.losses})
    return {name: view.loss_weight * term for name, term in terms.items()}
