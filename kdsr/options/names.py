"""The one rule for names that become parts of folder and file names: of experiments, image sets and networks."""

from __future__ import annotations

import re
from typing import Any

from kdsr.errors import UserError

# In bytes. File systems allow 255, and names get longer: `<name>_archived_<time>`, `.<name>.holder.<random>`.
LONGEST_NAME = 200
_FORBIDDEN = re.compile(r'[\x00-\x1f\x7f<>:"/\\|?*]')
_WORDS = 'use only letters, digits, spaces and _ . + - = ( ) [ ] { } , @ % # ~'


def find_name_fault(name: Any) -> str | None:
    """Say what is wrong with a name, and the cure; None where it can be used as the name of a folder.

    Args:
        name: Text or a number, as an option file gives it.

    Example:
        >>> find_name_fault('EDSR_x2 (seed 1)') is None
        True
        >>> print(find_name_fault(' '))
        ' ' becomes the name of a folder, so it cannot be empty, consist of dots, or begin or end with a space.
    """
    if isinstance(name, bool) or not isinstance(name, (str, int, float)):
        return f'must be a text that can be the name of a folder, is {shorten_name(name)}.'
    text = str(name)
    shown = f'{shorten_name(text)} becomes the name of a folder, so it cannot'
    forbidden = _FORBIDDEN.search(text)
    if forbidden is not None:
        return f'{shown} contain {forbidden[0]!r}: {_WORDS}.'
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        return f'{shown} contain bytes that are not UTF-8: {_WORDS}.'
    if size > LONGEST_NAME:
        return f'{shown} have more than {LONGEST_NAME} bytes; it has {size}.'
    if text != text.strip() or not text.strip('.'):
        return f'{shown} be empty, consist of dots, or begin or end with a space.'
    return None


def check_name(name: Any, where: str) -> None:
    """Refuse a name that cannot be the name of a folder.

    Args:
        name: The name.
        where: Begins the message: file and key.

    Raises:
        UserError: says what is wrong with it.
    """
    fault = find_name_fault(name)
    if fault is not None:
        raise UserError(f'{where}: {fault}')


def clean_name(text: str) -> str:
    """Return a name that comes out of a foreign file as one that can be used for a file: never a path.

    Args:
        text: Anything.

    Returns:
        A name without fault (:func:`find_name_fault`) that does not begin with a dot.

    Example:
        >>> clean_name('../../etc/cron.d/x')
        'x'
    """
    last = re.split(r'[/\\]', text)[-1].encode(errors='replace').decode()
    cleaned = re.sub(r'^[\s.]+', '', _FORBIDDEN.sub('_', last))
    while len(cleaned.encode()) > LONGEST_NAME:
        cleaned = cleaned[:-1]
    return cleaned.strip() or 'network'


def shorten_name(name: Any) -> str:
    """Return a name for a message."""
    text = repr(name)
    return text if len(text) <= 80 else f'{text[:70]}... ({len(text)} characters)'
