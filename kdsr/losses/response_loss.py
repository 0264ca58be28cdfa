"""Response distillation: the student copies the teacher's image."""

from __future__ import annotations

from basicsr.utils.registry import LOSS_REGISTRY
from torch import Tensor

from kdsr.distillation.distillation_loss import DistillationLoss
from kdsr.distillation.outputs import Batch, NetworkOutput
from kdsr.errors import check_choice
from kdsr.losses.image_pair import image_pair


@LOSS_REGISTRY.register()
class ResponseLoss(DistillationLoss):
    """Mean difference between the student's and the teacher's image.

        L = mean |S - T|            norm 'l1': teacher supervision of [1], first half of Eq. (1) of [2]
        L = mean (S - T)^2          norm 'l2'

    The other half of the published loss, the ground truth's, is BasicSR's `pixel_opt`. Both halves weigh 0.5 in [1]
    and [2].

    Departs from the paper: no.   Needs features: none.   Zero when student equals teacher: yes.

    Args:
        norm: 'l1' or 'l2'.
        loss_weight: Factor on the result; 0.5 in [1, 2].
        features: Ignored.

    Shape:
        student.sr, teacher.sr: (N, C, H, W), in [0, 1]; result: ().

    Raises:
        ValueError: unknown `norm`, or the images differ in shape.

    References:
        [1] He, Dai, Lu, Jiang, Xia. FAKD: Feature-Affinity Based Knowledge Distillation for Efficient Image
            Super-Resolution. ICIP 2020.
        [2] Park, Kwak. Local-Selective Feature Distillation for Single Image Super-Resolution. 2021. Its norm is read
            as a mean over the sample. https://arxiv.org/abs/2111.10988
    """

    def __init__(self, norm: str = 'l1', loss_weight: float = 1.0, features: list[str] | None = None) -> None:
        super().__init__(loss_weight, features)
        check_choice('norm', norm, ('l1', 'l2'))
        self.norm = norm

    def distance(self, student: NetworkOutput, teacher: NetworkOutput, batch: Batch) -> Tensor:
        """Return the mean over all elements, a 0-dim tensor."""
        image, target = image_pair(student, teacher)
        difference = image - target
        return difference.abs().mean() if self.norm == 'l1' else difference.square().mean()
