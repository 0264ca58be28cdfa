"""Heavy modules that a library imports for one function: imported when that function is first called."""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import Any


@contextlib.contextmanager
def deferred(functions: Mapping[str, str]) -> Iterator[None]:
    """Give importing code stand-ins for modules; any other use of such a module imports it at once.

    Nothing is deferred where one of the modules is imported already.

    Args:
        functions: Module to the name of the function that is wanted from it; an empty name for a package that only has
            to be there.

    Example:
        >>> import sys
        >>> with deferred({'wave': 'open'}):
        ...     from wave import open as open_wave
        >>> 'wave' in sys.modules
        False
    """
    names = [] if any(name in sys.modules for name in functions) else list(functions)
    for name in names:
        sys.modules[name] = _StandIn(name, functions)
    try:
        yield
    finally:
        _remove(names)


def _remove(names: list[str]) -> None:
    for name in names:
        if isinstance(sys.modules.get(name), _StandIn):
            del sys.modules[name]


class _StandIn(ModuleType):
    """A module of which one function may be imported without it."""

    def __init__(self, name: str, functions: Mapping[str, str]) -> None:
        super().__init__(name, 'Supplied by kdsr.compat while another library is imported.')
        self.__path__: list[str] = []
        self._functions = functions

    def __getattr__(self, name: str) -> Any:
        if name.startswith('__'):
            raise AttributeError(name)
        if name == self._functions[self.__name__]:
            return _Function(self.__name__, name)
        _remove(list(self._functions))
        return getattr(importlib.import_module(self.__name__), name)


class _Function:
    """A function, or an object used like one, whose module is imported at the first use."""

    def __init__(self, module: str, name: str) -> None:
        self._module, self._name = module, name

    def __getattr__(self, attribute: str) -> Any:
        return getattr(getattr(importlib.import_module(self._module), self._name), attribute)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return getattr(importlib.import_module(self._module), self._name)(*args, **kwargs)
