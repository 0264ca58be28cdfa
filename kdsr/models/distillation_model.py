"""A student that learns from frozen teachers, beside what BasicSR's SRModel already teaches it."""

from __future__ import annotations

from typing import Any

from basicsr.utils.registry import MODEL_REGISTRY
from torch import Tensor

from kdsr.distillation.outputs import Batch
from kdsr.models.distilling import Distilling
from kdsr.models.student_model import StudentModel


@MODEL_REGISTRY.register()
class DistillationModel(Distilling, StudentModel):
    """BasicSR's SRModel plus the `distillation:` block: teachers, tapped features, distillation losses.

    The student is `network_g`; its checkpoints hold nothing else and load wherever BasicSR's do. Trainable helpers of
    the losses (regressors, estimators) share the student's optimiser and are saved as `net_distill_<iter>.pth`. The
    `views` of the block are extra batches of the same step.
    With `cache` the training set delivers the teachers' images, computed before, and no teacher is loaded. Of a
    privileged teacher whose features are compared, only the decoder is loaded.
    `train.pixel_opt` may be left out when the image term stands among the distillation losses. `init_from` starts the
    student with the weights of a part of a teacher (PISR); then there need be no losses, and the teacher does not run.
    """

    def build_rest_of_model(self) -> None:
        """Let SRModel build EMA, image losses, optimiser and schedulers.

        It refuses options without an image loss. Where distillation losses are all there is, it reads a copy of the
        options with such a loss, which is then dropped.
        """
        own: dict[str, Any] = self.opt
        if not self.experiment.training.has_image_loss:
            self.opt = {**own, 'train': {**own['train'], 'pixel_opt': {'type': 'L1Loss'}}}
        try:
            super().build_rest_of_model()
        finally:
            self.opt = own
        if not self.experiment.training.has_image_loss:
            self.cri_pix = None

    def loss_terms(self, batch: Batch) -> dict[str, Tensor]:
        """Run teachers and student on a batch; return SRModel's own losses and those of `distillation.losses`."""
        terms = self.own_terms(batch)
        if self.opt['dist']:  # DDP waits for every parameter, also for those behind the last tap of a feature loss
            first = next(iter(terms))
            terms[first] = terms[first] + 0 * self.output.mean()
        return terms

    def save_networks(self, label: int | str) -> None:
        """Save the helpers, then the student."""
        self.save_helpers(label)
        super().save_networks(label)
