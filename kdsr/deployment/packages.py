"""The optional packages of `kdsr[export]`, with one message where they are missing."""

from __future__ import annotations

import importlib
import os
from types import ModuleType

from kdsr.errors import UserError
from kdsr.wording import installing


def needed(module: str, purpose: str) -> ModuleType:
    """Import an optional module.

    Args:
        module: Dotted name.
        purpose: What it is needed for, as the start of the message.

    Raises:
        UserError: it is not installed.
    """
    os.environ.setdefault('ORT_DISABLE_TELEMETRY', '1')  # read when onnxruntime is imported
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.split('.')[0]
        raise UserError(f'{purpose} needs {package} ({error}); {installing("export")}') from None
