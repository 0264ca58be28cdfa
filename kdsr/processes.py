"""Which process this is, and whether another one still exists."""

from __future__ import annotations

import os
import socket
import sys


def describe_this_process() -> str:
    """Return this process in words: ``process 4711 on node7``."""
    return f'process {os.getpid()} on {socket.gethostname()}'


def may_be_running(pid: int, host: str) -> bool:
    """Return whether a process exists. True also where that cannot be known: on another machine, and on Windows."""
    if host != socket.gethostname() or sys.platform == 'win32':  # there os.kill would end the process
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        pass
    return True
