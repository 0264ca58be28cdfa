"""Teachers whose images were computed before: the same call, and nothing to run."""

from __future__ import annotations

from torch import Tensor

from kdsr.distillation.outputs import Batch, NetworkOutput
from kdsr.distillation.teacher import TeacherEnsemble
from kdsr.errors import UserError


class CachedTeachers(TeacherEnsemble):
    """Answers with what the training set found in the cache. There are no features, and no networks to be tapped.

    A crop of the answer to the whole image is not the answer to the crop: it knows what lies beyond the crop's border,
    where a network that is shown the crop sees zeros.

    Args:
        names: Of the teachers that made the cache, in order.
    """

    def __init__(self, names: list[str]) -> None:
        super().__init__({})
        self.names = names

    def forward(self, batch: Batch, needs_image: bool = True) -> NetworkOutput:
        """Answer for one batch; there is nothing but the image."""
        return NetworkOutput(self.images(batch))

    def images(self, batch: Batch) -> Tensor:
        """Return what the cache holds: (N, C, S*h, S*w), or (N, C*T, S*h, S*w) where it holds each teacher's image.

        Raises:
            UserError: the batch has no cached images.
        """
        if batch.cached is None:
            raise UserError('`distillation.cache`: the training set delivers no cached images (key `teacher`).')
        return batch.cached


def without_border(
    student: NetworkOutput, teacher: NetworkOutput, batch: Batch, margin: int
) -> tuple[NetworkOutput, NetworkOutput, Batch]:
    """Leave out the border of every image.

    There a cached image and what a teacher makes of the crop differ: see :class:`CachedTeachers`.

    Args:
        student: What was made of the crop.
        teacher: The same part of what was made of the whole image.
        batch: The crop.
        margin: In low-resolution pixels; 0 changes nothing.
    """
    if margin == 0:
        return student, teacher, batch
    scale = student.sr.shape[-1] // batch.lq.shape[-1]

    def inner(image: Tensor | None, m: int) -> Tensor | None:
        return None if image is None else image[..., m:-m, m:-m]

    large = (inner(image, scale * margin) for image in (student.sr, teacher.sr, batch.gt, batch.cached))
    student_sr, teacher_sr, gt, cached = large
    assert student_sr is not None
    assert teacher_sr is not None
    lq = batch.lq[..., margin:-margin, margin:-margin]
    return NetworkOutput(student_sr), NetworkOutput(teacher_sr), Batch(lq, gt, cached)
