"""Random numbers and the order of samples that a resumed run can take up exactly where the killed one was.

BasicSR goes on with the random numbers that a new process happens to have, and reads the epoch again from its first
sample. Here nothing has to be stored: a sample's random numbers follow from the seed and its number in the order of the
whole run, those of a training step from the seed, the process's rank and the iteration.
"""

from __future__ import annotations

import functools
import hashlib
import os
import random
import signal
import threading
import zlib
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from kdsr.errors import UserError
from kdsr.lifecycle.bad_samples import NamedSamples

_global_generators = threading.Lock()  # `prefetch_mode: cpu` makes samples in a thread


def seeds_of(*what: int | str) -> tuple[int, int]:
    """Return two 32-bit numbers that depend on every one of `what` and look random."""
    digest = hashlib.blake2b(repr(what).encode(), digest_size=8).digest()
    return int.from_bytes(digest[:4], 'little'), int.from_bytes(digest[4:], 'little')


def seed_all(*what: int | str) -> None:
    """Seed the generators of Python, NumPy and PyTorch, GPUs included, by what the coming random numbers are for."""
    import torch

    seed, other = seeds_of(*what)
    with _global_generators:
        random.seed(seed)
        np.random.seed(other)
    torch.default_generator.manual_seed(seed)  # torch.manual_seed takes ten times as long where no GPU is used
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(seed)


class SeededSamples(NamedSamples):
    """A training set whose samples depend on nothing but the seed and their number.

    How many processes make the samples, and what was drawn before, makes no difference.

    Args:
        samples: The training set.
        seed: `manual_seed`, the same in every process of a distributed run.
    """

    def __init__(self, samples: Any, seed: int) -> None:
        super().__init__(samples)
        self.seed = seed

    def __getitem__(self, drawn: tuple[int, int]) -> Any:  # type: ignore[override]
        """Return a sample.

        Args:
            drawn: Its index in the training set, and its number in the order of the run.
        """
        import torch

        index, number = drawn
        seed, other = seeds_of(self.seed, 'sample', number)
        with _global_generators:
            random.seed(seed)
            np.random.seed(other)
            if threading.current_thread() is threading.main_thread():  # a step of the main thread may be drawing
                torch.default_generator.manual_seed(seed)
            return super().__getitem__(index)


class Draws:
    """What BasicSR's sampler draws, each index with its number in the order of the run, from any point on.

    Samples have the same numbers whatever the number of processes, as long as the global batch is the same.

    Args:
        sampler: BasicSR's EnlargedSampler, whose epoch the pipeline sets.
    """

    def __init__(self, sampler: Any) -> None:
        self.sampler = sampler
        self.seen: dict[int, int] = {}  # epoch to how many samples of this process an earlier one has trained with

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        own, epoch = self.sampler, self.sampler.epoch
        for place, index in enumerate(own):
            if place >= self.seen.get(epoch, 0):
                yield index, epoch * own.total_size + place * own.num_replicas + own.rank


def leave_signals_to_parent(original: Any, worker: int) -> None:
    """Start a process of the loader: Ctrl-C and a cluster's signals reach it too, but the training decides what to do.

    When the run is over, also after an error, SIGTERM ends it: Python sends that at its exit, and waits.

    Args:
        original: BasicSR's function that starts it, or None.
        worker: Its number.
    """
    for name in ('SIGINT', 'SIGTERM', 'SIGUSR1'):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _end_if_over)
    if original is not None:
        original(worker)


def _end_if_over(number: int, frame: Any) -> None:
    import torch

    worker = torch.utils.data.get_worker_info()
    if worker is not None and getattr(worker.dataset, 'over', False):
        os._exit(0)


def repair_training_samples() -> None:
    """Number the training samples and seed each by its number.

    BasicSR seeds a process of the loader once, by its number, so crops depend on how many processes there are; after a
    resume they are those of the run's beginning.
    """
    import basicsr.train

    original = basicsr.train.build_dataloader

    @functools.wraps(original)
    def build_dataloader(dataset: Any, dataset_opt: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        sampler, seed = kwargs.get('sampler'), kwargs.get('seed')
        if dataset_opt['phase'] != 'train' or sampler is None or seed is None:
            return original(dataset, dataset_opt, *args, **kwargs)
        loader = original(SeededSamples(dataset, seed), dataset_opt, *args, **{**kwargs, 'sampler': Draws(sampler)})
        if loader.num_workers:
            loader.worker_init_fn = functools.partial(leave_signals_to_parent, loader.worker_init_fn)
        return loader

    basicsr.train.build_dataloader = build_dataloader


def repair_step_seeds() -> None:
    """Seed each training step by its iteration; BasicSR's dropout and views go on with whatever a new process has."""
    from basicsr.models.base_model import BaseModel

    original = BaseModel.update_learning_rate

    @functools.wraps(original)
    def update_learning_rate(self: Any, current_iter: int, warmup_iter: int = -1) -> None:
        original(self, current_iter, warmup_iter)
        seed_all(self.opt['manual_seed'], 'step', self.opt['rank'], current_iter)

    BaseModel.update_learning_rate = update_learning_rate


def repair_seed() -> None:
    """Give all processes of a run one seed where the option file names none; BasicSR lets each draw its own."""
    import basicsr.train
    import torch
    from basicsr.utils import set_random_seed

    original = basicsr.train.load_resume_state

    @functools.wraps(original)
    def load_resume_state(opt: dict[str, Any]) -> Any:
        if opt.get('dist'):
            seeds = [opt['manual_seed']]
            torch.distributed.broadcast_object_list(seeds, src=0)
            opt['manual_seed'] = seeds[0]
            set_random_seed(opt['manual_seed'] + opt['rank'])
        return original(opt)

    basicsr.train.load_resume_state = load_resume_state


def repair_order_after_resume() -> None:
    """Go on with the next sample after a resume, and refuse when the samples are not those of the killed run."""
    import basicsr.train

    original = basicsr.train.create_train_val_dataloader

    @functools.wraps(original)
    def create_train_val_dataloader(opt: dict[str, Any], logger: Any) -> Any:
        train_loader, sampler, *rest = original(opt, logger)
        opt['data_order'] = order = _order(train_loader, opt)
        resumed = opt.get('resumed')
        if resumed is not None:
            if resumed.get('data_order') is not None:
                _check_order(order, resumed['data_order'], opt)
            done = resumed['iter'] - resumed['epoch'] * len(train_loader)
            if isinstance(train_loader.sampler, Draws) and 0 <= done <= len(train_loader):
                train_loader.sampler.seen = {resumed['epoch']: done * train_loader.batch_size}
        return (train_loader, sampler, *rest)

    basicsr.train.create_train_val_dataloader = create_train_val_dataloader


def _order(loader: Any, opt: dict[str, Any]) -> dict[str, Any]:
    """Return what the order of the samples and their crops depend on."""
    train_set = opt['datasets']['train']
    return {
        'manual_seed': opt['manual_seed'],
        'processes': opt['world_size'],
        'batch_size_per_gpu': loader.batch_size,
        'dataset_enlarge_ratio': train_set.get('dataset_enlarge_ratio', 1),
        'gt_size': train_set.get('gt_size'),
        'training images': len(loader.dataset),
        'names of the images': _fingerprint(_names(loader.dataset)),
    }


def _names(samples: Any) -> list[str]:
    """Return the names of the training images, in their order, as far as the training set tells them."""
    samples = getattr(samples, 'images', samples)  # of TeacherImagesDataset
    listed: Iterable[Any] = getattr(samples, 'paths', None) or getattr(samples, 'keys', None) or ()
    if callable(listed):
        return []
    paths = [entry.get('gt_path', '') if isinstance(entry, dict) else entry for entry in listed]
    return [os.path.splitext(os.path.basename(str(path)))[0] for path in paths]


def _fingerprint(names: list[str]) -> str:
    return f'{zlib.crc32(chr(10).join(names).encode(errors="surrogateescape")):08x}'


def _check_order(now: dict[str, Any], then: dict[str, Any], opt: dict[str, Any]) -> None:
    changed = [f'{name}: {then[name]}, now {value}' for name, value in now.items() if then.get(name, value) != value]
    if not changed:
        return
    state = opt['path']['resume_state']
    if not opt['path'].get('resume_with_other_data'):
        listed = '\n'.join(f'  - {line}' for line in changed)
        raise UserError(
            f'{state} was saved by a run that draws other samples:\n{listed}\n'
            'Undo the change to resume it exactly. To go on all the same, with other samples than the run would have '
            'had, add `--force_yml path:resume_with_other_data=true`.'
        )
    print(f'{state}: resumed with other data ({"; ".join(changed)}).', flush=True)  # noqa: T201
