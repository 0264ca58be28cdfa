"""How a training run ends early without losing anything: a cluster's signals, Ctrl-C, a full disk, a killed process."""

from __future__ import annotations

import contextlib
import copy
import os
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Any

import torch

from kdsr.errors import UserError, suggest_cure
from kdsr.lifecycle.bad_samples import explain_killed_worker
from kdsr.lifecycle.peers import SIGNALS, WHOLE
from kdsr.lifecycle.run import run


class Stopped(SystemExit):
    """The run was asked to stop, and what it needs to go on is saved."""


@contextlib.contextmanager
def catch_signals() -> Iterator[None]:
    """Let signals stop the run instead of ending the process."""
    if threading.current_thread() is not threading.main_thread():  # only there Python handles signals
        yield
        return
    before = {number: signal.signal(number, on_signal) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def on_signal(number: int, frame: Any) -> None:
    """Remember to stop after the step. Stop at once before the first step, in a validation, and at a second Ctrl-C."""
    if run.ending:
        return
    again, run.asked = number == signal.SIGINT == run.asked, number
    if again:
        raise KeyboardInterrupt
    if run.peers is not None:
        if run.peers.rank != 0:  # rank 0 learns of the signal, saves, and then all end
            return
        run.peers.note_signal(number)
    if run.model is None:
        raise KeyboardInterrupt
    if _find_failure() is None:
        name = signal.Signals(number).name
        os.write(2, f'\nkdsr: {name}: the run stops when this step is done and saved.\n'.encode())
    if run.validating:
        stop_if_asked()


def stop_if_asked() -> None:
    """Save the run as it is after its last iteration, and leave.

    Raises:
        Stopped: the run was asked to stop, or another process of it has ended. The exit status is that of a process
            that the signal ended, or 1.
    """
    if run.asked is None or run.model.opt['rank'] != 0:
        return
    number, run.ending = run.asked, True
    if run.peers is not None:
        run.peers.main_acts = True
    result = _save() if run.iteration > 0 else 'no iteration is finished, so nothing is saved'
    failure = _find_failure()
    cause = failure if failure is not None else f'stopped by {_describe_signal(number)}'
    sys.stderr.write(f'kdsr: {cause}: {result}.\n')
    sys.stderr.flush()
    raise Stopped(128 + number if failure is None else 1)


def _save() -> str:
    """Save the run as it is after its last iteration, and say so."""
    run.model.save((run.iteration - 1) // run.steps_per_epoch, run.iteration)
    return f'saved after iteration {run.iteration:,}. To go on, add --auto_resume to the same command'


class BeforeStep:
    """What a distributed run was before a step, to save it where another process breaks the step off.

    Args:
        model: At the beginning of the step, before the learning rate is set.
    """

    def __init__(self, model: Any) -> None:
        self._changes = _count_changes(model)
        self._schedulers = [copy.deepcopy(scheduler.state_dict()) for scheduler in model.schedulers]
        self._rates = [group['lr'] for group in _list_groups(model)]

    def restore(self, model: Any) -> bool:
        """Take the learning rate back; return False where the step has changed more than that.

        That is weights, statistics of a normalisation, ranges of activations, or the training pairs that Real-ESRGAN's
        models hold back.
        """
        if getattr(model, 'int8', None) or hasattr(model, 'queue_ptr') or _count_changes(model) != self._changes:
            return False
        for scheduler, state in zip(model.schedulers, self._schedulers):
            scheduler.load_state_dict(state)
        for group, rate in zip(_list_groups(model), self._rates):
            group['lr'] = rate
        return True


def _list_groups(model: Any) -> list[dict[str, Any]]:
    return [group for optimizer in model.optimizers for group in optimizer.param_groups]


def _count_changes(model: Any) -> int:
    """Return how often weights and buffers were changed in place: the same number later means that nothing was."""
    networks = [value for value in vars(model).values() if isinstance(value, torch.nn.Module)]
    return sum(tensor._version for one in networks for tensor in (*one.parameters(), *one.buffers()))


def _save_before_broken_step() -> str:
    """Save in rank 0 what was there before the step that the end of another process broke off, and say so."""
    assert run.peers is not None
    if run.before_step is None or run.peers.rank != 0 or run.iteration == 0:
        return f'. {WHOLE}'
    if not run.before_step.restore(run.model):
        return f'. {WHOLE}'
    run.peers.main_acts = True
    with contextlib.suppress(OSError, UserError):
        return f': {_save()}.'
    return f'. {WHOLE}'


def _find_failure() -> str | None:
    """Say which other process of a distributed run has ended too early."""
    return None if run.peers is None else run.peers.failure


def _describe_signal(number: int) -> str:
    return signal.Signals(number).name + (run.peers.describe_asked() if run.peers is not None else '')


@contextlib.contextmanager
def explain_end() -> Iterator[None]:
    """Turn what ends a run from outside into one message, and tell the other processes of a distributed run.

    Raises:
        Stopped: the user interrupted the run, or another process says why it ended.
        UserError: the disk is full, a process of the loader was killed, or another process of the run has ended.
    """
    try:
        yield
    except BaseException as error:
        run.ending = True
        final = _translate(error)
        if run.peers is not None:
            code = final.code if isinstance(final, SystemExit) else 1
            run.peers.leave(code if isinstance(code, int) else 1, 'see its message')
        if final is error:
            raise
        raise final from error
    if run.peers is not None:
        run.peers.leave(0)


def _translate(error: BaseException) -> BaseException:
    """Return the error that says in one message what ended the run; `error` itself where only the traceback does."""
    if isinstance(error, KeyboardInterrupt):
        how = f'interrupted by {_describe_signal(run.asked)}' if run.asked else 'interrupted'
        return Stopped(f'\nkdsr: {_find_failure() or how}. {WHOLE}')
    if isinstance(error, (OSError, RuntimeError, EOFError)):
        message = _explain(error)
        return error if message is None else UserError(message) if message else Stopped(1)
    return error


def _explain(error: Exception) -> str | None:
    """Say what ended the run; '' when another process says it; None when only the traceback tells."""
    message = explain_killed_worker(error, run.samples)
    cure = suggest_cure(error) if isinstance(error, OSError) else None
    if message is None and cure is not None:
        message = f'{error}: {cure}, and add --auto_resume to the same command to go on.'
    if message is None and run.peers is not None:
        message = run.peers.explain()
        message = message and f'{message}{_save_before_broken_step()}'
    return message
