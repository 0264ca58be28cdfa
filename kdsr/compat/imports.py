"""What stops `import basicsr` itself, or makes it warn, on today's libraries."""

from __future__ import annotations

import importlib
import importlib.util
import re
import sys
import types
import warnings

from kdsr.compat.deferring import deferred

_DISTUTILS = 'distutils.version'
_kept_alive: list[object] = []  # torch.library registrations vanish with their Library object


def repair_imports() -> None:
    """Run every repair of this file. `kdsr` does this before it imports BasicSR; a second call changes nothing."""
    repair_torchvision_operators()
    repair_functional_tensor()
    repair_distutils()
    repair_ndimage_filters()
    defer_scipy_stats()
    repair_meshgrid_warning()


def repair_torchvision_operators() -> list[str]:
    """Let `import torchvision` succeed when its compiled operators cannot be loaded.

    A CUDA build of torchvision beside a CPU build of torch cannot load its extension. Its import then fails at the
    first operator that nobody defined ("operator torchvision::nms does not exist"). BasicSR needs none of them. Only
    the text of that error names the operator.

    PyTorch's compiler, which torchvision imports to ask it one question, is imported when the question is asked; this
    saves half a processor second.

    Returns:
        The operators that had to be declared; empty where torchvision is healthy.
    """
    import torch

    declared: list[str] = []
    while True:
        try:
            with deferred({'torch._dynamo': '', 'torch._dynamo.utils': 'is_compile_supported'}):
                importlib.import_module('torchvision')
            return declared
        except RuntimeError as error:
            missing = re.search(r'operator (torchvision::\w+) does not exist', str(error))
            if missing is None or missing[1] in declared:
                raise
            library = torch.library.Library('torchvision', 'FRAGMENT')
            library.define(f'{missing[1].split("::")[1]}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor')
            _kept_alive.append(library)
            declared.append(missing[1])
            for name in [n for n in sys.modules if n.split('.')[0] == 'torchvision']:
                del sys.modules[name]


def repair_functional_tensor() -> bool:
    """Bring back `torchvision.transforms.functional_tensor`, which torchvision 0.17 removed and BasicSR imports.

    Returns:
        Whether the module had to be supplied.
    """
    name = 'torchvision.transforms.functional_tensor'
    if name in sys.modules or importlib.util.find_spec(name) is not None:
        return False
    from torchvision.transforms.functional import rgb_to_grayscale

    module = types.ModuleType(name, 'Supplied by kdsr.compat for BasicSR.')
    module.rgb_to_grayscale = rgb_to_grayscale  # type: ignore[attr-defined]
    sys.modules[name] = module
    return True


def repair_distutils() -> bool:
    """Bring back `distutils.version`, which Python 3.12 removed and BasicSR imports for one comparison of versions.

    setuptools supplies it too, where it is installed and `SETUPTOOLS_USE_DISTUTILS` does not forbid it.

    Returns:
        Whether the module had to be supplied.
    """
    if 'distutils' in sys.modules or importlib.util.find_spec('distutils') is not None:
        return False
    from torch.torch_version import TorchVersion

    package, module = (types.ModuleType(n, 'Supplied by kdsr.compat for BasicSR.') for n in ('distutils', _DISTUTILS))
    package.version = module  # type: ignore[attr-defined]
    module.LooseVersion = TorchVersion  # type: ignore[attr-defined]
    sys.modules.update({'distutils': package, _DISTUTILS: module})
    return True


def repair_ndimage_filters() -> bool:
    """Bring back `scipy.ndimage.filters`, which SciPy 2.0 removes and BasicSR's NIQE imports.

    Returns:
        Whether the module had to be supplied.
    """
    name = 'scipy.ndimage.filters'
    if name in sys.modules or importlib.util.find_spec(name) is not None:
        return False
    sys.modules[name] = importlib.import_module('scipy.ndimage')
    return True


def defer_scipy_stats() -> None:
    """Import BasicSR without `scipy.stats`: half a processor second for one function of its degradations."""
    if 'basicsr' not in sys.modules:
        with deferred({'scipy.stats': 'multivariate_normal'}):
            importlib.import_module('basicsr.data.degradations')


def repair_meshgrid_warning() -> None:
    """Silence the warning of torch.meshgrid in BasicSR's SwinIR, which uses the default `indexing` on purpose."""
    warnings.filterwarnings('ignore', message='torch.meshgrid', category=UserWarning)
