"""What the training of this process is doing, as far as it takes to leave the run and to resume it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kdsr.lifecycle.locking import FolderLock
    from kdsr.lifecycle.peers import Peers
    from kdsr.lifecycle.stopping import BeforeStep


class Run:
    """The state of BasicSR's training pipeline in this process.

    Attributes:
        active: The pipeline is running.
        built: The model, once it is built.
        asked: The number of the signal that asked the run to stop; None while there was none.
        model: The model in training, from the first step on.
        iteration: The last finished iteration.
        steps_per_epoch: The length of the loader.
        samples: The training set, a NamedSamples.
        val_loaders: The loaders of the validation sets.
        tb_logger: TensorBoard's writer, or None.
        speed: Says once how long the run will take.
        validating: A validation is running. It changes no weights, so a stop need not wait for its end.
        ending: The run saves what it needs to stop, or has failed; further signals change nothing.
        lock: The lock of the run's folder.
        options: What the training depends on, as the option file gives it (`changed_options.snapshot`), or None.
        peers: The other processes of a distributed run, or None.
        before_step: What a distributed run was when the step began.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self, active: bool = False) -> None:
        """Forget an earlier run of this process."""
        self.active = active
        self.built: Any = None
        self.asked: int | None = None
        self.model: Any = None
        self.iteration = 0
        self.steps_per_epoch = 1
        self.samples: Any = None
        self.val_loaders: list[Any] = []
        self.tb_logger: Any = None
        self.speed: Any = None
        self.validating = False
        self.ending = False
        self.lock: FolderLock | None = None
        self.peers: Peers | None = None
        self.before_step: BeforeStep | None = None
        self.options: dict[str, Any] | None = None


class Observer:
    """Base of what records a run. Its methods are called in the training process and do nothing here."""

    def start(self, opt: dict[str, Any], iteration: int) -> None:
        """Hear that the run starts, or goes on after `iteration`; `run.built` is the model."""

    def log(self, log_vars: Mapping[str, Any]) -> None:
        """Hear what BasicSR logs: `iter`, `time`, and the losses."""

    def wants_validation(self, set_name: str, iteration: int) -> bool:
        """Return whether a set is to be validated now; BasicSR validates after the last iteration a second time."""
        return True

    @contextlib.contextmanager
    def during_validation(self, set_name: str, iteration: int) -> Iterator[None]:
        """Enclose a validation."""
        yield


run = Run()
observers: list[Observer] = []  # of the next run
