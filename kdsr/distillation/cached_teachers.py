"""Teachers whose images were computed before: the same call, and nothing to run."""

from __future__ import annotations

from torch import Tensor, nn

from kdsr.distillation.outputs import Batch, NetworkOutput


class CachedTeachers(nn.Module):
    """Answers with the images that the training set found in the cache: a teacher without networks and features.

    A crop of the answer to the whole image is not the answer to the crop: it knows what lies beyond the border of the
    crop, where a network that runs on the crop sees zeros.

    Args:
        names: Of the teachers that made the cache, in order.
    """

    def __init__(self, names: list[str]) -> None:
        super().__init__()
        self.names = names

    def forward(self, batch: Batch, needs_image: bool = True) -> NetworkOutput:
        """Return the cached image of a batch.

        Raises:
            UserError: the batch has no cached image.
        """
        return NetworkOutput(self.images(batch))

    def images(self, batch: Batch) -> Tensor:
        """Return the cached images: (N, C, S*h, S*w), or (N, C*T, S*h, S*w) where the cache holds each teacher's image.

        Raises:
            UserError: the batch has no cached images.
        """
        return batch.require('teacher_images')

    def calibrate(self, batch: Batch) -> None:
        """Do nothing: there is no tap."""


def without_border(
    student: NetworkOutput, teacher: NetworkOutput, batch: Batch, margin: int
) -> tuple[NetworkOutput, NetworkOutput, Batch]:
    """Leave out the border of every image.

    There a cached image and the teacher's answer to the crop differ: see :class:`CachedTeachers`.

    Args:
        student: Of the crop.
        teacher: The same part of the answer to the whole image.
        batch: The crop.
        margin: In low-resolution pixels; 0 changes nothing.
    """
    if margin == 0:
        return student, teacher, batch
    scale = student.image.shape[-1] // batch.lq.shape[-1]

    def inner(image: Tensor | None, m: int = scale * margin) -> Tensor | None:
        return None if image is None else image[..., m:-m, m:-m]

    lq = batch.lq[..., margin:-margin, margin:-margin]
    inner_batch = Batch(lq, inner(batch.gt), inner(batch.teacher_images))
    return NetworkOutput(inner(student.sr)), NetworkOutput(inner(teacher.sr)), inner_batch
