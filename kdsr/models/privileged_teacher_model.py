"""PISR, stage 1: train a teacher whose input is the image that it has to restore (Lee et al., ECCV 2020)."""

from __future__ import annotations

from collections.abc import Collection

import torch
from basicsr.utils.registry import MODEL_REGISTRY
from torch import Tensor, nn

from kdsr.distillation.building import build_loss_at
from kdsr.distillation.feature_tap import FeatureTap
from kdsr.distillation.outputs import Batch
from kdsr.errors import UserError
from kdsr.experiment import rules
from kdsr.models.student_model import StudentModel

ENCODING = 'encoding'


@MODEL_REGISTRY.register()
class PrivilegedTeacherModel(StudentModel):
    """StudentModel whose network's input is the ground truth, in training and in validation.

        L = mean |Y - Y'| + lambda_T * mean |X - X'|

    Y is the ground truth and Y' the network's image; X is the low-quality image and X' the output of the network's
    module `encoder`. The first term is SRModel's `train.pixel_opt`. The second is `train.imitation_opt`, an image loss
    of BasicSR whose weight is lambda_T (1e-4 in the paper), `l_im` in the log; without it the network may be any that
    keeps the size of its image.
    """

    def init_training_settings(self) -> None:
        """Build the imitation loss, check on one batch that everything fits, then let SRModel build the rest."""
        imitation_opt = self.experiment.training.image_losses.get('imitation_opt')
        network: nn.Module = self.get_bare_model(self.net_g)
        rules.enforce(rules.find_imitation_problems(self.experiment, network))
        self.cri_imitation: nn.Module | None = None
        if imitation_opt is not None:
            self.cri_imitation = build_loss_at('train.imitation_opt', imitation_opt).to(self.device)
        self.tap = FeatureTap(network, {ENCODING: 'encoder'} if self.cri_imitation else {})
        self._dry_run(network)
        super().init_training_settings()

    @torch.no_grad()
    def _dry_run(self, network: nn.Module) -> None:
        """Run the network once, so that shapes which do not fit show before the first iteration."""
        kind, batch = f'network_g: {type(network).__name__}', self.example_batch()
        image = self.network_input(batch)
        network.eval()
        try:
            self.tap.calibrate(lambda: network(image))
            with self.tap as features:
                shapes = [(network(image).shape, image.shape)]
        except RuntimeError as error:
            raise UserError(f'{kind} does not take the ground truth {tuple(image.shape)}: {error}') from None
        if self.cri_imitation:
            shapes.append((features[ENCODING].shape, batch.lq.shape))
        for given, wanted in shapes:
            if given != wanted:
                raise UserError(
                    f'{kind} turns the ground truth {tuple(image.shape)} into {tuple(given)} where {tuple(wanted)} is '
                    f'wanted: make `scale: {self.experiment.scale}`, `network_g.upscale` and the channels agree.'
                )

    def tapped(self) -> Collection[nn.Module]:
        """Return the encoder, where its output is compared."""
        return self.tap.modules

    def loss_terms(self, batch: Batch) -> dict[str, Tensor]:
        """Run the network on the ground truth; return SRModel's own losses, and the imitation loss."""
        with self.tap as features:
            self.output = self.run(self.network_input(batch))
        terms = self.image_terms(self.output, batch.gt)
        if self.cri_imitation:
            terms['l_im'] = self.cri_imitation(features[ENCODING], batch.lq)
        return terms
