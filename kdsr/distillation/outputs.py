"""What travels between data, networks and losses."""

from __future__ import annotations

from dataclasses import dataclass, field, fields

from torch import Tensor

from kdsr.errors import UserError


@dataclass(frozen=True)
class Batch:
    """One training batch, as BasicSR's datasets deliver it.

    Attributes:
        lq: (N, C, h, w), RGB (or Y) in [0, 1].
        gt: (N, C, S*h, S*w), RGB (or Y) in [0, 1]; None when there is no ground truth.
        cached: What the teachers made of it before, (N, C', S*h, S*w), in [0, 1]; or what the encoder of a privileged
            teacher made of the ground truth, (N, C', h, w), any range. None where all of them run live.
    """

    lq: Tensor
    gt: Tensor | None = None
    cached: Tensor | None = None

    def split(self, parts: int) -> list[Batch]:
        """Return the batch in `parts` parts of N / parts samples, in order.

        Raises:
            UserError: N is no multiple of `parts`.
        """
        if parts == 1:
            return [self]
        if len(self.lq) % parts:
            raise UserError(f'a batch of {len(self.lq)} samples has no {parts} equal parts (`train.accumulate`).')
        names = [f.name for f in fields(self) if getattr(self, f.name) is not None]
        columns = [getattr(self, name).chunk(parts) for name in names]
        return [Batch(**dict(zip(names, row))) for row in zip(*columns)]


@dataclass(frozen=True)
class NetworkOutput:
    """What a student or a teacher gives for one batch.

    Attributes:
        sr: (N, C, S*h, S*w), RGB (or Y) around [0, 1], not clamped.
        features: Feature name (as in `distillation.features`) to a map (N, C, h', w'), early to late.
    """

    sr: Tensor
    features: dict[str, Tensor] = field(default_factory=dict)


class FeaturesOnly(NetworkOutput):
    """What a teacher gives that stopped at its last tapped module: `features` as ever, and no `sr`."""

    def __init__(self, features: dict[str, Tensor]) -> None:
        object.__setattr__(self, 'features', features)

    @property
    def sr(self) -> Tensor:
        """Refuse: some loss promised not to ask."""
        raise UserError("a loss asks for the teacher's image, but its class says `needs_teacher_image = False`.")
