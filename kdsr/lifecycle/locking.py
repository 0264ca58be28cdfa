"""One training process a run: a second one of the same name would move the first one's folder away."""

from __future__ import annotations

import errno
import functools
import os
import socket
import time
from typing import IO, Any

from kdsr.errors import UserError

_held: list[IO[str]] = []  # the lock of this process's run


def repair_experiment_folder() -> None:
    """Refuse a run while another process trains it; BasicSR archives the folder that the other one writes to."""
    import basicsr.train

    original = basicsr.train.load_resume_state

    @functools.wraps(original)
    def load_resume_state(opt: dict[str, Any]) -> Any:
        if opt.get('rank', 0) == 0 and 'experiments_root' in opt['path']:
            lock(opt['path']['experiments_root'])
        return original(opt)

    basicsr.train.load_resume_state = load_resume_state


def lock(folder: str) -> None:
    """Hold an experiment until the process ends, however it ends, or :func:`unlock`.

    The lock lies beside the folder, which is renamed when a run is started anew. Its file stays.

    Raises:
        UserError: another process holds it; it is named.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        return
    unlock()
    parent, name = os.path.split(os.path.normpath(folder))
    os.makedirs(parent, exist_ok=True)
    file = open(os.path.join(parent, f'.{name}.lock'), 'a+', encoding='utf-8')  # noqa: SIM115 - open while it is held
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # processes of the loader do not inherit it
    except OSError as error:
        file.seek(0)
        holder = file.read().strip() or 'another process'
        file.close()
        if error.errno not in (errno.EACCES, errno.EAGAIN):  # a file system without locks
            return
        raise UserError(
            f'{folder} is being trained by {holder}. Wait for it or stop it, or give this run another `name:`.'
        ) from None
    file.truncate(0)
    file.write(f'process {os.getpid()} on {socket.gethostname()} since {time.strftime("%Y-%m-%d %H:%M:%S")}\n')
    file.flush()
    _held.append(file)


def unlock() -> None:
    """Let go of the experiment, if one is held."""
    while _held:
        _held.pop().close()
