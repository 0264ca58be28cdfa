"""A student alone: BasicSR's SRModel, in colour or on luminance, and the base of kdsr's other models."""

from __future__ import annotations

from basicsr.utils.registry import MODEL_REGISTRY

from kdsr.models.step import SteppingModel


@MODEL_REGISTRY.register()
class StudentModel(SteppingModel):
    """BasicSR's SRModel with the same files, logs and losses, and what small networks need besides.

    `color: y` trains a network of one channel on the luminance of RGB images, and writes colour images when it
    validates. Batches may be uint8. Validation takes images of any size (padded to the network's window; with
    `val.quadrants` in four parts), and its metrics do not hold up the network. Files are written whole or not at all.

    What makes a step faster or smaller is off unless `train` asks for it, and then the step is SRModel's, bit by bit:
    `amp` and `channels_last` for the network (losses, weights and validation stay in single precision), `compile`,
    `accumulate`, and `clip_grad_norm`.

    Its concerns stand in files of their own, each a class on top of the one before: `student_pass.py` (the network in
    training), `saving.py` (checkpoints and states), `validated.py` (images in, whole images out), `step.py` (the
    training step, with `number_guard.py`). Subclasses override `loss_terms`, and `checkpoint_extras` to save more. The
    network's input stands in the table of model classes (:mod:`kdsr.options.model_classes`).
    """
