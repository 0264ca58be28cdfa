"""Attention transfer: the student's features should be strong where the teacher's are."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from basicsr.utils.registry import LOSS_REGISTRY
from torch import Tensor
from torch.nn import functional as F

from kdsr.distillation.distillation_loss import DistillationLoss
from kdsr.distillation.outputs import Batch, NetworkOutput
from kdsr.distillation.precision import at_least_float32
from kdsr.errors import check_choice
from kdsr.losses.feature_pair import pair_features
from kdsr.losses.loss_range import LossRange, check_loss_range, scale_to_range

AttentionMode = Literal['code', 'paper', 'fakd']


def attention_distance(student_feature: Tensor, teacher_feature: Tensor, mode: AttentionMode = 'code') -> Tensor:
    """Return the distance of the attention maps of two features; see :class:`AttentionTransferLoss`.

    Args:
        student_feature: (N, Cs, H, W).
        teacher_feature: (N, Ct, H, W).
        mode: 'code', 'paper' or 'fakd'.

    Returns:
        A 0-dim tensor, of at least single precision.

    Raises:
        UserError: unknown `mode`.
    """
    check_choice('mode', mode, get_args(AttentionMode))
    difference = _attention(student_feature, mode) - _attention(teacher_feature, mode)
    if mode == 'code':
        return difference.square().mean()
    if mode == 'paper':
        return torch.linalg.vector_norm(difference, dim=1).mean()
    return difference.abs().mean()


def _attention(feature: Tensor, mode: AttentionMode) -> Tensor:
    """Return (N, H*W), each row of length 1."""
    squares = at_least_float32(feature).square().flatten(2)
    if mode == 'fakd':
        strength = squares.sum(1)
        return strength / (torch.linalg.vector_norm(strength, dim=1, keepdim=True) + 1e-6)
    return F.normalize(squares.mean(1), dim=1, eps=1e-12)


@LOSS_REGISTRY.register()
class AttentionTransferLoss(DistillationLoss):
    """Distance between the normalised maps of squared activations, summed over the features.

        Q = mean_c F_c^2 as a vector of H*W;   q = Q / ||Q||_2
        L = sum_f mean_n mean_hw (q_S - q_T)^2                  mode 'code', the authors' released code
        L = sum_f mean_n ||q_S - q_T||_2                        mode 'paper', Eq. (2) of [1]; its beta/2 is loss_weight
        L = sum_f mean |q_S - q_T|,  q = Q / (||Q||_2 + 1e-6)   mode 'fakd', the baseline as [2] runs it, with a sum
                                                                over the channels instead of the mean

    Departs from the paper: only by the default `mode`; the loss of the task itself is not included.
    Needs features: any, channels may differ.   Zero when student equals teacher: yes.

    Args:
        mode: 'code', 'paper' or 'fakd'.
        loss_range: 255 (weight for image losses on 0..255) or 1 (255 times smaller), see `kdsr/losses/loss_range.py`.
        loss_weight: Factor on the result; beta = 1000 in the command that comes with the released code.
        features: Names from `distillation.features`; all of them when left out.

    Shape:
        student.features[f]: (N, Cs, H, W), any range; teacher.features[f]: (N, Ct, H, W), same N, H, W; result: ().

    Raises:
        UserError: unknown option value; a feature is not tapped.
        ValueError: a feature differs in N, H or W; the message names it and both shapes.

    References:
        [1] Zagoruyko, Komodakis. Paying More Attention to Attention: Improving the Performance of Convolutional Neural
            Networks via Attention Transfer. ICLR 2017. https://arxiv.org/abs/1612.03928
        [2] He, Dai, Lu, Jiang, Xia. FAKD: Feature-Affinity Based Knowledge Distillation for Efficient Image
            Super-Resolution. ICIP 2020.

    Example:
        >>> import kdsr, torch
        >>> image = torch.zeros(1, 3, 8, 8)
        >>> student = kdsr.NetworkOutput(sr=image, features={'late': torch.eye(4).view(1, 1, 4, 4)})
        >>> teacher = kdsr.NetworkOutput(sr=image, features={'late': torch.ones(1, 2, 4, 4)})
        >>> loss = kdsr.losses.AttentionTransferLoss(mode='paper', loss_range=1, loss_weight=255)
        >>> loss(student, teacher, kdsr.Batch(lq=torch.zeros(1, 3, 4, 4)))  # unit vectors at 60 degrees
        tensor(1.)
    """

    needs_teacher_image = False

    def __init__(
        self,
        mode: AttentionMode = 'code',
        loss_range: LossRange = 255,
        loss_weight: float = 1.0,
        features: list[str] | None = None,
    ) -> None:
        super().__init__(loss_weight, features)
        check_choice('mode', mode, get_args(AttentionMode))
        check_loss_range(loss_range)
        self.mode = mode
        self.loss_range = loss_range

    def distance(self, student: NetworkOutput, teacher: NetworkOutput, batch: Batch) -> Tensor:
        """Return the sum over the features, a 0-dim tensor."""
        total = at_least_float32(student.image.new_zeros(()))
        for pair in self.pairs(student, teacher):
            total = total + attention_distance(*pair_features('AttentionTransferLoss', *pair), self.mode)
        return scale_to_range(total, self.loss_range, image_term=False)
