"""The program that `kdsr compare` starts for each run: kdsr/train.py, which also writes `record.jsonl`.

Its standard input is a pipe from `kdsr compare`. When that process ends, for any reason, this one ends too.
"""

import contextlib
import os
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

if __name__ == '__main__':
    sys.path[0] = os.path.abspath(os.path.join(__file__, os.pardir, os.pardir, os.pardir))  # as kdsr/train.py does

import kdsr  # noqa: F401 - repairs BasicSR and registers everything; worker processes need it too

# isort: split
import basicsr.train
from basicsr.utils import MessageLogger

from kdsr.comparison.training_record import RecordWriter
from kdsr.environment import environment
from kdsr.errors import told_plainly


class _Clock:
    """Training time in wall-clock and processor seconds. It can be stopped."""

    def __init__(self) -> None:
        self._stopped = (0.0, 0.0)
        self._started = self._now()

    @staticmethod
    def _now() -> tuple[float, float]:
        return time.perf_counter(), sum(os.times()[:4])  # user and system time, of finished data workers too

    def read(self) -> dict[str, float]:
        now = self._now()
        seconds, cpu = (n - s - p for n, s, p in zip(now, self._started, self._stopped))
        return {'seconds': round(seconds, 3), 'cpu_seconds': round(cpu, 3)}

    @contextlib.contextmanager
    def stopped(self) -> Iterator[None]:
        before = self._now()
        yield
        self._stopped = tuple(p + n - b for p, n, b in zip(self._stopped, self._now(), before))  # type: ignore[assignment]


class _Recording:
    """Wraps the model and the logger of BasicSR's pipeline, and records validations and losses."""

    def __init__(self) -> None:
        self.clock = _Clock()
        self.writer: Any = None
        self.parameters = 0
        self.total = 0
        self.validated: dict[str, int] = {}  # set to iteration
        self._original = (basicsr.train.build_model, basicsr.train.MessageLogger)

    def build_model(self, opt: dict[str, Any]) -> Any:
        model = self._original[0](opt)
        self.total = int(opt['train']['total_iter'])
        self.parameters = sum(p.numel() for p in model.net_g.parameters())
        validate = model.validation

        def validation(dataloader: Any, current_iter: int, *args: Any, **kwargs: Any) -> None:
            iteration = min(int(current_iter), self.total)  # BasicSR's counter ends one past the last iteration
            name = dataloader.dataset.opt['name']
            if self.validated.get(name) == iteration:  # BasicSR validates the last iteration twice
                return
            with self.clock.stopped():
                validate(dataloader, current_iter, *args, **kwargs)
            self.validated[name] = iteration
            values = {metric: float(value) for metric, value in getattr(model, 'metric_results', {}).items()}
            self.writer.write('validation', iteration, set=name, values=values, **self.clock.read())

        model.validation = validation
        return model

    def message_logger(self, opt: dict[str, Any], start_iter: int, tb_logger: Any) -> MessageLogger:
        recording = self

        class Recorded(self._original[1]):  # type: ignore[name-defined]
            def __call__(self, log_vars: dict[str, Any]) -> None:
                losses = {name: float(value) for name, value in log_vars.items() if name.startswith('l_')}
                step, iteration = log_vars.get('time'), log_vars['iter']
                recording.writer.write('log', iteration, losses=losses, step_seconds=step, **recording.clock.read())
                super().__call__(log_vars)

        self.writer = RecordWriter(opt['path']['experiments_root'])
        self.writer.write('start', int(start_iter), parameters=self.parameters, **environment(opt['num_gpu']))
        self.clock = _Clock()
        return Recorded(opt, start_iter, tb_logger)

    def end(self) -> None:
        self.writer.write('end', self.total, **self.clock.read())
        self.writer.close()


def train_recorded(root: str) -> None:
    """Run BasicSR's training pipeline on the option file of the command line, and write the record of the run.

    Args:
        root: The folder in which experiments are.
    """
    recording = _Recording()
    original = basicsr.train.build_model, basicsr.train.MessageLogger
    basicsr.train.build_model, basicsr.train.MessageLogger = recording.build_model, recording.message_logger
    try:
        basicsr.train.train_pipeline(root)
    finally:
        basicsr.train.build_model, basicsr.train.MessageLogger = original
    recording.end()


def _end_with_parent() -> None:
    with contextlib.suppress(OSError):
        os.read(0, 1)  # blocks until the pipe is closed
    os._exit(1)


if __name__ == '__main__':
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with told_plainly():
        train_recorded(os.getcwd())
