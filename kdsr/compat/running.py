"""What goes wrong while BasicSR trains and validates, on a CPU, distributed, or on small sets."""

from __future__ import annotations

import atexit
import contextlib
import functools
import math
import os
from collections.abc import Iterator
from typing import Any

from kdsr.compat.option_files import settings
from kdsr.errors import UserError


def repair_init_dist() -> None:
    """Start distributed runs on a CPU (gloo), and bind a process to its local GPU.

    BasicSR divides by the number of GPUs, picks the GPU by global rank, which is wrong on nodes that are not full, and
    never leaves the process group, so that a process that is done first may abort at its exit.
    """
    import basicsr.utils.dist_util
    import basicsr.utils.options
    import torch

    original = basicsr.utils.dist_util.init_dist

    @functools.wraps(original)
    def init_dist(launcher: str, backend: str = 'nccl', **kwargs: Any) -> None:
        with _told_where_processes_cannot_meet():
            if torch.cuda.device_count() > 0 and not settings['cpu']:
                original(launcher, backend, **kwargs)
                torch.cuda.set_device(int(os.environ['LOCAL_RANK']) % torch.cuda.device_count())
            else:
                with _one_pretended_gpu():
                    original(launcher, 'gloo', **kwargs)
        atexit.register(_leave_process_group)

    basicsr.utils.dist_util.init_dist = init_dist
    basicsr.utils.options.init_dist = init_dist


@contextlib.contextmanager
def _told_where_processes_cannot_meet() -> Iterator[None]:
    port = os.environ.get('MASTER_PORT')
    try:
        yield
    except RuntimeError as error:
        if 'EADDRINUSE' not in str(error) and 'address already in use' not in str(error).lower():
            raise
        raise UserError(
            f'port {port or 29500} on this machine is taken, perhaps by another distributed run. Choose another: '
            '`torchrun --master_port=29501 ...`, or MASTER_PORT=29501 in the environment.'
        ) from error


def _leave_process_group() -> None:
    import torch

    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


@contextlib.contextmanager
def _one_pretended_gpu() -> Iterator[None]:
    import torch

    count, select = torch.cuda.device_count, torch.cuda.set_device
    torch.cuda.device_count, torch.cuda.set_device = lambda: 1, lambda device: None
    try:
        yield
    finally:
        torch.cuda.device_count, torch.cuda.set_device = count, select


def repair_model_to_device() -> None:
    """Wrap a network in DistributedDataParallel on a CPU too; BasicSR always passes a CUDA device."""
    from basicsr.models.base_model import BaseModel
    from torch.nn.parallel import DistributedDataParallel

    original = BaseModel.model_to_device

    @functools.wraps(original)
    def model_to_device(self: Any, net: Any) -> Any:
        if not self.opt['dist'] or self.device.type != 'cpu':
            return original(self, net)
        return DistributedDataParallel(net, find_unused_parameters=self.opt.get('find_unused_parameters', False))

    BaseModel.model_to_device = model_to_device


def repair_dataloader() -> None:
    """Keep the loader's processes alive between epochs of a distributed run; let the YAML say how they are started.

    BasicSR's launcher spawns them, so each epoch imports torch anew (94 s instead of 14 s for 40 iterations). An
    explicit `persistent_workers` in the YAML is obeyed, except where there are no workers to keep.
    """
    import basicsr.train

    original = basicsr.train.build_dataloader

    @functools.wraps(original)
    def build_dataloader(dataset: Any, dataset_opt: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        workers = dataset_opt.get('num_worker_per_gpu', 0) if dataset_opt['phase'] == 'train' else 0
        wanted = dataset_opt.get('persistent_workers', kwargs.get('dist', False))
        if dataset_opt.get('prefetch_mode') == 'cpu':  # its threads would share one iterator
            wanted = False
        opt = {**dataset_opt, 'persistent_workers': bool(wanted and workers)}
        loader = original(dataset, opt, *args, **kwargs)
        if workers and dataset_opt.get('multiprocessing_context'):
            _choose_start_method(loader, dataset_opt['multiprocessing_context'])
        return loader

    basicsr.train.build_dataloader = build_dataloader


def _choose_start_method(loader: Any, method: str) -> None:
    try:
        loader.multiprocessing_context = method
    except ValueError as error:
        raise UserError(f'`datasets.train.multiprocessing_context: {method}` is not for this system: {error}') from None


def repair_last_iteration() -> None:
    """Log the validation after the last iteration under that iteration; BasicSR's counter has run one past it."""
    from basicsr.models.base_model import BaseModel

    original = BaseModel.validation

    @functools.wraps(original)
    def validation(self: Any, dataloader: Any, current_iter: Any, tb_logger: Any, save_img: bool = False) -> None:
        if self.is_train:
            current_iter = min(current_iter, int(self.opt['train']['total_iter']))
        original(self, dataloader, current_iter, tb_logger, save_img)

    BaseModel.validation = validation


def repair_distributed_validation() -> None:
    """Validate with the bare network: only rank 0 validates, and a DDP forward would wait for the other processes."""
    from basicsr.models.base_model import BaseModel

    original = BaseModel.validation

    @functools.wraps(original)
    def validation(self: Any, *args: Any, **kwargs: Any) -> None:
        wrapped = getattr(self, 'net_g', None)
        if wrapped is not None:
            self.net_g = self.get_bare_model(wrapped)
        try:
            original(self, *args, **kwargs)
        finally:
            if wrapped is not None:
                self.net_g = wrapped

    BaseModel.validation = validation


def repair_epochs() -> None:
    """Train for `total_iter` iterations on small sets too.

    BasicSR counts an incomplete last batch that its loader drops: a set smaller than a batch trains nothing and saves
    random weights, and small sets end early.
    """
    import basicsr.train

    original = basicsr.train.create_train_val_dataloader

    @functools.wraps(original)
    def create_train_val_dataloader(opt: dict[str, Any], logger: Any) -> Any:
        train_loader, sampler, val_loaders, _, iterations = original(opt, logger)
        if len(train_loader) == 0:
            raise UserError(
                f'{len(train_loader.dataset)} training images fill no batch of {train_loader.batch_size}: raise '
                '`datasets.train.dataset_enlarge_ratio`, or lower `batch_size_per_gpu`.'
            )
        return train_loader, sampler, val_loaders, math.ceil(iterations / len(train_loader)), iterations

    basicsr.train.create_train_val_dataloader = create_train_val_dataloader
