"""A student alone: BasicSR's SRModel, in colour or on luminance, and the base of kdsr's other models."""

from __future__ import annotations

from typing import Any

from basicsr.utils import get_root_logger
from basicsr.utils.registry import MODEL_REGISTRY

from kdsr.distillation.equalisation import equalise_channels
from kdsr.distillation.int8_simulation import Int8Simulation
from kdsr.models.step import SteppingModel


@MODEL_REGISTRY.register()
class StudentModel(SteppingModel):
    """BasicSR's SRModel with the same files, logs and losses, and what small networks need besides.

    `color: y` trains a network of one channel on the luminance of RGB images, and writes colour images when it
    validates. Batches may be uint8. Validation takes images of any size (padded to the network's window; with
    `val.quadrants` in four parts), and its metrics do not hold up the network. Files are written whole or not at all.

    What makes a step faster or smaller is off unless `train` asks for it, and then the step is SRModel's, bit by bit:
    `amp` and `channels_last` for the network (losses, weights and validation stay in single precision), `compile`,
    `accumulate`, and `clip_grad_norm`. `quantise: int8` lets the network compute as its int8 export will, also when it
    validates; checkpoints keep the ranges of the activations beside the weights.

    Its concerns stand in files of their own, each a class on top of the one before: `student_pass.py` (the network in
    training), `saving.py` (checkpoints and states), `validated.py` (images in, whole images out), `step.py` (the
    training step, with `number_guard.py`). Subclasses override `loss_terms`, and `checkpoint_extras` to save more. The
    network's input stands in the table of model classes (:mod:`kdsr.options.model_classes`).
    """

    int8: Int8Simulation | None = None

    def init_training_settings(self) -> None:
        """Build what is trained, and, with `train.quantise`, let it compute as in int8."""
        super().init_training_settings()
        if self.experiment.training.quantise:
            image = self.network_input(self.complete(self.example_batch()))
            self.int8 = Int8Simulation(self.get_bare_model(self.net_g), image, self.experiment.training.quantise_budget)
            if self.ema_decay > 0:
                self.int8.attach(self.net_g_ema)

    def optimize_parameters(self, current_iter: int) -> None:
        """Take one training step."""
        if self.int8:
            self._prepare_int8(self.int8)
        super().optimize_parameters(current_iter)

    def _prepare_int8(self, int8: Int8Simulation) -> None:
        """Equalise the channels before the first step, and tell what is rounded when that is decided."""
        batch = self.batch()
        image, begins, known = self.network_input(batch), int8.is_new, bool(int8.ranges())
        if begins and equalise_channels(self.get_bare_model(self.net_g), image) and self.ema_decay > 0:
            self.model_ema(0)
        int8.start_step(image, batch.gt)
        if int8.ranges() and not known:
            exact = f'; in single precision: {", ".join(int8.exact)}' if int8.exact else ''
            get_root_logger().info(f'int8: {100 * int8.share_of_work():.0f}% of the multiplications{exact}.')

    def checkpoint_extras(self) -> dict[str, Any]:
        """Return the ranges of the activations in int8."""
        ranges = self.int8.ranges() if self.int8 else None
        return {**super().checkpoint_extras(), **({'int8': ranges} if ranges else {})}

    def state_extras(self) -> dict[str, Any]:
        """Return also the ranges of the activations in int8."""
        return {**super().state_extras(), **({'int8': self.int8.ranges()} if self.int8 else {})}

    def resume_training(self, resume_state: dict[str, Any]) -> None:
        """Restore what was saved."""
        super().resume_training(resume_state)
        if self.int8 and resume_state.get('int8'):
            self.int8.use(resume_state['int8'])
