"""The names of the distillation methods, as every command takes them."""

from __future__ import annotations

OTHER_NAMES = {'attention_transfer': 'at', 'response': 'kd'}  # those of the losses and of the pages in docs/methods/


def normalise_method(name: str) -> str:
    """Return the one name of a method: ``'at'`` for ``'attention_transfer'`` and ``'AT'``; unknown names in lower case.

    Example:
        >>> normalise_method('Response')
        'kd'
    """
    return OTHER_NAMES.get(name.lower(), name.lower())
