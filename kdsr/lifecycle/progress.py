"""What BasicSR's log says while it trains."""

from __future__ import annotations

import functools
import sys
from typing import Any

from kdsr.errors import UserError
from kdsr.lifecycle.stopping import run


def repair_progress_line() -> None:
    """End each line of the log with what a person asks: how far it is, how fast, what it waits for, how much memory.

    What BasicSR writes stays as it is at the beginning of the line; TensorBoard gets the same numbers.
    """
    import basicsr.train
    from basicsr.utils import get_root_logger

    class ProgressLogger(basicsr.train.MessageLogger):
        def __init__(self, opt: dict[str, Any], start_iter: int = 1, tb_logger: Any = None) -> None:
            super().__init__(opt, start_iter, tb_logger)
            train_set = opt['datasets']['train']
            gpus = max(1, opt['num_gpu']) if not opt['dist'] else opt['world_size']
            self.images_a_step = train_set['batch_size_per_gpu'] * gpus
            self.logger: Any = self
            self.ending = ''
            run.tb_logger = tb_logger

        def __call__(self, log_vars: dict[str, Any]) -> None:
            step, waiting, iteration = log_vars.get('time', 0.0), log_vars.get('data_time', 0.0), log_vars['iter']
            numbers = {'images/s': self.images_a_step / step if step else 0.0, 'memory GB': peak_memory()}
            numbers['waiting for data %'] = 100 * waiting / step if step else 0.0
            self.ending = progress(iteration, int(self.max_iters), numbers)
            super().__call__(log_vars)
            if self.tb_logger is not None and self.use_tb_logger:
                for name, value in numbers.items():
                    self.tb_logger.add_scalar(f'speed/{name}', value, iteration)

        def info(self, message: str) -> None:  # BasicSR hands its line to `self.logger`
            get_root_logger().info(f'{message}{self.ending}')

    basicsr.train.MessageLogger = ProgressLogger


def progress(iteration: int, total: int, numbers: dict[str, float]) -> str:
    """Return the end of a line of the log."""
    return (
        f'| {100 * iteration / total:.1f} % done, {numbers["images/s"]:.3g} images/s, '
        f'{numbers["waiting for data %"]:.0f} % waiting for data, {numbers["memory GB"]:.2f} GB at most'
    )


def peak_memory() -> float:
    """Return the most memory that this process ever held, in GB: on its GPU, or without one in all."""
    import torch

    if torch.cuda.is_available() and torch.cuda.is_initialized():
        return torch.cuda.max_memory_allocated() / 1e9
    try:
        import resource
    except ImportError:  # Windows
        return 0.0
    unit = 1 if sys.platform == 'darwin' else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


def repair_loggers() -> None:
    """Say which package is missing for TensorBoard and wandb, which are optional, before anything is trained."""
    import basicsr.train

    original = basicsr.train.init_tb_loggers

    @functools.wraps(original)
    def init_tb_loggers(opt: dict[str, Any]) -> Any:
        try:
            return original(opt)
        except ImportError as error:
            package = 'wandb' if (error.name or '').startswith('wandb') else 'tensorboard'
            key = 'logger.wandb' if package == 'wandb' else 'logger.use_tb_logger'
            raise UserError(f'`{key}` needs a package: pip install {package} ({error})') from error

    basicsr.train.init_tb_loggers = init_tb_loggers
