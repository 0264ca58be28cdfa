"""Samples that cannot be made are told by name, whatever raises and in whichever process."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Mapping
from typing import Any

from kdsr.errors import UserError


class BadSampleError(UserError):
    """A sample that cannot be made; the message names it.

    A process of the loader hands it on as the text of its traceback, of which only the message is kept.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message.rpartition(f'{__name__}.{type(self).__name__}: ')[2].strip())


class NamedSamples:
    """A dataset that names the sample it cannot make, and notes in which process it is at which sample.

    Args:
        samples: The dataset.

    Attributes:
        places: (processes of the loader, 2), the number of each process and the index of the sample it began last, in
            memory that they share; None where there are none.
        over: Whether the run is over, in memory that they share.
    """

    def __init__(self, samples: Any) -> None:
        self.samples = samples
        self.places: Any = None
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
            BadSampleError: it cannot be made.
        """
        if self.places is not None:
            self._note(index)
        try:
            return self.samples[index]
        except UserError as error:
            raise BadSampleError(str(error)) from error
        except Exception as error:  # decoders and datasets raise all kinds
            raise BadSampleError(_told(self.samples, index, error)) from error

    def shared_with(self, processes: int) -> None:
        """Prepare for so many processes of a loader."""
        import torch

        if processes:
            self.places = torch.full((processes, 2), -1).share_memory_()
            self.over = torch.zeros(1, dtype=torch.bool).share_memory_()

    def release(self) -> None:
        """Let the processes of the loader end when they are told to."""
        if self.over is not None:
            self.over.fill_(True)

    def _note(self, index: int) -> None:
        import torch

        worker = torch.utils.data.get_worker_info()
        if worker is not None:
            self.places[worker.id, 0], self.places[worker.id, 1] = os.getpid(), index

    def begun_by(self, process: int) -> str | None:
        """Return the name of the sample that a process of the loader began last."""
        for number, index in [] if self.places is None else self.places.tolist():
            if number == process:
                return ' and '.join(_files(self.samples, index).values())
        return None


def _files(samples: Any, index: int) -> dict[str, str]:
    """Return what a sample is made of: kind to path or key."""
    samples = getattr(samples, 'images', samples)  # of TeacherImagesDataset
    listed = getattr(samples, 'paths', None) or getattr(samples, 'keys', None) or ()
    entry = index if callable(listed) or index >= len(listed) else listed[index]
    named = entry if isinstance(entry, Mapping) else {'sample': entry}
    return {str(kind).replace('_path', ''): repr(value) for kind, value in named.items()}


def _told(samples: Any, index: int, error: Exception) -> str:
    name = getattr(samples, 'opt', {}).get('name', type(samples).__name__)
    files = _files(samples, index)
    reason = _unreadable(samples, index) or f'{" and ".join(files.values())}: {str(error) or type(error).__name__}'
    return f'{name}: {reason.rstrip(".")}. Replace it, or remove it from every set; then --auto_resume goes on.'


def _unreadable(samples: Any, index: int) -> str | None:
    """Say which image file or LMDB entry of a pair cannot be read, and why; None where all can."""
    from basicsr.utils import imfrombytes

    samples = getattr(samples, 'images', samples)
    client, paths = getattr(samples, 'file_client', None), getattr(samples, 'paths', None)
    if client is None or not paths or not isinstance(paths[index], Mapping):
        return None
    for kind, path in paths[index].items():
        kind = kind[: -len('_path')]
        try:
            content = client.get(path, kind)
        except Exception as error:
            return f'{path!r} ({kind}) cannot be read: {error}'
        if content is None:
            return f'{path!r} ({kind}) is not in the LMDB'
        if not len(content):
            return f'{path!r} ({kind}) is empty, 0 bytes'
        try:
            readable = imfrombytes(content) is not None
        except Exception as error:
            return f'{path!r} ({kind}) cannot be decoded: {" ".join(str(error).split())}'
        if not readable:
            return f'{path!r} ({kind}) is truncated, damaged or no image'
    return None


def killed_worker(error: Exception, samples: Any) -> str | None:
    """Say what a process of the loader that ended on its own was at; None where the error is another.

    Args:
        error: Of PyTorch, which names the process, or of the connection to it, which does not.
        samples: The training set.
    """
    try:
        return _killed_worker(error, samples)
    except RuntimeError as later:  # PyTorch raises where the main process is when the signal comes: here, at times
        return _killed_worker(later, samples)


def _killed_worker(error: Exception, samples: Any) -> str | None:
    text = str(error)
    places: Any = getattr(samples, 'places', None)
    found = re.search(r'DataLoader worker \(pid(?:\(s\))? ([\d, ]+)\)', text)
    if found is None and (places is None or not isinstance(error, (ConnectionError, EOFError))):
        return None
    ended = [int(number) for number in found[1].split(',')] if found else places[:, 0].tolist()
    begun = [samples.begun_by(number) for number in ended] if places is not None else []
    at = ', '.join(name for name in begun if name is not None)
    told = f' The sample that it began last: {at}.' if at else ''
    how = ' '.join(text.split('. ')[0].split()).rstrip('.') or type(error).__name__
    return (
        f'a process of the loader was ended from outside: {how}.{told} Most likely the memory, or the shared memory, '
        'ran out: lower `num_worker_per_gpu`, or look at that sample. What was saved before is whole; --auto_resume '
        'goes on from it.'
    )


def repair_sample_names() -> None:
    """Name the samples of every loader that cannot be made; BasicSR ends in an error of a decoder."""
    import basicsr.test
    import basicsr.train

    for module in (basicsr.train, basicsr.test):
        module.build_dataloader = _naming(module.build_dataloader)


def _naming(original: Any) -> Any:
    @functools.wraps(original)
    def build_dataloader(dataset: Any, *args: Any, **kwargs: Any) -> Any:
        named = dataset if isinstance(dataset, NamedSamples) else NamedSamples(dataset)
        loader = original(named, *args, **kwargs)
        named.shared_with(loader.num_workers)
        return loader

    return build_dataloader


def repair_prefetching() -> None:
    """Hand an error of `prefetch_mode: cpu` on; BasicSR's thread dies of it, and the training waits for it forever."""
    from basicsr.data.prefetch_dataloader import PrefetchGenerator

    fill, take = PrefetchGenerator.run, PrefetchGenerator.__next__

    @functools.wraps(fill)
    def run(self: Any) -> None:
        try:
            fill(self)
        except Exception as error:
            self.queue.put(error)

    @functools.wraps(take)
    def following(self: Any) -> Any:
        item = take(self)
        if isinstance(item, Exception):
            raise item
        return item

    PrefetchGenerator.run, PrefetchGenerator.__next__ = run, following
