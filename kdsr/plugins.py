"""Registration by file name: BasicSR's convention (`*_arch.py`, `*_loss.py`, ...) for packages outside BasicSR."""

from __future__ import annotations

import importlib
import importlib.util
import os
import pkgutil
import sys
from collections.abc import Iterable
from typing import Any

from kdsr.errors import UserError
from kdsr.wording import installing

# Networks of well-known projects on top of BasicSR: name to (repository, module that registers it). A module without a
# package is a file in a copy of BasicSR that the repository holds: that file alone is imported.
_PACKAGES = {
    'HAT': ('XPixelGroup/HAT', 'hat.archs'),
    'DRCT': ('ming053l/DRCT', 'drct.archs'),
    'SwinFIR': ('Zdafeng/SwinFIR', 'swinfir.archs'),
    'HATFIR': ('Zdafeng/SwinFIR', 'swinfir.archs'),
    'GFPGANv1': ('TencentARC/GFPGAN', 'gfpgan.archs'),
    'GFPGANv1Clean': ('TencentARC/GFPGAN', 'gfpgan.archs'),
    'DAT': ('zhengchen1999/DAT', 'dat_arch'),
    'RGT': ('zhengchen1999/RGT', 'rgt_arch'),
    'SRFormer': ('HVision-NKU/SRFormer', 'srformer_arch'),
    'ATD': ('LabShuHangGU/Adaptive-Token-Dictionary', 'atd_arch'),
    'SAFMN': ('sunny2109/SAFMN', 'safmn_arch'),
    'MambaIR': ('csguoh/MambaIR', 'mambair_arch'),
    'BSRN': ('xiaom233/BSRN', 'BSRN_arch'),
}
_beside: dict[str, None] = {}  # folders of imported modules, in their order
_IN_SPANDREL = ('ATD', 'CRAFT', 'DAT', 'DRCT', 'GRL', 'HAT', 'OmniSR', 'PLKSR', 'RGT', 'SAFMN', 'SPAN', 'Swin2SR')


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


def registered_in(registry: Iterable[tuple[str, type]], modules: Iterable[str]) -> dict[str, type]:
    """Return the classes of a registry that are defined in some modules.

    Args:
        registry: Pairs of a name and a class, as BasicSR's registries give them.
        modules: Dotted names.

    Returns:
        Class name to class.
    """
    homes = set(modules)
    return {name: registered for name, registered in registry if registered.__module__ in homes}


def import_named(names: Any) -> None:
    """Import modules or other BasicSR-based packages, so that what they register can be named in an option file.

    This runs their code, so `names` must come from a file that the user named. Modules are looked for among the
    installed ones, on PYTHONPATH, and then in the current folder.

    Args:
        names: Dotted module names, the option file's `import_modules`; None for none.

    Raises:
        UserError: it is not a list of names, a module does not exist, or its import fails.
    """
    names = () if names is None else names
    if not isinstance(names, (list, tuple)) or not all(isinstance(name, str) for name in names):
        raise UserError(f'`import_modules` must be a list of module names, for example [hat.archs], is {names!r}.')
    if os.getcwd() not in sys.path:  # not every way to start kdsr does; the loader's processes inherit it
        sys.path.append(os.getcwd())
    for name in names:
        try:
            _note_folder(name)
            importlib.import_module(name)
        except Exception as error:  # whatever the package raises, the user needs to know which one it was
            raise UserError(_describe_failure(name, error)) from error


def _note_folder(name: str) -> None:
    """Remember the folder of a module, for files that it imports as if they were BasicSR's."""
    spec = importlib.util.find_spec(name)
    if spec is not None and spec.origin is not None:
        _beside[os.path.dirname(os.path.abspath(spec.origin))] = None


def folders_beside() -> list[str]:
    """Return the folders of the modules that option files imported, and the current folder."""
    return [*_beside, os.getcwd()]


def _describe_failure(name: str, error: Exception) -> str:
    missing = error.name if isinstance(error, ModuleNotFoundError) else None
    if missing is not None and (name == missing or name.startswith(f'{missing}.')):
        return (
            f'`import_modules`: there is no module {name!r}. Is its package installed, or the file in {os.getcwd()!r} '
            'or on PYTHONPATH?'
        )
    cure = f' Install {missing!r}, or put its file beside.' if missing is not None else ''
    return f'`import_modules`: {name!r} is there, but its import fails with {type(error).__name__}: {error}.{cure}'


def describe_origin(name: str) -> str:
    """Say which package registers a network; '' where that is not known."""
    sentences = []
    if name in _PACKAGES:
        sentences.append(f' It comes with {_describe_package(name)}.')
    if name in _IN_SPANDREL:
        sentences.append(
            ' A pretrained file of it can be a teacher: `network: {type: Spandrel, path: FILE}` '
            f'(it needs the spandrel library; {installing("spandrel")}).'
        )
    return ''.join(sentences)


def describe_namesake(registered: Any, name: str) -> str:
    """Say that the authors' network of the same name is another one, for options that kdsr's does not have."""
    ours = str(getattr(registered, '__module__', '')).startswith('kdsr.')
    if not ours or name not in _PACKAGES:
        return ''
    return f" This {name} is kdsr's. Its authors' own has other options; it comes with {_describe_package(name)}."


def _describe_package(name: str) -> str:
    repository, module = _PACKAGES[name]
    get = 'install it' if '.' in module else f'put its {module}.py, and what that imports, into the current folder'
    return f'github.com/{repository}: {get}, and add `import_modules: [{module}]`'
