"""BasicSR's registries, with an error that helps."""

from __future__ import annotations

import os
from typing import Any

import basicsr

from kdsr import plugins
from kdsr.errors import UserError, did_you_mean


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
