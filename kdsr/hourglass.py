"""The privileged teacher of PISR in two halves: its encoder's code is cached, and its decoder teaches.

Such a network maps the ground truth to a code of the low-quality image's size, and the code back to an image (Lee et
al., Learning with Privileged Information for Efficient Image Super-Resolution, ECCV 2020). Its encoder never changes,
so a cache holds the codes; the features that the student learns are the decoder's.
"""

from __future__ import annotations

from torch import Tensor, nn

from kdsr.distillation.teacher import FrozenNetwork, TeacherEnsemble
from kdsr.errors import UserError
from kdsr.experiment import Network


class Decoder(nn.Module):
    """The decoder of an hourglass at its own module path, so that taps of the whole network fit.

    Args:
        network: Has a `decoder`.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.decoder = network.decoder

    def forward(self, code: Tensor) -> Tensor:
        """Return the restored image (N, C, S*h, S*w) of a code (N, C', h, w)."""
        restored: Tensor = self.decoder(code)  # type: ignore[operator]
        return restored


def decoder_of(network: Network, module: nn.Module) -> Decoder:
    """Return the half of a teacher that runs on codes, for :func:`~kdsr.distillation.teacher.build_teachers`.

    Raises:
        UserError: the network has no two halves.
    """
    _check_hourglass(module, network.name)
    return Decoder(module)


def encoder_of(teachers: TeacherEnsemble) -> TeacherEnsemble:
    """Return the encoder of the only teacher as one whose image is the code: (N, C', h, w), any range.

    Raises:
        UserError: the network has no two halves.
    """
    (name,), (member,) = teachers.names, teachers.members
    _check_hourglass(member.network, name)
    encoder = FrozenNetwork(
        member.network.encoder,  # type: ignore[arg-type]
        precision=member.precision,
        channels_last=member.channels_last,
        device=member.device,
    )
    return TeacherEnsemble({name: encoder}, teachers.inputs)


def _check_hourglass(network: nn.Module, name: str) -> None:
    if not (hasattr(network, 'encoder') and hasattr(network, 'decoder')):
        raise UserError(
            f'teacher {name!r}: with `cache` and `features`, the output of its encoder for the ground truth is cached; '
            f'{type(network).__name__} has no `encoder` and `decoder`. Use PISRTeacher, or `exact: true` under `cache`.'
        )
