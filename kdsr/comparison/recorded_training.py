"""The program that `kdsr compare` starts for each run: kdsr/train.py, which also writes `record.jsonl`.

Its standard input is a pipe from `kdsr compare`. When that process ends, for any reason, this one ends too.
"""

import contextlib
import os
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any

LOCK_WAIT = 30.0  # seconds until the process of a killed `kdsr compare` has ended and released its run


def end_with_parent() -> None:
    """End this process when its standard input is closed."""
    with contextlib.suppress(OSError):
        os.read(0, 1)  # blocks until then
    os._exit(1)


if __name__ == '__main__':
    threading.Thread(target=end_with_parent, daemon=True).start()  # first of all: the imports take seconds
    sys.path[0] = os.path.abspath(os.path.join(__file__, os.pardir, os.pardir, os.pardir))  # as kdsr/train.py does

import kdsr  # noqa: E402, F401 - prepares BasicSR and registers everything; worker processes need it too

# isort: split
import basicsr.train  # noqa: E402

from kdsr.comparison.training_record import RecordWriter  # noqa: E402
from kdsr.environment import environment  # noqa: E402
from kdsr.errors import report_user_errors  # noqa: E402
from kdsr.lifecycle import resuming  # noqa: E402
from kdsr.lifecycle.run import Observer, observers, run  # noqa: E402


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


class _Recording(Observer):
    """Writes down what happens in a run."""

    def __init__(self) -> None:
        self.clock = _Clock()
        self.writer: Any = None
        self.total = 0
        self.validated: dict[str, int] = {}  # set to iteration

    def start(self, opt: dict[str, Any], iteration: int) -> None:
        self.total = int(opt['train']['total_iter'])
        parameters = sum(p.numel() for p in run.built.net_g.parameters())
        self.writer = RecordWriter(opt['path']['experiments_root'])
        self.writer.write('start', iteration, parameters=parameters, **environment(opt['num_gpu']))
        self.clock = _Clock()

    def log(self, log_vars: Mapping[str, Any]) -> None:
        losses = {name: float(value) for name, value in log_vars.items() if name.startswith('l_')}
        step, iteration = log_vars.get('time'), log_vars['iter']
        self.writer.write('log', iteration, losses=losses, step_seconds=step, **self.clock.read())

    def wants_validation(self, set_name: str, iteration: int) -> bool:
        return self.validated.get(set_name) != iteration

    @contextlib.contextmanager
    def during_validation(self, set_name: str, iteration: int) -> Iterator[None]:
        with self.clock.stopped():
            yield
        self.validated[set_name] = iteration
        values = {metric: float(value) for metric, value in getattr(run.built, 'metric_results', {}).items()}
        self.writer.write('validation', iteration, set=set_name, values=values, **self.clock.read())

    def end(self) -> None:
        self.writer.write('end', self.total, **self.clock.read())
        self.writer.close()


def train_recorded(root: str) -> None:
    """Run BasicSR's training pipeline on the option file of the command line, and write the record of the run.

    Args:
        root: The folder in which experiments are.
    """
    recording = _Recording()
    observers.append(recording)
    try:
        basicsr.train.train_pipeline(root)
    finally:
        observers.remove(recording)
    recording.end()


if __name__ == '__main__':
    resuming.lock_wait = LOCK_WAIT
    with report_user_errors():
        train_recorded(os.getcwd())
