"""Prepare kdsr when it is first needed, so that `import kdsr` and commands such as `kdsr --help` load no PyTorch.

The preparation repairs BasicSR and registers kdsr's networks, losses, datasets and models. It runs before the first
import of BasicSR, or of a kdsr module outside :data:`LIGHT`. Whoever imports kdsr first therefore never sees an
unprepared BasicSR.
"""

from __future__ import annotations

import contextlib
import gc
import sys
from collections.abc import Iterator, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

# Modules of kdsr that import neither PyTorch nor BasicSR. `tests/test_first_use.py` checks this.
LIGHT = frozenset(
    ('__main__', 'cli', 'commands', 'deployment', 'deployment.card', 'deployment.zoo_listing', 'durable', 'errors',
     'first_use', 'foreign', 'markdown', 'metadata', 'methods', 'methods.files', 'methods.listing', 'methods.table',
     'options', 'plugins', 'processes', 'pyiqa_facts', 'wording', 'zoo')
)  # fmt: skip
_LIGHT_ROOMS = ('commands', 'foreign', 'options', 'zoo')  # with every module in them


def prepare_on_first_use() -> None:
    """Prepare kdsr before the first import that needs it; at once where BasicSR is imported already."""
    if 'basicsr' in sys.modules:
        _prepare()
    else:
        sys.meta_path.insert(0, _Trigger())


def _prepare() -> None:
    with _collector_at_rest():
        from kdsr.compat.imports import repair_imports

        repair_imports()  # what follows imports BasicSR
        from kdsr import replacements
        from kdsr.compat.former_names import restore_former_names

        restore_former_names()
        replacements.install()
        from kdsr import archs, data, losses, models, pyiqa_metric, views  # noqa: F401 - they register their classes
        from kdsr.checks.experiment import refuse_mistakes
        from kdsr.compat.option_files import before_a_run
        from kdsr.data.content import describe_content
        from kdsr.lifecycle.data_order import content_digests
        from kdsr.lifecycle.pipeline import model_classes
        from kdsr.models.any_model import find_distilled_class
        from kdsr.old_names import accept_old_names

        accept_old_names()
        before_a_run.append(refuse_mistakes)
        content_digests.append(describe_content)
        model_classes.append(find_distilled_class)


@contextlib.contextmanager
def _collector_at_rest() -> Iterator[None]:
    """Import without the garbage collector, and keep it from ever looking at what the imports created.

    Modules and classes live until the process ends. Collections during the imports, and the last one at the exit, cost
    about one of four processor seconds.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if enabled:
            gc.enable()


class _Trigger(MetaPathFinder):
    """The first finder that Python asks for a module; it finds none itself, but prepares kdsr in time."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if not _needs_preparation(name):
            return None
        sys.meta_path.remove(self)
        try:
            _prepare()
        except BaseException:
            sys.meta_path.insert(0, self)
            raise
        module = sys.modules.get(name)
        return None if module is None else _spec_of_imported(module)


def _needs_preparation(name: str) -> bool:
    package, _, inner = name.partition('.')
    if package != 'kdsr':
        return package == 'basicsr'
    return inner not in LIGHT and inner.partition('.')[0] not in _LIGHT_ROOMS


def _spec_of_imported(module: ModuleType) -> ModuleSpec:
    """Return a spec that hands out a module as it is. Python reads it from the module, so it is put there."""
    real = module.__spec__
    assert real is not None
    spec = ModuleSpec(real.name, _Imported(module, real), origin=real.origin)
    spec.submodule_search_locations = real.submodule_search_locations
    module.__spec__ = spec
    return spec


class _Imported(Loader):
    """Hand out a module that the preparation imported; to load it again would register its classes twice."""

    def __init__(self, module: ModuleType, real: ModuleSpec) -> None:
        self.module, self.real = module, real

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real.loader, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return self.module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self.real
