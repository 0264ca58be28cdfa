"""kdsr: knowledge distillation for image super-resolution, as a plugin for BasicSR.

``import kdsr`` is enough: the next import of BasicSR finds it repaired for today's libraries (`kdsr.compat`), with
training runs that can stop and resume at any moment (`kdsr.lifecycle`), and with kdsr's networks, losses, datasets and
models in its registries.
"""

from importlib import import_module
from importlib.util import find_spec
from typing import Any

from kdsr.first_use import prepare_on_first_use

__version__ = '0.1.0'

prepare_on_first_use()


def __getattr__(name: str) -> Any:
    """Import a module of kdsr when it is first used as an attribute, such as `kdsr.losses`."""
    if name.startswith('_') or find_spec(f'kdsr.{name}') is None:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    return import_module(f'kdsr.{name}')
