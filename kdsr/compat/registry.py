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
    hint = did_you_mean(name, self.keys()) + plugins.describe_origin(name)
    where = os.path.dirname(basicsr.__file__)
    unsure = ' Is the package that registers it imported (`import_modules:`)?'
    raise UserError(f'no {self._name} is called {name!r} (BasicSR in {where}).{hint or unsure}')
