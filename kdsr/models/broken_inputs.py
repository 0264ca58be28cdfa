"""What gave a step numbers that are not finite, where it was not the network in training: its images, or a teacher."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from kdsr.distillation.outputs import Batch
from kdsr.distillation.teacher import TeacherEnsemble

_IMAGES = {'lq': 'the low-quality image', 'gt': 'the ground truth'}


@torch.no_grad()
def find_broken_inputs(model: Any, parts: Sequence[Batch]) -> list[str]:
    """Name the images of a batch, or else the live teachers, that are not finite.

    Args:
        model: In training; its `teacher` or `teachers` may be a :class:`TeacherEnsemble`.
        parts: Of the batch of the step.

    Returns:
        Words for the message, such as ``teacher 'edsr'``; empty where the network itself is at fault.
    """
    broken = [f'{words} of the batch' for name, words in _IMAGES.items() if any(map(_is_broken, _of(parts, name)))]
    if broken:
        return broken
    ensemble = getattr(model, 'teacher', None) or getattr(model, 'teachers', None)
    if not isinstance(ensemble, TeacherEnsemble):  # cached, or there is none
        return []
    for name, member in zip(ensemble.names, ensemble.members):
        outputs = [TeacherEnsemble({name: member}, ensemble.inputs)(part) for part in parts]
        values = [value for output in outputs for value in (output.sr, *output.features.values())]
        if any(map(_is_broken, values)):
            broken.append(f'teacher {name!r}')
    return broken


def _of(parts: Sequence[Batch], name: str) -> list[Tensor | None]:
    return [getattr(part, name) for part in parts]


def _is_broken(value: Tensor | None) -> bool:
    return value is not None and not bool(torch.isfinite(value).all())
