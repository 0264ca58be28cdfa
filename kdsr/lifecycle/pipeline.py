"""The life of a training run in the order in which it happens: BasicSR's pipeline, its steps and its validations."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Mapping
from typing import Any

from basicsr.models import build_model as basicsr_build_model
from basicsr.models.base_model import BaseModel
from basicsr.test import test_pipeline as basicsr_test_pipeline
from basicsr.train import train_pipeline as basicsr_train_pipeline
from basicsr.utils import get_root_logger

from kdsr.lifecycle import console
from kdsr.lifecycle.announcing import describe_end, describe_test
from kdsr.lifecycle.run import observers, run
from kdsr.lifecycle.sample_images import show_sample
from kdsr.lifecycle.seeding import seed_all
from kdsr.lifecycle.stopping import BeforeStep, catch_signals, explain_end, stop_if_asked

basicsr_update_learning_rate = BaseModel.update_learning_rate
basicsr_validation = BaseModel.validation
# called with all options; the class of the model, where it is not the one that `model_type` names
model_classes: list[Callable[[Mapping[str, Any]], type | None]] = []


def train_pipeline(root_path: str) -> None:
    """Train the option file of the command line, and save when a signal ends the run.

    BasicSR drops what a run did since it last saved when a cluster (SIGTERM, SIGUSR1) or Ctrl-C ends it. The pipeline
    calls, in this order, `parse_options`, `load_resume_state`, `create_train_val_dataloader`, `build_model`, and for
    every step `update_learning_rate`, `save_network` and `save_training_state`, and `validation`.

    Args:
        root_path: The folder of `experiments` and `tb_logger`.

    Raises:
        Stopped: a signal asked the run to stop.
        UserError: the options, files or data are wrong, or something ended the run from outside.
    """
    run.reset(active=True)
    try:
        with catch_signals(), explain_end():
            basicsr_train_pipeline(root_path)
            if run.built.opt['rank'] == 0:
                get_root_logger().info(f'The training is done.\n{describe_end(run.built.opt, run.built)}')
    finally:
        console.forget()
        if run.samples is not None:
            run.samples.release_workers()
        if run.lock is not None:
            run.lock.release()
        run.reset()


def test_pipeline(root_path: str) -> None:
    """Test the option file of the command line, with a start of some lines.

    Args:
        root_path: The folder of `results`.
    """
    try:
        basicsr_test_pipeline(root_path)
    finally:
        console.forget()


def build_model(opt: dict[str, Any]) -> Any:
    """Build the model as BasicSR does, or of the class that a `distillation:` block needs, and remember it."""
    found = (find_class(opt) for find_class in model_classes)
    model_class = next((one for one in found if one is not None), None)
    run.built = basicsr_build_model(opt) if model_class is None else _build(model_class, opt)
    if not opt['is_train']:
        console.say_start(describe_test(opt, run.built))
    return run.built


def _build(model_class: type, opt: dict[str, Any]) -> Any:
    model = model_class(copy.deepcopy(opt))  # as BasicSR: models take entries out of their options
    get_root_logger().info(f'Model [{model_class.__name__}] is created.')
    return model


def update_learning_rate(self: Any, current_iter: int, warmup_iter: int = -1) -> None:
    """Begin a step: leave the run if it was asked to stop, set the learning rate, and seed the step.

    At the beginning of a step, the one before is finished, logged, saved and validated. BasicSR's dropout and views go
    on with whatever random numbers a new process has.

    Raises:
        Stopped: a signal asked the run to stop.
    """
    if run.active:
        first, run.model, run.iteration = run.model is None, self, current_iter - 1
        if first:
            _validate_missed_sets(self, run.iteration)
        stop_if_asked()
        estimate = run.speed.at_step(current_iter, int(self.opt['train']['total_iter'])) if run.speed else None
        if estimate:
            get_root_logger().info(estimate)
        if run.peers is not None:
            run.before_step = BeforeStep(self)
    basicsr_update_learning_rate(self, current_iter, warmup_iter)
    seed_all(self.opt['manual_seed'], 'step', self.opt['rank'], current_iter)


def validation(self: Any, dataloader: Any, current_iter: Any, tb_logger: Any, save_img: bool = False) -> None:
    """Validate one set with the bare network, under the iteration that was trained, and note that it was validated.

    Only rank 0 validates, and there a call of DistributedDataParallel would wait for the other processes. After the
    last iteration, BasicSR's counter is one too high. It saves before it validates: a run that is killed in between
    would never validate that iteration.

    Args:
        self: The model.
        dataloader: Of the validation set.
        current_iter: The iteration in training; the experiment's name in a test.
        tb_logger: TensorBoard's writer, or None.
        save_img: Write the images.

    Raises:
        Stopped: a signal asked the run to stop.
    """
    if self.is_train:
        current_iter = min(current_iter, int(self.opt['train']['total_iter']))
    wrapped = getattr(self, 'net_g', None)
    if wrapped is not None:
        self.net_g = self.get_bare_model(wrapped)
    try:
        if run.active:
            _validate_in_run(self, dataloader, current_iter, tb_logger, save_img)
        else:
            basicsr_validation(self, dataloader, current_iter, tb_logger, save_img)
    finally:
        if wrapped is not None:
            self.net_g = wrapped


def _validate_in_run(model: Any, dataloader: Any, iteration: int, tb_logger: Any, save_img: bool) -> None:
    """Validate, and bring the state that was saved just before up to date with the best metrics."""
    name = dataloader.dataset.opt['name']
    if not all(observer.wants_validation(name, iteration) for observer in observers):
        return
    run.model, run.iteration = model, iteration  # a run that is resumed after its last iteration takes no step
    with contextlib.ExitStack() as stack:
        for observer in observers:
            stack.enter_context(observer.during_validation(name, iteration))
        run.validating = True
        try:
            stop_if_asked()
            basicsr_validation(model, dataloader, iteration, tb_logger, save_img)
        finally:
            run.validating = False
        validated = getattr(model, 'validated', None) or {}
        if validated.get(name) != iteration:
            show_sample(model, dataloader.dataset, iteration, tb_logger)
        model.validated = {**validated, name: iteration}
        if getattr(model, 'saved_state', (0, 0))[1] == iteration:
            model.save_training_state(*model.saved_state)


def _validate_missed_sets(model: Any, iteration: int) -> None:
    """Validate after a resume what the killed run did not validate any more."""
    val_opt, validated = model.opt.get('val'), getattr(model, 'validated', None)
    if validated is None or val_opt is None or not iteration or iteration % int(val_opt['val_freq']):
        return
    for loader in run.val_loaders:
        if validated.get(loader.dataset.opt['name']) != iteration:
            model.validation(loader, iteration, run.tb_logger, val_opt['save_img'])
