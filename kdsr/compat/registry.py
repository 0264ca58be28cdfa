"""BasicSR's registries: errors that help, and packages that register the same name."""

from __future__ import annotations

import logging
import os
import sys
from typing import Any

import basicsr

from kdsr import plugins
from kdsr.errors import UserError, did_you_mean

OURS = ('kdsr', 'basicsr')


def get(self: Any, name: str, suffix: str = 'basicsr') -> Any:
    """Return what is registered under a name. BasicSR prints "not found" even when it finds it.

    Raises:
        UserError: nothing is registered under the name. The message lists close names.
    """
    for candidate in (name, f'{name}_{suffix}'):
        if candidate in self:
            return self._obj_map[candidate]
    where = os.path.dirname(basicsr.__file__)
    raise UserError(f'no {self._name} is called {name!r} (BasicSR in {where}).{hint_for(name, self, suffix)}')


def register(self: Any, name: str, registered: Any, suffix: str | None = None) -> None:
    """Register a class or function under a name, also where the name is taken; BasicSR stops with an AssertionError.

    * A module that the user imports gets the name of a class of kdsr or BasicSR; the latter becomes ``NAME_kdsr`` or
      ``NAME_basicsr``.
    * Of two packages of other projects (HAT and DRCT both register SRVGGNetCompact) the first keeps the name; the other
      is ``NAME_package``.
    * A module that is imported again, also under another module name, replaces what it registered.

    Raises:
        AssertionError: kdsr or BasicSR registers a name twice.
    """
    name = f'{name}_{suffix}' if isinstance(suffix, str) else name
    earlier = self._obj_map.get(name)
    if earlier is None or _file_of(earlier) == _file_of(registered):
        self._obj_map[name] = registered
        return
    package, holder = _package_of(registered), _package_of(earlier)
    if package in OURS:
        raise AssertionError(f'the {self._name} {name!r} is registered twice, by {holder} and {package}.')
    taken, other, moved = (registered, holder, earlier) if holder in OURS else (earlier, package, registered)
    self._obj_map[name], self._obj_map[f'{name}_{other}'] = taken, moved
    logging.getLogger('basicsr').warning(
        f'{earlier.__module__} and {registered.__module__} both register the {self._name} {name!r}: `type: {name}` is '
        f'that of {taken.__module__}, `type: {name}_{other}` the other.'
    )


def _package_of(registered: Any) -> str:
    return str(getattr(registered, '__module__', '')).partition('.')[0]


def _file_of(registered: Any) -> tuple[str | None, str]:
    """Return where a class or function is written, and its name there."""
    module = sys.modules.get(getattr(registered, '__module__', ''))
    return getattr(module, '__file__', None), getattr(registered, '__qualname__', '')


def hint_for(name: str, registry: Any, suffix: str = 'basicsr') -> str:
    """Return what helps who named something that is not registered: close names, its package, `import_modules`.

    Args:
        name: What was named.
        registry: Of BasicSR.
        suffix: BasicSR's own ending of names, which nobody writes.
    """
    known = [key[: -len(suffix) - 1] if key.endswith(f'_{suffix}') else key for key, _ in registry]
    origin = plugins.describe_origin(name)
    close = did_you_mean(name, known)
    if origin:
        return origin + close
    either = ' Or is' if close else ' Is'
    return f'{close}{either} the package or file that registers it imported (`import_modules:`)?'
