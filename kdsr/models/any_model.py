"""The `distillation:` block with any model class that derives from BasicSR's SRModel."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from basicsr.models.sr_model import SRModel
from basicsr.utils.registry import MODEL_REGISTRY

from kdsr.models.student_pass import StudentPass
from kdsr.models.wrapped_step import WrappedStep


def find_distilled_class(opt: Mapping[str, Any]) -> type[WrappedStep] | None:
    """Return the class that trains what `model_type` names with a `distillation:` block; None where it needs no other.

    Args:
        opt: All options. kdsr's own model classes read the block themselves.
    """
    if not opt.get('is_train') or not opt.get('distillation'):
        return None
    model_class = MODEL_REGISTRY.get(str(opt['model_type']))
    return distilled(model_class) if takes_block(model_class) else None


def takes_block(model_class: object) -> bool:
    """Return whether a model class, one that kdsr does not bring, can be distilled."""
    return (
        isinstance(model_class, type) and issubclass(model_class, SRModel) and not issubclass(model_class, StudentPass)
    )


def distilled(model_class: type[SRModel]) -> type[WrappedStep]:
    """Return a subclass of a model class whose student also learns from the teachers of the `distillation:` block.

    Example:
        >>> from basicsr.models.srgan_model import SRGANModel
        >>> distilled(SRGANModel).__name__
        'DistilledSRGANModel'
        >>> issubclass(distilled(SRGANModel), SRGANModel)
        True
    """
    return type(f'Distilled{model_class.__name__}', (WrappedStep, model_class), {})
