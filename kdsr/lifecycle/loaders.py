"""The loaders of a run: BasicSR's, with samples that repeat after a resume and are named when they cannot be made."""

from __future__ import annotations

import functools
import math
import os
import signal
from typing import Any

import torch
from basicsr.data import build_dataloader as basicsr_build_dataloader
from basicsr.train import create_train_val_dataloader as basicsr_create_train_val_dataloader

from kdsr.errors import UserError
from kdsr.lifecycle.bad_samples import NamedSamples
from kdsr.lifecycle.data_order import check_order, describe_order
from kdsr.lifecycle.run import run
from kdsr.lifecycle.sampling import NumberedSampler, SeededSamples


def build_dataloader(
    dataset: Any, dataset_opt: dict[str, Any], num_gpu: int = 1, dist: bool = False, sampler: Any = None,
    seed: int | None = None,
) -> Any:  # fmt: skip
    """Build a loader as BasicSR does, of samples that are named, and in training numbered and seeded.

    BasicSR seeds each process of the loader once, by its number. So the crops depend on how many processes there are,
    and after a resume they are those of the beginning of the run.

    Raises:
        UserError: `multiprocessing_context` names a way to start processes that the system does not have.
    """
    seeded = dataset_opt['phase'] == 'train' and sampler is not None and seed is not None
    samples = SeededSamples(dataset, seed) if seeded and seed is not None else NamedSamples(dataset)
    loader = basicsr_build_dataloader(
        samples,
        {**dataset_opt, 'persistent_workers': _keeps_workers(dataset_opt, dist)},
        num_gpu=num_gpu,
        dist=dist,
        sampler=NumberedSampler(sampler) if seeded else sampler,
        seed=seed,
    )
    samples.share(loader.num_workers)
    if loader.num_workers and dataset_opt.get('multiprocessing_context'):
        _choose_start_method(loader, dataset_opt['multiprocessing_context'])
    if seeded and loader.num_workers:
        loader.worker_init_fn = functools.partial(start_worker, loader.worker_init_fn)
    return loader


def _keeps_workers(dataset_opt: dict[str, Any], dist: bool) -> bool:
    """Return whether the processes of a loader stay alive between epochs: by default in a distributed run.

    There BasicSR spawns them, so each epoch would import torch anew (94 s instead of 14 s for 40 iterations).
    """
    if dataset_opt['phase'] != 'train' or not dataset_opt.get('num_worker_per_gpu', 0):
        return False
    if dataset_opt.get('prefetch_mode') == 'cpu':  # its threads would share one iterator
        return False
    return bool(dataset_opt.get('persistent_workers', dist))


def _choose_start_method(loader: Any, method: str) -> None:
    try:
        loader.multiprocessing_context = method
    except ValueError as error:
        raise UserError(f'`datasets.train.multiprocessing_context: {method}` is not for this system: {error}') from None


def start_worker(original: Any, number: int) -> None:
    """Start a process of the loader. It ignores Ctrl-C and a cluster's signals: the training process decides.

    When the run is over, also after an error, SIGTERM ends it: Python sends SIGTERM at its exit, and waits.

    Args:
        original: BasicSR's function that starts it, or None.
        number: The number of the process in the loader.
    """
    for name in ('SIGINT', 'SIGTERM', 'SIGUSR1'):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _end_if_over)
    worker: Any = torch.utils.data.get_worker_info()
    worker.dataset.note(-1)
    if original is not None:
        original(number)


def _end_if_over(number: int, frame: Any) -> None:
    worker = torch.utils.data.get_worker_info()
    if worker is not None and getattr(worker.dataset, 'over', False):
        os._exit(0)


def create_train_val_dataloader(opt: dict[str, Any], logger: Any) -> Any:
    """Create the loaders as BasicSR does; go on with the next sample after a resume.

    BasicSR counts an incomplete last batch that its loader drops: a set smaller than a batch trains nothing and saves
    random weights, and a small set ends the training early. After a resume it reads the epoch from its first sample.

    Raises:
        UserError: the training set fills no batch, or a resumed run would draw other samples than the killed one.
    """
    train_loader, sampler, val_loaders, _, iterations = basicsr_create_train_val_dataloader(opt, logger)
    run.steps_per_epoch, run.val_loaders, run.samples = len(train_loader), val_loaders, train_loader.dataset
    if len(train_loader) == 0:
        raise UserError(
            f'{len(train_loader.dataset)} training images fill no batch of {train_loader.batch_size}: raise '
            '`datasets.train.dataset_enlarge_ratio`, or lower `batch_size_per_gpu`.'
        )
    opt['data_order'] = describe_order(train_loader, opt)
    resumed = opt.get('resumed')
    if resumed is not None:
        if resumed.get('data_order') is not None:
            check_order(opt['data_order'], resumed['data_order'], opt)
        steps = resumed['iter'] - resumed['epoch'] * len(train_loader)  # of the current epoch
        if isinstance(train_loader.sampler, NumberedSampler) and 0 <= steps <= len(train_loader):
            train_loader.sampler.trained = {resumed['epoch']: steps * train_loader.batch_size}
    return train_loader, sampler, val_loaders, math.ceil(iterations / len(train_loader)), iterations
