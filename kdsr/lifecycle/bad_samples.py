"""Samples that cannot be made are named, whatever raises the error and in whichever process."""

from __future__ import annotations

import multiprocessing
import multiprocessing.util
import os
import time
from collections.abc import Mapping
from typing import Any

import torch
from basicsr.utils import imfrombytes

from kdsr.errors import UserError

DYING_SECONDS = 2.0  # from the first error until the process that caused it has ended


class BadSampleError(UserError):
    """A sample that cannot be made; the message names it.

    PyTorch hands an error of a loader process on as the text of its traceback. This class keeps only the message.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message.rpartition(f'{__name__}.{type(self).__name__}: ')[2].strip())


class NamedSamples:
    """A dataset that names a sample it cannot make, and notes which process of the loader works on which sample.

    Args:
        samples: The dataset.

    Attributes:
        workers: (processes of the loader, 2): the number of each process and the index of the sample that it began
            last, in memory that the processes share. -1 stands for no process. None where there are no processes.
        over: Whether the run is over, in memory that the processes share.
    """

    def __init__(self, samples: Any) -> None:
        self.samples = samples
        self.workers: Any = None
        self.over: Any = None

    def __len__(self) -> int:
        return len(self.samples)

    def __getattr__(self, name: str) -> Any:
        if name.startswith('__') or name == 'samples':  # not while it is unpickled in a worker process
            raise AttributeError(name)
        return getattr(self.samples, name)

    def __getitem__(self, index: int) -> Any:
        """Return a sample.

        Raises:
            BadSampleError: the sample cannot be made.
        """
        self.note(index)
        try:
            return self.samples[index]
        except UserError as error:
            raise BadSampleError(str(error)) from error
        except Exception as error:  # decoders and datasets raise all kinds
            raise BadSampleError(_describe(self.samples, index, error)) from error

    def share(self, processes: int) -> None:
        """Prepare for the processes of a loader.

        Args:
            processes: How many there are; 0 when the samples are made in the training process.
        """
        if processes:
            self.workers = torch.full((processes, 2), -1).share_memory_()
            self.over = torch.zeros(1, dtype=torch.bool).share_memory_()

    def release_workers(self) -> None:
        """Allow the processes of the loader to end on SIGTERM."""
        if self.over is not None:
            self.over.fill_(True)

    def find_killed_workers(self) -> dict[int, str]:
        """Return the processes of the loader that ended without leaving: number to the name of the last sample."""
        running = {process.pid for process in multiprocessing.active_children()}
        rows = [] if self.workers is None else self.workers.tolist()
        ended = [(process, index) for process, index in rows if process >= 0 and process not in running]
        return {process: ' and '.join(_list_files(self.samples, index).values()) for process, index in ended}

    def note(self, index: int) -> None:
        """Note in the shared memory on which sample this process works; -1 when it starts."""
        worker = torch.utils.data.get_worker_info()
        if worker is None or self.workers is None:
            return
        row = self.workers[worker.id]
        if row[0] != os.getpid():
            row[0] = os.getpid()
            multiprocessing.util.Finalize(None, _leave, args=(row,), exitpriority=0)  # not when it is killed
        row[1] = index


def _leave(row: torch.Tensor) -> None:
    if row[0] == os.getpid():
        row[0] = -1


def _list_files(samples: Any, index: int) -> dict[str, str]:
    """Return what a sample is made of: kind to path or key."""
    samples = getattr(samples, 'images', samples)  # of TeacherImagesDataset
    listed = getattr(samples, 'paths', None) or getattr(samples, 'keys', None) or ()
    if index < 0:
        return {'sample': 'none yet'}
    entry = index if callable(listed) or index >= len(listed) else listed[index]
    named = entry if isinstance(entry, Mapping) else {'sample': entry}
    return {str(kind).replace('_path', ''): repr(value) for kind, value in named.items()}


def _describe(samples: Any, index: int, error: Exception) -> str:
    """Say which sample cannot be made, why, and what helps."""
    name = getattr(samples, 'opt', {}).get('name', type(samples).__name__)
    files = ' and '.join(_list_files(samples, index).values())
    reason = _find_unreadable(samples, index) or f'{files}: {str(error) or type(error).__name__}'
    return f'{name}: {reason.rstrip(".")}. Replace it, or remove it from every set; then --auto_resume goes on.'


def _find_unreadable(samples: Any, index: int) -> str | None:
    """Say which image file or LMDB entry of a pair cannot be read, and why; None where all can."""
    samples = getattr(samples, 'images', samples)
    client, paths = getattr(samples, 'file_client', None), getattr(samples, 'paths', None)
    if client is None or not paths or not isinstance(paths[index], Mapping):
        return None
    for key, path in paths[index].items():
        kind = key[: -len('_path')]
        try:
            content = client.get(path, kind)
        except Exception as error:
            return f'{path!r} ({kind}) cannot be read: {error}'
        problem = _find_problem(content)
        if problem is not None:
            return f'{path!r} ({kind}) {problem}'
    return None


def _find_problem(content: bytes | None) -> str | None:
    """Say why the bytes of an image cannot be decoded; None when they can."""
    if content is None:
        return 'is not in the LMDB'
    if not len(content):
        return 'is empty, 0 bytes'
    try:
        readable = imfrombytes(content) is not None
    except Exception as error:
        return f'cannot be decoded: {" ".join(str(error).split())}'
    return None if readable else 'is truncated, damaged or no image'


def explain_killed_worker(error: Exception, samples: Any) -> str | None:
    """Say on which sample a loader process worked when it was killed; None when no loader process was killed.

    Args:
        error: What the training raised. PyTorch names the process; the connection to it does not.
        samples: The training set.
    """
    while True:
        try:
            return _explain_killed_worker(error, samples)
        except RuntimeError as later:  # PyTorch raises it wherever the main process is when the signal arrives
            error = later


def _explain_killed_worker(error: Exception, samples: Any) -> str | None:
    deadline = time.monotonic() + DYING_SECONDS
    killed: dict[int, str] = {}
    while isinstance(samples, NamedSamples) and samples.workers is not None and not killed:
        killed = samples.find_killed_workers()
        if time.monotonic() > deadline:
            break
        time.sleep(0.02)
    if not killed:
        return None
    how = ' '.join(str(error).split('. ')[0].split()).rstrip('.') or type(error).__name__
    return (
        f'a process of the loader was killed: {how}. The sample that it began last: {", ".join(killed.values())}. '
        'Most likely the memory, or the shared memory, ran out: lower `num_worker_per_gpu`, or look at that sample. '
        'What was saved before is whole; --auto_resume goes on from it.'
    )
