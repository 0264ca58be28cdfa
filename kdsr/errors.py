"""Mistakes that their author can mend are told in one message, without a traceback."""

from __future__ import annotations

import contextlib
import difflib
import sys
from collections.abc import Iterable, Iterator


class UserError(ValueError):
    """A wrong option, file or checkpoint. The message names the thing and the cure."""


def did_you_mean(name: object, known: Iterable[str]) -> str:
    """Return ``" Did you mean 'x'?"`` for the closest of `known`, or for those that contain `name`; else nothing."""
    text, names = str(name), list(known)
    close = difflib.get_close_matches(text, names, n=3, cutoff=0.6)
    if not close and len(text) > 2:
        close = [n for n in names if text.lower() in n.lower()][:3]
    return f' Did you mean {" or ".join(repr(c) for c in close)}?' if close else ''


def check_choice(option: str, value: object, choices: tuple[str, ...]) -> None:
    """Refuse a `value` that is not one of `choices`.

    Raises:
        UserError: names the option, the choices and the closest of them.
    """
    if value not in choices:
        raise UserError(f'`{option}` must be one of {", ".join(choices)}, not {value!r}.{did_you_mean(value, choices)}')


@contextlib.contextmanager
def told_plainly() -> Iterator[None]:
    """Turn a :class:`UserError` into one message on stderr and exit status 1."""
    try:
        yield
    except UserError as error:
        sys.exit(f'\nkdsr: {error}')
