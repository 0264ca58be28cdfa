"""One worker process behind a pipe of its own: its death is always noticed, also while it hands back a result.

`concurrent.futures.ProcessPoolExecutor` shares one result pipe among its processes. A process that is killed while it
writes leaves half a message there; the others keep the pipe open, so the reader waits for the rest for good.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection, wait
from multiprocessing.context import BaseContext
from typing import Any

from kdsr.errors import UserError

Setup = Callable[[int], None]
_CRASH_SIGNALS = ('SIGSEGV', 'SIGBUS', 'SIGILL', 'SIGABRT', 'SIGFPE')


class WorkerEndedError(UserError):
    """A worker process was killed or crashed before it answered."""


class RemoteTracebackError(Exception):
    """The traceback of a worker process, as text; the cause of the error that is raised here."""

    def __str__(self) -> str:
        return f'\n{self.args[0]}'


class WorkerProcess:
    """A process that calls one function on the items it is sent. Not shared between threads.

    Args:
        function: Called on every item. Picklable where processes are not forked, as are items and results.
        number: Of the process, from 0.
        context: How the process is started.
        setup: Called first in the process, with its number.
        name_item: Names an item in messages.

    Attributes:
        item: What it works on; None between two items.
        answers: How many items it has answered.
    """

    def __init__(
        self,
        function: Callable[[Any], Any],
        number: int,
        context: BaseContext,
        setup: Setup | None = None,
        name_item: Callable[[Any], object] = repr,
    ) -> None:
        self.number = number
        self.item: Any = None
        self.answers = 0
        self._name_item = name_item
        self._connection, theirs = multiprocessing.Pipe()
        self._process: Any = context.Process(  # type: ignore[attr-defined]
            target=_serve, args=(function, theirs, number, setup), daemon=True
        )
        self._process.start()
        theirs.close()  # only the process itself holds that end: it is closed by the process's death

    def call(self, item: Any) -> Any:
        """Return `function(item)`, computed in the process.

        Raises:
            WorkerEndedError: the process was killed or crashed.
            Exception: whatever the function raised.
        """
        self.item = item
        try:
            self._connection.send(item)
            wait([self._connection, self._process.sentinel])
            result, error, text = self._connection.recv()
        except (EOFError, OSError, pickle.UnpicklingError):
            raise WorkerEndedError(self._describe_end()) from None
        self.item = None
        self.answers += 1
        if error is not None:
            error.__cause__ = RemoteTracebackError(text)
            raise error
        return result

    def stop(self) -> None:
        """End the process, whatever it is at."""
        self._process.kill()  # SIGTERM would leave a stopped process alive
        self._process.join()
        self._connection.close()

    def describe_work(self) -> str:
        """Name the item it works on."""
        return 'nothing' if self.item is None else str(self._name_item(self.item))

    def _describe_end(self) -> str:
        self._process.join(5)
        code = self._process.exitcode or 0
        name = signal.Signals(-code).name if code < 0 else None
        how = f'was ended by {name}' if name else f'ended with exit status {code}'
        cause = ''
        if name == 'SIGKILL':
            cause = ' Most likely the memory ran out.'
        elif name in _CRASH_SIGNALS:
            cause = ' A library crashed, perhaps on that file.'
        who = f'Worker process {self.number} (pid {self._process.pid})'
        return f'{who} {how}; it worked on {self.describe_work()}.{cause}'


def choose_context(computes_with_torch: bool) -> BaseContext:
    """Choose a start method that does not make every worker import torch again, where that is possible.

    Forking a process with threads (BLAS, OpenMP) is harmless for workers that call neither, but Python 3.12 warns of
    it, and on macOS it crashes system libraries. There a server process imports everything once, and is forked.

    Args:
        computes_with_torch: The workers do; a forked process could not.
    """
    methods = multiprocessing.get_all_start_methods()
    if computes_with_torch or 'forkserver' not in methods:
        return multiprocessing.get_context('spawn')
    if sys.platform.startswith('linux') and sys.version_info < (3, 12):
        return multiprocessing.get_context('fork')
    context = multiprocessing.get_context('forkserver')
    context.set_forkserver_preload(['kdsr.data.sub_images'])
    return context


def _serve(function: Callable[[Any], Any], connection: Connection, number: int, setup: Setup | None) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C
    threading.Thread(target=_die_with_parent, daemon=True).start()
    answer = function if setup is None else _SetUpFirst(function, setup, number)
    while True:
        try:
            item = connection.recv()
        except (EOFError, OSError):
            return
        try:
            reply: tuple[Any, Exception | None, str] = (answer(item), None, '')
        except Exception as error:
            reply = (None, _picklable(error), traceback.format_exc())
        connection.send(reply)


class _SetUpFirst:
    """A function that needs a setup; an error of the setup is raised at the first call, and so reaches the parent."""

    def __init__(self, function: Callable[[Any], Any], setup: Setup, number: int) -> None:
        self._function, self._setup, self._number = function, setup, number
        self._ready = False

    def __call__(self, item: Any) -> Any:
        if not self._ready:
            self._setup(self._number)
            self._ready = True
        return self._function(item)


def _picklable(error: Exception) -> Exception:
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f'{type(error).__name__}: {error}')
    return error


def _die_with_parent() -> None:
    """End this process when the parent is killed: it would wait for its next item forever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
