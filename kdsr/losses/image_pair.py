"""The two images that an image-level loss compares."""

from __future__ import annotations

from torch import Tensor

from kdsr.distillation.outputs import NetworkOutput
from kdsr.distillation.precision import at_least_float32


def image_pair(student: NetworkOutput, teacher: NetworkOutput) -> tuple[Tensor, Tensor]:
    """Return the student's and the teacher's image, ready to be compared.

    Args:
        student: Its `sr` keeps its gradient.
        teacher: Its `sr` is detached: no loss trains a teacher.

    Returns:
        Two tensors (N, C, H, W) of at least single precision, whatever autocast gave.

    Raises:
        ValueError: the shapes differ.
    """
    if student.image.shape != teacher.image.shape:
        raise ValueError(
            f'The student gives images of shape {tuple(student.image.shape)} and the teacher of shape '
            f'{tuple(teacher.image.shape)}; a loss on images needs equal ones. Do both have the same scale?'
        )
    return at_least_float32(student.image), at_least_float32(teacher.image.detach())
