"""The signature that every distillation loss shares."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

from torch import Tensor, nn

from kdsr.distillation.outputs import Batch, NetworkOutput
from kdsr.errors import UserError


class MissingFeaturesError(UserError):
    """A loss was given outputs without the features that it compares."""


class DistillationLoss(nn.Module):
    """Base of all distillation losses: ``loss_weight * distance(student, teacher, batch)``.

    A method is a subclass that overrides :meth:`distance`, and :meth:`build_helpers` when it trains regressors or
    estimators of its own. Register it in BasicSR's ``LOSS_REGISTRY``; its constructor arguments are its options.

    What a loss finds out on its way and does not minimise it leaves in `measured`: name to a detached 0-dim tensor,
    which the log shows as `<name>_<loss>`, averaged over the processes.

    Where no loss of an experiment sets :attr:`needs_teacher_image`, the teachers stop at their last tapped layer.

    Args:
        loss_weight: Factor on the result.
        features: Names from `distillation.features` that the loss compares; all of them, in order, when left out.
            A loss on images ignores it.

    Example:
        >>> import kdsr, torch
        >>> class BlueLoss(kdsr.DistillationLoss):
        ...     def distance(self, student, teacher, batch):
        ...         return (student.sr - teacher.sr.detach())[:, 2].abs().mean()
        >>> student, teacher = (kdsr.NetworkOutput(sr=torch.full((1, 3, 8, 8), grey)) for grey in (0.5, 0.75))
        >>> BlueLoss(loss_weight=2.0)(student, teacher, kdsr.Batch(lq=torch.zeros(1, 3, 4, 4)))
        tensor(0.5000)
    """

    needs_teacher_image = True  # False in a class that never asks for `teacher.sr`
    needed_samples = 1  # of a batch, for a class that compares samples with each other
    wanted_samples = 1  # with fewer, it works badly

    def __init__(self, loss_weight: float = 1.0, features: list[str] | None = None) -> None:
        super().__init__()
        self.loss_weight = loss_weight
        self.features = features
        self.measured: dict[str, Tensor] = {}

    def forward(self, student: NetworkOutput, teacher: NetworkOutput, batch: Batch) -> Tensor:
        """Return the weighted loss, a 0-dim tensor."""
        return self.loss_weight * self.distance(student, teacher, batch)

    def distance(self, student: NetworkOutput, teacher: NetworkOutput, batch: Batch) -> Tensor:
        """Return the method's loss before `loss_weight`, a 0-dim tensor."""
        raise NotImplementedError

    def build_helpers(self, student: NetworkOutput, teacher: NetworkOutput) -> None:
        """Create trainable helpers from the shapes of a dry run (called once, before the optimiser is built)."""

    def pairs(self, student: NetworkOutput, teacher: NetworkOutput) -> list[tuple[str, Tensor, Tensor]]:
        """Return (name, student feature, teacher feature) for every feature that the loss compares.

        Raises:
            MissingFeaturesError: a named feature is not tapped, or no feature is.
        """
        tapped = list(student.features)
        names = tapped if self.features is None else self.features
        missing = [n for n in names if n not in student.features or n not in teacher.features]
        if missing or not names:
            wanted = f'the features {missing}' if missing else 'features'
            raise MissingFeaturesError(
                f'{type(self).__name__} compares {wanted}, but `distillation.features` taps {tapped or "none"}. '
                f"Add them there, or name tapped ones in the loss's `features`."
            )
        return [(n, student.features[n], teacher.features[n]) for n in names]


def foreign_loss(kind: type) -> str:
    """Say why a registered loss cannot stand in `distillation.losses`."""
    return f'{kind.__name__} is not a distillation loss; image losses of BasicSR belong into `train.pixel_opt`.'


def measurements(losses: nn.ModuleDict) -> dict[str, Tensor]:
    """Return what the losses measured in their last run, as `<name>_<loss>`, for the log."""
    named = cast('Iterable[tuple[str, DistillationLoss]]', losses.items())
    return {f'{what}_{name}': value for name, loss in named for what, value in loss.measured.items()}
