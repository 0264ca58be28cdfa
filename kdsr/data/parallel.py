"""Ordered maps that run a bounded number of items ahead: in threads, and in worker processes."""

from __future__ import annotations

import collections
import os
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYetError
from typing import TypeVar

from kdsr.data.worker_process import Setup, WorkerEndedError, WorkerProcess, choose_context
from kdsr.errors import UserError

Item = TypeVar('Item')
Result = TypeVar('Result')
SILENCE = 600.0  # seconds without any answer after which workers count as stuck
_SLICE = 1.0  # seconds; a wait that was suspended with the whole process counts as one slice


def count_processors() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1


def check_workers(workers: int | None, default: int | None = None) -> int:
    """Return the number of worker processes: `workers`, or `default`, or one per processor.

    Raises:
        UserError: `workers` is less than 1.
    """
    if workers is not None and workers < 1:
        raise UserError(f'At least 1 worker is needed; got {workers}.')
    return workers or default or count_processors()


def run_ahead(
    work: Callable[[Item], Result], items: Iterable[Item], pool: Executor | None, ahead: int
) -> Generator[Result, None, None]:
    """Yield `work(item)` in the order of `items`, with up to `ahead` later items begun.

    Args:
        work: Called in `pool`.
        items: Read as results are taken.
        pool: Threads or processes; None calls `work` here, at each item's turn.
        ahead: Bounds how many results wait in memory.

    Raises:
        Exception: whatever `work` raised, at its item's turn.
    """
    if pool is None:
        yield from map(work, items)
        return
    for future in _submit_ahead(work, items, pool, ahead):
        yield future.result()


def ordered_map(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    workers: int,
    setup: Setup | None = None,
    name_item: Callable[[Item], object] = repr,
    silence: float = SILENCE,
) -> Generator[Result, None, None]:
    """Yield `function(item)` in the order of `items`; at most two results per worker are held at a time.

    Close the iterator (`contextlib.closing`) if you may leave it early: that ends the processes.

    Args:
        function: Picklable, as are the items and results, unless `workers` is 1.
        items: What to work on.
        workers: Number of processes; 1 works in this one, unless there is a `setup`.
        setup: Called first in every process with its number, from 0. The processes are then started afresh, not
            forked: a forked one could not compute with torch.
        name_item: Names an item in error messages.
        silence: Seconds without any answer after which the workers are stopped.

    Raises:
        UserError: a worker process was killed, crashed, or does not answer; the message names its item.
        Exception: whatever `function` raised, at its item's turn.
    """
    if workers == 1 and setup is None:
        yield from map(function, items)
        return
    context = choose_context(computes_with_torch=setup is not None)
    processes = [
        WorkerProcess(function, number, context, setup, name_item) for number in range(min(workers, len(items)))
    ]
    idle = collections.deque(processes)

    def call(item: Item) -> Result:
        process = idle.pop()  # there are as many threads as processes
        try:
            result: Result = process.call(item)
        finally:
            idle.append(process)
        return result

    with ThreadPoolExecutor(max(1, len(processes))) as pool:
        try:
            for future in _submit_ahead(call, items, pool, 2 * workers - 1):
                yield _wait_for(future, processes, silence)
        except WorkerEndedError as error:
            raise UserError(f'{error} {_HOW_TO_CONTINUE}') from None
        except _SilentError:
            busy = ', '.join(process.describe_work() for process in processes)
            raise UserError(
                f'No worker process has answered for {silence:.0f} seconds. They work on {busy}. Perhaps a disk or a '
                f'network folder does not respond. {_HOW_TO_CONTINUE}'
            ) from None
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in processes:
                process.stop()


_HOW_TO_CONTINUE = (
    'What is finished is kept: run the same command again to continue, with fewer workers (`--workers 1`) where memory '
    'is short.'
)


class _SilentError(Exception):
    """No worker has answered for too long."""


def _submit_ahead(
    work: Callable[[Item], Result], items: Iterable[Item], pool: Executor, ahead: int
) -> Generator[Future[Result], None, None]:
    pending: collections.deque[Future[Result]] = collections.deque()
    for item in items:
        pending.append(pool.submit(work, item))
        if len(pending) > ahead:
            yield pending.popleft()
    while pending:
        yield pending.popleft()


def _wait_for(future: Future[Result], processes: Sequence[WorkerProcess], silence: float) -> Result:
    waited, answers = 0.0, -1
    while True:
        try:
            return future.result(timeout=min(_SLICE, silence))
        except NotYetError:
            if future.done():  # the function itself raised a TimeoutError
                raise
        now = sum(process.answers for process in processes)
        waited, answers = (waited + _SLICE, answers) if now == answers else (0.0, now)
        if waited >= silence:
            raise _SilentError
