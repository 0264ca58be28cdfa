"""`prefetch_mode: cpu`: an error in BasicSR's thread ends the training instead of letting it wait forever."""

from __future__ import annotations

from typing import Any

from basicsr.data.prefetch_dataloader import PrefetchGenerator

basicsr_run, basicsr_next = PrefetchGenerator.run, PrefetchGenerator.__next__


def fill_queue(self: Any) -> None:
    """Make batches in the thread; put an error into the queue in the place of a batch."""
    try:
        basicsr_run(self)
    except Exception as error:
        self.queue.put(error)


def take_batch(self: Any) -> Any:
    """Return the next batch.

    Raises:
        Exception: the one that ended the thread.
    """
    item = basicsr_next(self)
    if isinstance(item, Exception):
        raise item
    return item
