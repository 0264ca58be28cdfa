"""Response distillation (KD): the student's image should equal the teacher's."""

from __future__ import annotations

from typing import Literal, get_args

from basicsr.utils.registry import LOSS_REGISTRY
from torch import Tensor

from kdsr.distillation.distillation_loss import DistillationLoss
from kdsr.distillation.outputs import Batch, NetworkOutput
from kdsr.errors import check_choice
from kdsr.losses.image_pair import pair_images

ImageNorm = Literal['l1', 'l2']


@LOSS_REGISTRY.register()
class ResponseLoss(DistillationLoss):
    """Mean difference between the student's and the teacher's image.

        L = mean |S - T|            norm 'l1': teacher supervision of [1], first half of Eq. (1) of [2]
        L = mean (S - T)^2          norm 'l2'

    The other half of the published loss compares with the ground truth; it is BasicSR's `pixel_opt`. Both halves have
    the weight 0.5 in [1] and [2].

    Departs from the paper: no.   Needs features: none.   Zero when student equals teacher: yes.

    Args:
        norm: 'l1' or 'l2'.
        loss_weight: Factor on the result; 0.5 in [1, 2].
        features: Ignored.

    Shape:
        student.sr, teacher.sr: (N, C, H, W), in [0, 1]; result: ().

    Raises:
        UserError: unknown `norm`.
        ValueError: the images differ in shape.

    References:
        [1] He, Dai, Lu, Jiang, Xia. FAKD: Feature-Affinity Based Knowledge Distillation for Efficient Image
            Super-Resolution. ICIP 2020.
        [2] Park, Kwak. Local-Selective Feature Distillation for Single Image Super-Resolution. 2021. Its norm is read
            as a mean over the sample. https://arxiv.org/abs/2111.10988

    Example:
        >>> import kdsr, torch
        >>> student, teacher = (kdsr.NetworkOutput(sr=torch.full((1, 3, 8, 8), grey)) for grey in (0.5, 0.75))
        >>> batch = kdsr.Batch(lq=torch.zeros(1, 3, 4, 4))
        >>> kdsr.losses.ResponseLoss(loss_weight=0.5)(student, teacher, batch)
        tensor(0.1250)
    """

    def __init__(self, norm: ImageNorm = 'l1', loss_weight: float = 1.0, features: list[str] | None = None) -> None:
        super().__init__(loss_weight, features)
        check_choice('norm', norm, get_args(ImageNorm))
        self.norm = norm

    def distance(self, student: NetworkOutput, teacher: NetworkOutput, batch: Batch) -> Tensor:
        """Return the mean over all elements, a 0-dim tensor."""
        image, target = pair_images(student, teacher)
        difference = image - target
        return difference.abs().mean() if self.norm == 'l1' else difference.square().mean()
