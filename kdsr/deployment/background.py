"""Compute in a second thread what the first one writes."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Generator, Iterable
from typing import Generic, TypeVar

Item = TypeVar('Item')
_TICK = 0.1  # seconds after which a thread that waits looks whether it is still needed


def compute_ahead(items: Iterable[Item], ahead: int = 2) -> Generator[Item, None, None]:
    """Yield the items of an iterable that a thread of its own advances.

    Args:
        items: Whatever takes long and can be interrupted between two items.
        ahead: How many items wait at most.

    Raises:
        BaseException: what `items` raised, in the place of the item.
    """
    worker = _Worker(items, ahead)
    try:
        while not isinstance(item := worker.waiting.get(), _End):
            yield item
        if item.error is not None:
            raise item.error
    finally:
        worker.leave()


class _End:
    """Comes after the last item, with the exception that ended them."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error


class _Worker(Generic[Item]):
    """A thread that puts items into a queue until it is left."""

    def __init__(self, items: Iterable[Item], ahead: int) -> None:
        self.waiting: queue.Queue[Item | _End] = queue.Queue(ahead)
        self._items, self._left = items, threading.Event()
        self._thread = threading.Thread(target=self._work, name='kdsr-upscale', daemon=True)
        self._thread.start()

    def leave(self) -> None:
        """Let the thread end after the item that it computes, and wait for it."""
        self._left.set()
        self._thread.join()

    def _work(self) -> None:
        try:
            for item in self._items:
                self._put(item)
                if self._left.is_set():
                    return
            self._put(_End())
        except BaseException as error:  # handed over to the thread that waits for it
            self._put(_End(error))

    def _put(self, item: Item | _End) -> None:
        while not self._left.is_set():
            with contextlib.suppress(queue.Full):
                return self.waiting.put(item, timeout=_TICK)
