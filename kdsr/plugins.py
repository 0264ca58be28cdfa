"""Registration by file name: BasicSR's convention (`*_arch.py`, `*_loss.py`, ...) for packages outside BasicSR."""

import importlib
import pkgutil


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
