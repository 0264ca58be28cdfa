"""Image distillation in the frequency domain of the cosine transform (MTKD, ablation v6)."""

from __future__ import annotations

from typing import Literal

from basicsr.utils.registry import LOSS_REGISTRY
from torch import Tensor

from kdsr.distillation.dct import DCT_NORMS, dct2
from kdsr.distillation.distillation_loss import DistillationLoss
from kdsr.distillation.outputs import Batch, NetworkOutput
from kdsr.errors import check_choice
from kdsr.losses.image_pair import pair_images


@LOSS_REGISTRY.register()
class DCTLoss(DistillationLoss):
    """L1 between the cosine spectra of the student's and the teacher's image, per channel over the whole image.

        L = mean |DCT2(S) - DCT2(T)|          [1], ablation v6

    The transform is linear, so only the difference is transformed.

    Departs from the paper: it does not state the scale of the transform; the authors' build was unnormalised ('none').
    Needs features: none.   Zero when student equals teacher: yes.

    Args:
        norm: 'ortho' (the loss has the size of a pixel L1) or 'none' (a factor of 2 per axis).
        loss_weight: Factor on the result.
        features: Ignored.

    Shape:
        student.sr, teacher.sr: (N, C, H, W), in [0, 1]; result: ().

    Raises:
        UserError: unknown `norm`.
        ValueError: the images differ in shape.

    References:
        [1] Jiang, Feng, Zhang, Bull. MTKD: Multi-Teacher Knowledge Distillation for Image Super-Resolution. ECCV 2024.
            https://arxiv.org/abs/2404.09571

    Example:
        >>> import kdsr, torch
        >>> student, teacher = (kdsr.NetworkOutput(sr=torch.full((1, 3, 8, 8), grey)) for grey in (0.5, 0.9))
        >>> loss = kdsr.losses.DCTLoss()
        >>> loss(student, teacher, kdsr.Batch(lq=torch.zeros(1, 3, 4, 4)))  # one coefficient of 64 is not 0: 3.2 / 64
        tensor(0.0500)
    """

    def __init__(
        self, norm: Literal['ortho', 'none'] = 'ortho', loss_weight: float = 1.0, features: list[str] | None = None
    ) -> None:
        super().__init__(loss_weight, features)
        check_choice('norm', norm, DCT_NORMS)
        self.norm = norm

    def distance(self, student: NetworkOutput, teacher: NetworkOutput, batch: Batch) -> Tensor:
        """Return the mean over all coefficients, a 0-dim tensor."""
        image, target = pair_images(student, teacher)
        return dct2(image - target, self.norm).abs().mean()
