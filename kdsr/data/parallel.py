"""A bounded, ordered map over worker processes."""

from __future__ import annotations

import collections
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.context import BaseContext
from typing import Any, Callable, TypeVar

from kdsr.errors import UserError

Item = TypeVar('Item')
Result = TypeVar('Result')


def default_workers() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1


def checked_workers(workers: int | None, otherwise: int | None = None) -> int:
    """Return the number of processes that was asked for; where none was, `otherwise`, or all processors.

    Raises:
        UserError: it is less than 1.
    """
    if workers is not None and workers < 1:
        raise UserError(f'At least 1 worker is needed; got {workers}.')
    return workers or otherwise or default_workers()


def ordered_map(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    workers: int,
    setup: Callable[[int], None] | None = None,
) -> Generator[Result, None, None]:
    """Yield `function(item)` in the order of `items`; at most two results per worker are held at a time.

    Close the iterator (`contextlib.closing`) if you may leave it early: that stops the processes.

    Args:
        function: Picklable, as are the items and results, unless `workers` is 1.
        items: What to work on.
        workers: Number of processes; 1 works in this one, unless there is a `setup`.
        setup: Run first in every process with its number, from 0. The processes are then started afresh, not forked:
            a forked one could not compute with torch.

    Raises:
        UserError: a worker process was killed from outside.
        Exception: whatever `function` raised, at its item's turn.
    """
    if workers == 1 and setup is None:
        yield from map(function, items)
        return
    context = _context() if setup is None else multiprocessing.get_context('spawn')
    numbers = context.Value('i', 0)
    executor = ProcessPoolExecutor(workers, context, initializer=_start_worker, initargs=(numbers, setup))
    try:
        window: collections.deque[Future[Result]] = collections.deque()
        for item in items:
            window.append(executor.submit(function, item))
            if len(window) == 2 * workers:
                yield window.popleft().result()
        while window:
            yield window.popleft().result()
    except BrokenProcessPool as error:
        raise UserError(
            'A worker process was killed, most likely because the memory ran out. Use fewer workers and run the same '
            'command again; what is finished is kept.'
        ) from error
    finally:
        executor.shutdown(cancel_futures=True)


def _context() -> BaseContext:
    """Choose a start method that does not make every worker import torch again.

    Forking a process with threads (BLAS, OpenMP) is harmless here, as the workers call neither, but Python 3.12 warns
    of it, and on macOS it crashes system libraries. There a server process imports everything once, and is forked.
    """
    if sys.platform.startswith('linux') and sys.version_info < (3, 12):
        return multiprocessing.get_context('fork')
    if 'forkserver' not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context('spawn')
    context = multiprocessing.get_context('forkserver')
    context.set_forkserver_preload(['kdsr.data.sub_images'])
    return context


def _start_worker(numbers: Any, setup: Callable[[int], None] | None) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    threading.Thread(target=_die_with_parent, daemon=True).start()
    if setup is not None:
        with numbers.get_lock():
            number = numbers.value
            numbers.value += 1
        setup(number)


def _die_with_parent() -> None:
    """Leave no process behind when the parent is killed: a worker would wait for its next item forever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
