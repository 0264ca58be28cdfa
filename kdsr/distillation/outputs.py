"""What travels between data, networks and losses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Protocol

from torch import Tensor

from kdsr.distillation.bicubic import bicubic_downscale
from kdsr.errors import UserError
from kdsr.options import NetworkInput
from kdsr.wording import counted


@dataclass(frozen=True)
class Batch:
    """One training batch, as BasicSR's datasets deliver it.

    Attributes:
        lq: (N, C, h, w), RGB (or Y) in [0, 1].
        gt: (N, C, S*h, S*w), RGB (or Y) in [0, 1]; None without ground truth.
        teacher_images: The images of the T teachers, (N, C*T, S*h, S*w), teacher by teacher, or the one image that is
            taught, (N, C, S*h, S*w), in [0, 1]; None unless a cache delivers them or they are the input of a network.
        code: Output of a privileged teacher's encoder for `gt`, (N, C', h, w), any range; None unless a cache delivers
            it.

    Example:
        >>> import kdsr, torch
        >>> batch = kdsr.Batch(lq=torch.rand(4, 3, 12, 12), gt=torch.rand(4, 3, 24, 24))
        >>> [part.gt.shape[0] for part in batch.split(2)]
        [2, 2]
    """

    lq: Tensor
    gt: Tensor | None = None
    teacher_images: Tensor | None = None
    code: Tensor | None = None

    def require(self, what: NetworkInput, who: str = 'a network') -> Tensor:
        """Return the input of a network.

        Args:
            what: Name of the attribute, or 'lq_clean': the bicubic LR image of `gt`.
            who: The network, for the message.

        Raises:
            UserError: the batch has no such input.
        """
        image: Tensor | None = self._clean_lq() if what == 'lq_clean' else getattr(self, what)
        if image is None:
            raise UserError(_LACKING[what].format(who=who))
        return image

    def _clean_lq(self) -> Tensor | None:
        """Return the bicubic LR image of the ground truth, 8 bits as a file of it would be; None without ground truth.

        Degradations that are made in a step (blur, noise, JPEG) are not in it.
        """
        if self.gt is None:
            return None
        scale = self.gt.shape[-1] // self.lq.shape[-1]
        return bicubic_downscale(self.gt, scale).mul(255).round().clamp(0, 255).div(255)

    def split(self, parts: int) -> list[Batch]:
        """Return the batch in `parts` parts of N / parts samples, in order.

        Raises:
            UserError: N is not a multiple of `parts`.
        """
        if parts == 1:
            return [self]
        if len(self.lq) % parts:
            raise UserError(
                f'a batch of {counted(len(self.lq), "sample")} has no {parts} equal parts (`train.accumulate`).'
            )
        names = [f.name for f in fields(self) if getattr(self, f.name) is not None]
        columns = [getattr(self, name).chunk(parts) for name in names]
        return [Batch(**dict(zip(names, row))) for row in zip(*columns)]


_LACKING = {
    'lq_clean': '{who} needs the ground truth, to make a clean LR image of it, but this batch has none.',
    'gt': '{who} needs the ground truth, but this batch has none. Does the dataset name `dataroot_gt`?',
    'teacher_images': '`distillation.cache`: the training set delivers no cached images (key `teacher`).',
    'code': '`distillation.cache`: the training set delivers no codes (key `code`).',
}


@dataclass(frozen=True)
class NetworkOutput:
    """Output of a student or a teacher for one batch.

    Attributes:
        sr: (N, C, S*h, S*w), RGB (or Y) around [0, 1], not clamped; None from a teacher that stopped at its last tapped
            module, because no loss compares its image.
        features: Feature name (as in `distillation.features`) to a map (N, C, h', w'), early to late.

    Example:
        >>> import kdsr, torch
        >>> output = kdsr.NetworkOutput(sr=torch.rand(1, 3, 24, 24), features={'late': torch.rand(1, 64, 12, 12)})
        >>> list(output.features)
        ['late']
    """

    sr: Tensor | None
    features: dict[str, Tensor] = field(default_factory=dict)

    @property
    def image(self) -> Tensor:
        """The image `sr`, for losses that compare it.

        Raises:
            UserError: there is none: a loss whose class says `needs_teacher_image = False` asks for it.
        """
        if self.sr is None:
            raise UserError("a loss asks for the teacher's image, but its class says `needs_teacher_image = False`.")
        return self.sr


class Teacher(Protocol):
    """Whoever teaches: one frozen network, an ensemble with or without an aggregator, or a cache of their images."""

    @property
    def names(self) -> Sequence[str]:
        """The names of the teachers, in their order."""
        ...

    def __call__(self, batch: Batch, needs_image: bool = True) -> NetworkOutput:
        """Return image and features for a batch, without a graph; the image may be None without `needs_image`."""
        ...

    def images(self, batch: Batch) -> Tensor:
        """Return the image of each teacher, concatenated over channels: (N, C*T, S*h, S*w)."""
        ...

    def calibrate(self, batch: Batch) -> None:
        """Prepare for batches of this size, see :meth:`~kdsr.distillation.feature_tap.FeatureTap.calibrate`."""
        ...
