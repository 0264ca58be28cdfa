"""Registration by file name: BasicSR's convention (`*_arch.py`, `*_loss.py`, ...) for packages outside BasicSR."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterable

from kdsr.errors import UserError


def import_modules(package: str, suffix: str) -> list[str]:
    """Import every module of `package` whose name ends with `suffix`, so that its `@REGISTRY.register()` runs.

    Args:
        package: Dotted name of an imported package, for example ``kdsr.losses``.
        suffix: End of the module names, for example ``_loss``.

    Returns:
        The dotted names of the imported modules, sorted.
    """
    path = importlib.import_module(package).__path__
    names = sorted(f'{package}.{m.name}' for m in pkgutil.iter_modules(path) if m.name.endswith(suffix))
    for name in names:
        importlib.import_module(name)
    return names


def import_named(names: Iterable[str]) -> None:
    """Import other BasicSR-based packages, so that what they register can be named in an option file.

    Args:
        names: Dotted module names, the option file's `import_modules`.

    Raises:
        UserError: a module is not there, or does not import.
    """
    for name in names:
        try:
            importlib.import_module(name)
        except Exception as error:  # whatever the package raises, the user needs to know which one it was
            raise UserError(
                f'`import_modules`: {name!r} cannot be imported ({type(error).__name__}: {error}). Is its package '
                'installed, or its folder on PYTHONPATH?'
            ) from error
