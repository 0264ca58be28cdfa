"""What BasicSR's log says while it trains."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import torch
from basicsr.train import init_tb_loggers as basicsr_init_tb_loggers
from basicsr.utils import MessageLogger, get_root_logger

from kdsr.errors import UserError
from kdsr.experiment import read_experiment
from kdsr.experiment.loss_weights import find_loss_weights
from kdsr.lifecycle import console
from kdsr.lifecycle.announcing import SpeedEstimate, describe_start
from kdsr.lifecycle.run import observers, run


class ProgressLogger(MessageLogger):
    """BasicSR's logger, with more at the end of each line: progress, speed, wait for data, memory, unweighted losses.

    The beginning of the line is BasicSR's. TensorBoard gets the same numbers, and the learning rate. Before the first
    line it prints what the run is.
    """

    def __init__(self, opt: dict[str, Any], start_iter: int = 1, tb_logger: Any = None) -> None:
        super().__init__(opt, start_iter, tb_logger)
        self.total = int(opt['train']['total_iter'])
        self.max_iters = self.total + 1  # BasicSR subtracts one too many: the last line said `eta: -1 day, 23:59:59`
        train_set = opt['datasets']['train']
        gpus = max(1, opt['num_gpu']) if not opt['dist'] else opt['world_size']
        self.images_per_step = train_set['batch_size_per_gpu'] * gpus
        self.logger: Any = self
        self.ending = ''
        self.weights = find_loss_weights(read_experiment(opt, is_train=True))
        run.tb_logger, run.speed = tb_logger, SpeedEstimate()
        if run.built is not None:
            console.say_start(describe_start(opt, run.built, run.samples, run.val_loaders, int(start_iter)))
        for observer in observers:
            observer.start(opt, int(start_iter))

    def __call__(self, log_vars: dict[str, Any]) -> None:
        """Write one line.

        Args:
            log_vars: BasicSR's `epoch`, `iter`, `lrs`, `time`, `data_time`, and the losses.
        """
        step, waiting, iteration = log_vars.get('time', 0.0), log_vars.get('data_time', 0.0), log_vars['iter']
        numbers = {'images/s': self.images_per_step / step if step else 0.0, 'memory GB': measure_peak_memory()}
        numbers['waiting for data %'] = 100 * waiting / step if step else 0.0
        for observer in observers:
            observer.log(log_vars)
        unweighted = find_unweighted(log_vars, self.weights)
        self.ending = describe_progress(iteration, self.total, numbers) + describe_unweighted(unweighted)
        rates = list(dict.fromkeys(log_vars['lrs']))
        super().__call__(log_vars)
        if self.tb_logger is not None and self.use_tb_logger:
            for name, value in numbers.items():
                self.tb_logger.add_scalar(f'speed/{name}', value, iteration)
            for i, rate in enumerate(rates):
                self.tb_logger.add_scalar(f'learning rate/{i}' if i else 'learning rate', rate, iteration)
            for name, value in unweighted.items():
                self.tb_logger.add_scalar(f'losses unweighted/{name}', value, iteration)

    def info(self, message: str) -> None:
        """Write BasicSR's line with our end; BasicSR hands it to `self.logger`."""
        get_root_logger().info(f'{message}{self.ending}')


def describe_progress(iteration: int, total: int, numbers: dict[str, float]) -> str:
    """Return the end of a line of the log.

    Args:
        iteration: The last finished one.
        total: Of the run.
        numbers: `images/s`, `waiting for data %` and `memory GB`.
    """
    return (
        f'| {100 * iteration / total:.1f} % done, {numbers["images/s"]:.3g} images/s, '
        f'{numbers["waiting for data %"]:.0f} % waiting for data, {numbers["memory GB"]:.2f} GB at most'
    )


def find_unweighted(values: Mapping[str, float], weights: Mapping[str, float]) -> dict[str, float]:
    """Return the terms of the loss without their factors, where that is another number.

    Args:
        values: Logged values by name; others than terms of the loss are ignored.
        weights: The factor of each term.
    """
    factors = {name: weights.get(name, 1.0) for name in values}
    return {name: values[name] / factor for name, factor in factors.items() if factor not in (0.0, 1.0)}


def describe_unweighted(values: Mapping[str, float]) -> str:
    """Return the end of a line of the log: ``, unweighted l_pix=2.0000e-02``; '' where there are no values."""
    return ', unweighted ' + ' '.join(f'{name}={value:.4e}' for name, value in values.items()) if values else ''


def measure_peak_memory() -> float:
    """Return the most memory that this process held so far, in GB: on its GPU, or without one its main memory."""
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        return torch.cuda.max_memory_allocated() / 1e9
    try:
        import resource
    except ImportError:  # Windows
        return 0.0
    unit = 1 if sys.platform == 'darwin' else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


def init_tb_loggers(opt: dict[str, Any]) -> Any:
    """Start TensorBoard and wandb as BasicSR does.

    Raises:
        UserError: the package, which is optional, is missing. The message names it.
    """
    try:
        return basicsr_init_tb_loggers(opt)
    except ImportError as error:
        is_wandb = (error.name or '').startswith('wandb')
        package, key = ('wandb', 'logger.wandb') if is_wandb else ('tensorboard', 'logger.use_tb_logger')
        raise UserError(f'`{key}` needs a package: pip install {package} ({error})') from error
