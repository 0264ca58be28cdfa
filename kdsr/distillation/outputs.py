"""What travels between data, networks and losses."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """One training batch, as BasicSR's datasets deliver it.

    Attributes:
        lq: (N, C, h, w), RGB (or Y) in [0, 1].
        gt: (N, C, S*h, S*w), RGB (or Y) in [0, 1]; None when there is no ground truth.
        cached: (N, C', S*h, S*w), what the teachers made of it before, in [0, 1]; None where they run live.
    """

    lq: Tensor
    gt: Tensor | None = None
    cached: Tensor | None = None


@dataclass(frozen=True)
class NetworkOutput:
    """What a student or a teacher gives for one batch.

    Attributes:
        sr: (N, C, S*h, S*w), RGB (or Y) around [0, 1], not clamped.
        features: Feature name (as in `distillation.features`) to a map (N, C, h', w'), early to late.
    """

    sr: Tensor
    features: dict[str, Tensor] = field(default_factory=dict)
