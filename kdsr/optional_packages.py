"""Packages that only some features need, with one message where they are missing."""

from __future__ import annotations

import importlib
import importlib.util
import os
from types import ModuleType

from kdsr.errors import UserError
from kdsr.wording import installing

_EXTRAS = {
    'openvino': 'openvino',
    'ncnn': 'ncnn',
    'pnnx': 'ncnn',
    'spandrel': 'spandrel',
    'coremltools': 'coreml',
    'pyiqa': 'pyiqa',
}  # package to extra of kdsr; all others come with kdsr[export]


def import_optional(module: str, purpose: str) -> ModuleType:
    """Import an optional module.

    Args:
        module: Dotted name.
        purpose: What needs it, as the start of the message.

    Raises:
        UserError: it is not installed.
    """
    os.environ.setdefault('ORT_DISABLE_TELEMETRY', '1')  # read when onnxruntime is imported
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.split('.')[0]
        extra = _EXTRAS.get(package, 'export')
        raise UserError(f'{purpose} needs {package} ({error}); {installing(extra)}') from None


def is_installed(module: str) -> bool:
    """Say whether a top-level module can be imported, without importing it."""
    try:
        return importlib.util.find_spec(module) is not None
    except ValueError:  # its entry in sys.modules is None, or has no spec
        return False
