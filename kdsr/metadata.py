"""The text that a safetensors file holds beside its tensors."""

from __future__ import annotations

import os

from kdsr.errors import UserError


def safetensors_metadata(path: str) -> dict[str, str]:
    """Return the metadata of a safetensors file.

    Raises:
        UserError: the file is missing or damaged.
    """
    from safetensors import SafetensorError, safe_open

    path = os.path.expanduser(path)
    if not os.path.isfile(path):
        raise UserError(f'checkpoint {path!r} does not exist (looked in {os.getcwd()!r}).')
    try:
        with safe_open(path, framework='numpy') as file:
            return dict(file.metadata() or {})
    except SafetensorError as error:
        raise UserError(f'checkpoint {path!r} cannot be read ({error}): is it truncated?') from None
