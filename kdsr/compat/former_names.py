"""Names of earlier BasicSR versions and of copies of BasicSR, which files of other projects import."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import types
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec

from kdsr import plugins

COLOURS = ('rgb2ycbcr', 'bgr2ycbcr', 'ycbcr2rgb', 'ycbcr2bgr')
_LOSSES = 'basicsr.losses.losses'
ROOMS = ('archs', 'data', 'losses', 'metrics', 'models', 'utils')


def restore_colour_functions() -> None:
    """Put the colour functions back into `basicsr.utils.matlab_functions`, where BasicSR had them until 1.3.4.9.

    HAT, DRCT and SwinFIR import them from there.
    """
    functions, colours = (importlib.import_module(f'basicsr.utils.{n}') for n in ('matlab_functions', 'color_util'))
    for name in COLOURS:
        if not hasattr(functions, name):
            setattr(functions, name, getattr(colours, name))


def restore_losses() -> None:
    """Bring back `basicsr.losses.losses`, which BasicSR 1.4 divided into `basic_loss` and `gan_loss`."""
    if _LOSSES in sys.modules:
        return
    module = types.ModuleType(_LOSSES, 'Supplied by kdsr.compat for packages on top of BasicSR.')
    for part in ('loss_util', 'basic_loss', 'gan_loss'):
        public = vars(importlib.import_module(f'basicsr.losses.{part}'))
        vars(module).update({name: value for name, value in public.items() if not name.startswith('_')})
    sys.modules[_LOSSES] = module


class BesideFinder(MetaPathFinder):
    """Finds `basicsr.archs.X` in a file `X.py` beside the modules that an option file imports.

    Projects that hold a copy of BasicSR put files into it and import them from there (`basicsr.archs.Upsamplers` of
    BSRN). Python asks this finder last, so BasicSR's own modules win.
    """

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: types.ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the spec of such a file; None for all other modules."""
        parts = name.split('.')
        if len(parts) != 3 or parts[0] != 'basicsr' or parts[1] not in ROOMS:
            return None
        for folder in plugins.folders_beside():
            file = os.path.join(folder, f'{parts[2]}.py')
            if os.path.isfile(file):
                return importlib.util.spec_from_file_location(name, file)
        return None


def find_files_beside() -> None:
    """Ask :class:`BesideFinder` for modules that nothing else finds."""
    if not any(isinstance(finder, BesideFinder) for finder in sys.meta_path):
        sys.meta_path.append(BesideFinder())


def restore_former_names() -> None:
    """Run every repair of this file; a second call changes nothing."""
    restore_colour_functions()
    restore_losses()
    find_files_beside()
