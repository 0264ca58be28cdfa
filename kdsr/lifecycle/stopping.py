"""How a training run ends early without losing anything: clusters' signals, Ctrl-C, a full disk."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Any

from kdsr.errors import UserError, cure_of
from kdsr.lifecycle.bad_samples import killed_worker
from kdsr.lifecycle.locking import unlock

SIGNALS = tuple(getattr(signal, name) for name in ('SIGINT', 'SIGTERM', 'SIGUSR1') if hasattr(signal, name))


class Stopped(SystemExit):
    """The run was asked to stop, and what it needs to go on is saved."""


class Run:
    """What the training of this process is doing, as far as it takes to leave it and to take it up again.

    Attributes:
        active: BasicSR's training pipeline is running.
        asked: Number of the signal that asked it to stop; None while none did.
        model: The one in training, from the first step on.
        iteration: The last one that is finished.
        steps_an_epoch: Length of the loader.
        samples: The training set.
        val_loaders: Of the validation sets.
        tb_logger: TensorBoard's writer, or None.
        validating: Validation changes no weights, so a stop need not wait for its end.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self, active: bool = False) -> None:
        """Forget an earlier run of this process."""
        self.active = active
        self.asked: int | None = None
        self.model: Any = None
        self.iteration = 0
        self.steps_an_epoch = 1
        self.samples: Any = None
        self.val_loaders: list[Any] = []
        self.tb_logger: Any = None
        self.validating = False

    def on_signal(self, number: int, frame: Any) -> None:
        """Remember to stop after the step; stop at once where none is under way, and at a second Ctrl-C."""
        again, self.asked = number == signal.SIGINT == self.asked, number
        if self.model is None or again:
            raise KeyboardInterrupt
        if self.model.opt['rank'] != 0:  # the first process saves; when it has ended, the launcher ends the others
            return
        name = signal.Signals(number).name
        os.write(2, f'\nkdsr: {name}: the run stops when this step is done and saved.\n'.encode())
        if self.validating:
            self.stop_if_asked()

    def stop_if_asked(self) -> None:
        """Save the run as it is after its last iteration, and leave.

        Raises:
            Stopped: if it was asked to; the exit status is that of a process that the signal ended.
        """
        if self.asked is None or self.model.opt['rank'] != 0:
            return
        number, self.asked = self.asked, None
        told = 'no iteration is finished, so nothing is saved'
        if self.iteration > 0:
            self.model.save((self.iteration - 1) // self.steps_an_epoch, self.iteration)
            told = f'saved after iteration {self.iteration:,}. To go on, add --auto_resume to the same command'
        sys.stderr.write(f'kdsr: stopped by {signal.Signals(number).name}: {told}.\n')
        sys.stderr.flush()
        raise Stopped(128 + number)


run = Run()


def repair_signals() -> None:
    """Save and leave when a cluster (SIGTERM, SIGUSR1) or Ctrl-C ends a run; BasicSR drops what it did since it saved.

    At the beginning of a step the one before is finished, logged, saved and validated: there the run can be left.
    """
    import basicsr.train
    from basicsr.models.base_model import BaseModel

    pipeline, begin_step = basicsr.train.train_pipeline, BaseModel.update_learning_rate

    @functools.wraps(pipeline)
    def train_pipeline(root_path: str) -> None:
        run.reset(active=True)
        try:
            with _told_how_to_go_on(), _caught_signals():
                pipeline(root_path)
        finally:
            if run.samples is not None:
                run.samples.release()
            run.reset()
            unlock()

    @functools.wraps(begin_step)
    def update_learning_rate(self: Any, current_iter: int, warmup_iter: int = -1) -> None:
        if run.active:
            begins, run.model, run.iteration = run.model is None, self, current_iter - 1
            if begins:
                _validate_what_was_missed(self, run.iteration)
            run.stop_if_asked()
        begin_step(self, current_iter, warmup_iter)

    basicsr.train.train_pipeline = train_pipeline
    BaseModel.update_learning_rate = update_learning_rate


@contextlib.contextmanager
def _told_how_to_go_on() -> Iterator[None]:
    """Turn what ends a run from outside into one message."""
    try:
        yield
    except KeyboardInterrupt:
        raise Stopped('\nkdsr: interrupted. What was saved before is whole; --auto_resume goes on from it.') from None
    except (OSError, RuntimeError, EOFError) as error:
        told = killed_worker(error, run.samples)
        cure = cure_of(error) if isinstance(error, OSError) else None
        if told is None and cure is None:
            raise
        raise UserError(told or f'{error}: {cure}, and add --auto_resume to the same command to go on.') from error


@contextlib.contextmanager
def _caught_signals() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():  # only there Python lets signals be caught
        yield
        return
    before = {number: signal.signal(number, run.on_signal) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def repair_validation_record() -> None:
    """Note which sets are validated, and bring the state that was saved just before up to date with the best metrics.

    BasicSR saves before it validates: a run that is killed in between never validates that iteration.
    """
    import basicsr.train
    from basicsr.models.base_model import BaseModel

    loaders, original = basicsr.train.create_train_val_dataloader, BaseModel.validation

    @functools.wraps(loaders)
    def create_train_val_dataloader(opt: dict[str, Any], logger: Any) -> Any:
        result = loaders(opt, logger)
        run.steps_an_epoch, run.val_loaders = len(result[0]), result[2]
        run.samples = result[0].dataset
        return result

    @functools.wraps(original)
    def validation(self: Any, dataloader: Any, current_iter: Any, tb_logger: Any, save_img: bool = False) -> None:
        if not run.active:
            original(self, dataloader, current_iter, tb_logger, save_img)
            return
        run.model = self  # a run that is resumed after its last iteration takes no step
        run.iteration, run.validating = min(current_iter, int(self.opt['train']['total_iter'])), True
        try:
            run.stop_if_asked()
            original(self, dataloader, current_iter, tb_logger, save_img)
        finally:
            run.validating = False
        self.validated = {**(getattr(self, 'validated', None) or {}), dataloader.dataset.opt['name']: run.iteration}
        if getattr(self, 'saved_state', (0, 0))[1] == run.iteration:
            self.save_training_state(*self.saved_state)

    basicsr.train.create_train_val_dataloader = create_train_val_dataloader
    BaseModel.validation = validation


def _validate_what_was_missed(model: Any, iteration: int) -> None:
    """Validate after a resume what the killed run had not validated any more."""
    val_opt, validated = model.opt.get('val'), getattr(model, 'validated', None)
    if validated is None or val_opt is None or not iteration or iteration % int(val_opt['val_freq']):
        return
    for loader in run.val_loaders:
        if validated.get(loader.dataset.opt['name']) != iteration:
            model.validation(loader, iteration, run.tb_logger, val_opt['save_img'])
