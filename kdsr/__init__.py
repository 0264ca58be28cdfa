"""kdsr: knowledge distillation for image super-resolution, as a plugin for BasicSR.

``import kdsr`` is enough: the next import of BasicSR finds it repaired for today's libraries (`kdsr.compat`), with
training runs that can stop and resume at any moment (`kdsr.lifecycle`), and with kdsr's networks, losses, datasets and
models in its registries.

The public names are listed in `__all__` and described, with examples, in docs/api.md. They load on first use, so that
``import kdsr`` imports no PyTorch.
"""

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from kdsr.first_use import prepare_on_first_use

if TYPE_CHECKING:
    from kdsr import archs, losses
    from kdsr.authoring.distil import distil
    from kdsr.authoring.option_check import check_option_files
    from kdsr.deployment.upscaler import Upscaler
    from kdsr.distillation.distillation_loss import DistillationLoss
    from kdsr.distillation.feature_tap import FeatureTap
    from kdsr.distillation.outputs import Batch, NetworkOutput
    from kdsr.errors import UserError
    from kdsr.networks.loading import load_network

__version__ = '0.1.0'
__all__ = [
    'Batch',
    'DistillationLoss',
    'FeatureTap',
    'NetworkOutput',
    'Upscaler',
    'UserError',
    'archs',
    'check_option_files',
    'distil',
    'load_network',
    'losses',
]

_HOMES = {
    'Batch': 'kdsr.distillation.outputs',
    'DistillationLoss': 'kdsr.distillation.distillation_loss',
    'FeatureTap': 'kdsr.distillation.feature_tap',
    'NetworkOutput': 'kdsr.distillation.outputs',
    'Upscaler': 'kdsr.deployment.upscaler',
    'UserError': 'kdsr.errors',
    'check_option_files': 'kdsr.authoring.option_check',
    'distil': 'kdsr.authoring.distil',
    'load_network': 'kdsr.networks.loading',
}

prepare_on_first_use()


def __getattr__(name: str) -> Any:
    """Import a public name, or a module of kdsr such as `kdsr.losses`, on its first use."""
    if name in _HOMES:
        globals()[name] = value = getattr(import_module(_HOMES[name]), name)
        return value
    if name.startswith('_') or find_spec(f'kdsr.{name}') is None:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    return import_module(f'kdsr.{name}')


def __dir__() -> list[str]:
    """List the public names beside what is loaded."""
    return sorted({*globals(), *__all__})
