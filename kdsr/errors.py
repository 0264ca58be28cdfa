"""User errors are reported in one message, without a traceback."""

from __future__ import annotations

import contextlib
import difflib
import errno
import sys
from collections.abc import Iterable, Iterator

DISK_IS_FULL = (errno.ENOSPC, getattr(errno, 'EDQUOT', errno.ENOSPC))  # Windows has no quotas
_NOT_ALLOWED = (errno.EACCES, errno.EPERM, errno.EROFS)
_NO_FOLDER = (errno.ENOTDIR, errno.EEXIST)


class UserError(ValueError):
    """A wrong option, file or checkpoint. The message names the thing and the cure.

    Example:
        >>> import kdsr
        >>> try:
        ...     kdsr.losses.ResponseLoss(norm='l3')
        ... except kdsr.UserError as error:
        ...     print(error)
        `norm` must be one of l1, l2, not 'l3'.
    """


def suggest_cure(error: OSError) -> str | None:
    """Say what helps when the disk or the file system refuses; None where the code may be at fault."""
    if error.errno in DISK_IS_FULL:
        return 'make room'
    if error.errno in _NOT_ALLOWED:
        return 'make it writable, or choose another folder'
    if error.errno == errno.ENAMETOOLONG:
        return 'choose a shorter name'
    if error.errno == errno.EISDIR:
        return 'a folder has the name of a file: move it away'
    return 'a file has the name of a folder: move it away' if error.errno in _NO_FOLDER else None


def did_you_mean(name: object, known: Iterable[str]) -> str:
    """Return ``" Did you mean 'x'?"`` for the names in `known` that are close to `name` or contain it; else ''."""
    text, names = str(name), list(known)
    close = difflib.get_close_matches(text, names, n=3, cutoff=0.6)
    if not close and len(text) > 2:
        close = [n for n in names if text.lower() in n.lower()][:3]
    return f' Did you mean {" or ".join(repr(c) for c in close)}?' if close else ''


def check_choice(option: str, value: object, choices: tuple[str, ...]) -> None:
    """Refuse a `value` that is not in `choices`.

    Raises:
        UserError: names the option, the choices and the closest of them.
    """
    if value not in choices:
        raise UserError(f'`{option}` must be one of {", ".join(choices)}, not {value!r}.{did_you_mean(value, choices)}')


@contextlib.contextmanager
def report_user_errors() -> Iterator[None]:
    """Turn a :class:`UserError`, or a refusal of the file system, into one message on stderr and exit status 1.

    Raises:
        SystemExit: in the place of these errors.
    """
    try:
        yield
    except UserError as error:
        sys.exit(f'\nkdsr: {error}')
    except OSError as error:
        cure = suggest_cure(error)
        if cure is None:
            raise
        sys.exit(f'\nkdsr: {error}: {cure}, and run the same command again. Finished parts are kept.')
