"""Train the runs of a comparison, several at a time, each as an ordinary experiment that can be resumed."""

from __future__ import annotations

import contextlib
import datetime
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch

from kdsr import options
from kdsr.comparison.planned_runs import Comparison, PlannedRun
from kdsr.comparison.training_record import Record, read_record
from kdsr.data.parallel import count_processors
from kdsr.durable import write_durably
from kdsr.errors import UserError, did_you_mean
from kdsr.experiment import missing_files, read_experiment
from kdsr.lifecycle.locking import FolderLock
from kdsr.options.differences import list_option_differences
from kdsr.pyiqa_metric import prepare_metrics
from kdsr.wording import counted

POLL_SECONDS = 0.5
LINE_SECONDS = 60.0
LOOK_SECONDS = 5.0  # between two looks at what can be stopped early
LAST_LINES = 15
PROGRAM = Path(__file__).with_name('recorded_training.py')
NOT_COMPARED = ('logger', 'auto_resume')  # options that do not change what a run learns


def select(comparison: Comparison, only: Sequence[str] = ()) -> list[PlannedRun]:
    """Return the runs of the labels `only`, or all, with the runs that they need, in the order of the file.

    Raises:
        UserError: a label does not exist.
    """
    for label in only:
        if label not in comparison.labels:
            hint = did_you_mean(label, comparison.labels) or f' Labels: {", ".join(comparison.labels)}.'
            raise UserError(f'--only {label}: {comparison.file} has no such run.{hint}')
    wanted = {run.name for run in comparison.runs if not only or run.label in only}
    by_name = {run.name: run for run in comparison.runs}
    waiting = list(wanted)
    while waiting:
        new = [name for name in by_name[waiting.pop()].needs if name not in wanted]
        wanted.update(new)
        waiting.extend(new)
    return [run for run in comparison.runs if run.name in wanted]


def is_finished(run: PlannedRun, record: Record | None = None) -> bool:
    """Return whether a run was trained to its end."""
    record = record or read_record(run.folder)
    return record is not None and record.ended is not None and record.iteration == run.iterations


def check_kept(runs: Iterable[PlannedRun]) -> None:
    """Refuse runs in the experiment folders that do not belong to the comparison file as it is now.

    Raises:
        UserError: runs started with other options, or before a run that they need was finished; all are listed.
    """
    runs = list(runs)
    records = {run.name: read_record(run.folder) for run in runs}
    problems = [problem for run in runs for problem in _find_problems(run, records)]
    if problems:
        listed = '\n'.join(problems)
        raise UserError(
            f'these runs do not belong to this comparison as it is now:\n{listed}\n'
            'Move these folders away to train the runs again, undo the change, or give the comparison another `name:`.'
        )


def _find_problems(run: PlannedRun, records: dict[str, Record | None]) -> Iterable[str]:
    kept = os.path.join(run.folder, f'{run.name}.yml')
    if os.path.isfile(kept):
        old = options.complete(options.read_yaml(kept), kept)  # an older version had other defaults
        old, new = ({k: v for k, v in opt.items() if k not in NOT_COMPARED} for opt in (old, run.opt))
        changed = list_option_differences(old, new)
        if changed and records[run.name] is not None:
            more = [f'and {len(changed) - 8} more'] if len(changed) > 8 else []
            yield f'  {run.folder} was trained with other options:'
            yield from (f'    - {line}' for line in (*changed[:8], *more))
    elif os.path.isdir(os.path.join(run.folder, 'training_states')):
        yield f'  {run.folder} is another experiment (there is no {run.name}.yml in it)'
    record = records[run.name]
    for name in run.needs if record and record.starts else ():
        needed = records.get(name)
        if needed is None or needed.ended is None or needed.ended > record.starts[0]['date']:  # type: ignore[union-attr]
            yield f'  {run.folder} was trained before experiments/{name}, which it needs, was finished'


def check_run_files(runs: Iterable[PlannedRun], stand_in: str) -> None:
    """Check that data and weights exist. A file that a needed run will write counts as existing.

    Args:
        runs: The runs to train.
        stand_in: Any file that exists, in place of the files to come.

    Raises:
        UserError: files are missing; the message names them and the runs.
    """
    problems: dict[str, str] = {}  # what is missing, to the first run that needs it
    for run in runs:
        for metric, problem in prepare_metrics(run.experiment.validation.metrics):
            problems.setdefault(f'val.metrics.{metric}: {problem}', run.name)
        try:
            missing_files.check_files(read_experiment(_add_stand_ins(run.opt, run.needs, stand_in)))
        except UserError as error:
            problems.setdefault(str(error), run.name)
    if problems:
        raise UserError('\n'.join(f'{name}: {problem}' for problem, name in problems.items()))


def _add_stand_ins(value: Any, needs: Sequence[str], stand_in: str) -> Any:
    if isinstance(value, dict):
        return {key: _add_stand_ins(item, needs, stand_in) for key, item in value.items()}
    if isinstance(value, list):
        return [_add_stand_ins(item, needs, stand_in) for item in value]
    will_exist = isinstance(value, str) and any(value.startswith(f'experiments/{name}/') for name in needs)
    return stand_in if will_exist else value


class TrainingProcess:
    """One training process.

    Args:
        run: The run to train.
        folder: Where option files and the output of the processes go.
        threads: Number of threads for work on the CPU.
        device: Value of CUDA_VISIBLE_DEVICES; None keeps the current one.

    Raises:
        FolderInUseError: another `kdsr compare` trains this run.
    """

    def __init__(self, run: PlannedRun, folder: Path, threads: int, device: str | None) -> None:
        self.run = run
        self.began = time.time()
        option_file = folder / 'options' / f'{run.name}.yml'
        self.output = folder / 'output' / f'{run.name}.txt'
        for file in (option_file, self.output):
            file.parent.mkdir(parents=True, exist_ok=True)
        self._lock = FolderLock(self.output.with_suffix(''), 'being trained')
        self._lock.acquire()
        try:
            self.process = self._launch(option_file, threads, device)
        except BaseException:
            self._lock.release()
            raise

    def _launch(self, option_file: Path, threads: int, device: str | None) -> subprocess.Popen[bytes]:
        write_durably(option_file, options.dump(self.run.opt).encode())
        environment = {'OMP_NUM_THREADS': str(threads), **os.environ}
        if device is not None:
            environment['CUDA_VISIBLE_DEVICES'] = device
        command = [sys.executable, str(PROGRAM), '-opt', str(option_file), '--auto_resume']
        with self.output.open('w', encoding='utf-8') as output:
            return subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=output, stderr=subprocess.STDOUT, env=environment
            )

    def stop(self) -> None:
        """End the process. Its last saved state is kept."""
        self.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(10)
        self.process.kill()
        self.close()

    def close(self) -> None:
        """Reap the finished process, and let others train the run."""
        self.process.communicate()
        self._lock.release()

    def last_lines(self) -> str:
        """Return the last lines of the output of the process."""
        lines = self.output.read_text(encoding='utf-8', errors='replace').splitlines()
        return '\n'.join(f'    {line}' for line in lines[-LAST_LINES:])

    def steps(self) -> tuple[int, int]:
        """Return how many iterations this process has done, and how many remain."""
        record = self._record()
        if record is None:
            return 0, self.run.iterations
        return record.iteration - record.starts[-1]['iter'], self.run.iterations - record.iteration

    def progress(self) -> str:
        """Return the iteration, the last value on the first validation set, and the remaining time, in words."""
        name, record = f'{self.run.label} seed {self.run.seed}', self._record()
        if record is None:
            return f'{name} starts'
        (done, left), text = self.steps(), f'{name} {record.iteration:,}/{self.run.iterations:,}'
        first = next(iter(record.curves.items()), None)
        if first and first[1]:
            (dataset, metric), curve = first
            text += f' {dataset} {metric} {curve[-1].value:.4g}'
        seconds = record.updated - record.starts[-1]['date']
        return f'{text} {format_duration(seconds / done * left)} left' if done > 0 else text

    def _record(self) -> Record | None:
        """Return the record of the run; None until this process has written to it."""
        record = read_record(self.run.folder)
        return record if record and record.starts and record.starts[-1]['date'] >= self.began else None


def format_duration(seconds: float) -> str:
    """Return seconds as H:MM:SS."""
    return str(datetime.timedelta(seconds=round(seconds)))


def train_all(
    comparison: Comparison,
    runs: Sequence[PlannedRun],
    workers: int,
    say: Callable[[str], None],
    hopeless: Callable[[str], object | None] | None = None,
) -> list[str]:
    """Train the runs that are not finished; return the names of those that failed.

    Args:
        comparison: The comparison of the runs.
        runs: In the order in which they start. The runs that they need are among them.
        workers: How many processes train at a time. They take turns over the visible GPUs.
        say: Receives a line for every start and end, and once a minute for the running ones.
        hopeless: Returns why the runs of a label shall be stopped, or None. A label that others need is not stopped.

    Raises:
        UserError: files are missing, see :func:`check_run_files`. Then nothing has started.
    """
    finished = {run.name for run in runs if is_finished(run)}
    todo = [run for run in runs if run.name not in finished]
    check_run_files(todo, comparison.file)
    if finished:
        say(f'{len(finished)} of {counted(len(runs), "run")} {"is" if len(finished) == 1 else "are"} finished already.')
    for run in {r.label: r for r in todo if r.opt['logger']['save_checkpoint_freq'] > r.iterations}.values():
        say(
            f'{run.label} saves no state before its end. If it is killed, it starts from the beginning: lower '
            '`logger.save_checkpoint_freq`.'
        )
    return _Schedule(comparison, todo, finished, workers, say, hopeless).work()


class _Schedule:
    """The runs that wait, train, are finished, or failed."""

    def __init__(
        self,
        comparison: Comparison,
        todo: list[PlannedRun],
        finished: set[str],
        workers: int,
        say: Callable[[str], None],
        hopeless: Callable[[str], object | None] | None,
    ) -> None:
        self.hopeless, self.looked = hopeless, -LOOK_SECONDS
        self.needed = {label for run in comparison.runs for name in run.needs for label in [_label(comparison, name)]}
        self.folder = Path('experiments') / comparison.name
        self.waiting, self.finished, self.say = todo, finished, say
        self.failed: list[str] = []
        self.running: list[TrainingProcess | None] = [None] * workers
        self.threads = max(1, count_processors() // workers)
        self.devices = _list_devices()
        self.busy, self.trained = 0.0, 0  # seconds and iterations of processes that have ended

    def work(self) -> list[str]:
        said = time.monotonic()
        try:
            while self.waiting or any(self.running):
                self._collect()
                self._give_up()
                self._stop_hopeless()
                self._start()
                if time.monotonic() - said >= LINE_SECONDS:
                    said = time.monotonic()
                    self._report()
                if any(self.running):
                    time.sleep(POLL_SECONDS)
        finally:
            for training in self.running:
                if training:
                    training.stop()
        return self.failed

    def _collect(self) -> None:
        for slot, training in enumerate(self.running):
            if training is None or training.process.poll() is None:
                continue
            self.running[slot] = None
            training.close()
            run, seconds = training.run, time.time() - training.began
            self.busy, self.trained = self.busy + seconds, self.trained + training.steps()[0]
            if training.process.returncode == 0 and is_finished(run):
                self.finished.add(run.name)
                self.say(f'{run.name}: finished after {format_duration(seconds)}.')
            else:
                code, lines = training.process.returncode, training.last_lines()
                self._fail(run, f'failed (exit {code}); the end of {training.output}:\n{lines}')

    def _fail(self, run: PlannedRun, reason: str) -> None:
        self.failed.append(run.name)
        self.say(f'{run.name}: {reason}')

    def _give_up(self) -> None:
        """Drop the runs that need a failed run."""
        for run in list(self.waiting):
            lost = [name for name in run.needs if name in self.failed]
            if lost:
                self.waiting.remove(run)
                self._fail(run, f'not started, because it needs {", ".join(lost)}.')

    def _stop_hopeless(self) -> None:
        """Stop and drop the runs of labels that cannot gain any more."""
        if self.hopeless is None or time.monotonic() - self.looked < LOOK_SECONDS:
            return
        self.looked = time.monotonic()
        running = [training.run.label for training in self.running if training]
        for label in dict.fromkeys([*running, *(run.label for run in self.waiting)]):
            reason = None if label in self.needed else self.hopeless(label)
            if reason is None:
                continue
            for slot, training in enumerate(self.running):
                if training and training.run.label == label:
                    training.stop()
                    self.running[slot] = None
            self.waiting = [run for run in self.waiting if run.label != label]
            self.say(f'{label}: stopped early, {reason}.')

    def _start(self) -> None:
        for slot, training in enumerate(self.running):
            ready = next((run for run in self.waiting if self.finished.issuperset(run.needs)), None)
            if training is not None or ready is None:
                continue
            self.waiting.remove(ready)
            device = self.devices[slot % len(self.devices)] if self.devices else None
            try:
                self.running[slot] = TrainingProcess(ready, self.folder, self.threads, device)
                waiting = f' Waiting: {counted(len(self.waiting), "run")}.' if self.waiting else ''
                self.say(f'{ready.name}: started, {counted(ready.iterations, "iteration")}.{waiting}')
            except UserError as error:
                self._fail(ready, str(error))

    def _report(self) -> None:
        """Report the running trainings, and the remaining time if the waiting ones are as fast."""
        running = [training for training in self.running if training]
        texts = [training.progress() for training in running]
        steps = [training.steps() for training in running]
        done = self.trained + sum(s for s, _ in steps)
        left = sum(s for _, s in steps) + sum(run.iterations for run in self.waiting)
        busy = self.busy + sum(time.time() - training.began for training in running)
        if done and self.waiting:
            texts.append(f'about {format_duration(busy / done * left / len(self.running))} left in all')
        self.say(' | '.join(texts))


def _label(comparison: Comparison, name: str) -> str:
    return next(run.label for run in comparison.runs if run.name == name)


def _list_devices() -> list[str]:
    visible = os.environ.get('CUDA_VISIBLE_DEVICES')
    if visible is not None:
        return [d for d in visible.split(',') if d]
    return [str(i) for i in range(torch.cuda.device_count())]
