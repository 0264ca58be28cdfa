"""The two images that an image loss compares."""

from __future__ import annotations

from torch import Tensor

from kdsr.distillation.outputs import NetworkOutput
from kdsr.distillation.precision import at_least_float32


def pair_images(student: NetworkOutput, teacher: NetworkOutput) -> tuple[Tensor, Tensor]:
    """Return the student's and the teacher's image for a comparison.

    Args:
        student: Its `sr` keeps its gradient.
        teacher: Its `sr` is detached, because no loss trains a teacher.

    Returns:
        Two tensors (N, C, H, W), at least single precision also under autocast.

    Raises:
        ValueError: the shapes differ.
    """
    if student.image.shape != teacher.image.shape:
        raise ValueError(
            f'The student gives images of shape {tuple(student.image.shape)} and the teacher of shape '
            f'{tuple(teacher.image.shape)}; a loss on images needs equal ones. Do both have the same scale?'
        )
    return at_least_float32(student.image), at_least_float32(teacher.image.detach())
