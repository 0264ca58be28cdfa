"""LFD and LSFD: deeply regressed features copy the teacher's, LSFD above all where the student's image is wrong."""

from __future__ import annotations

import torch
from basicsr.utils.registry import LOSS_REGISTRY
from torch import Tensor
from torch.nn import functional as F

from kdsr.distillation.distillation_loss import DistillationLoss
from kdsr.distillation.outputs import Batch, NetworkOutput
from kdsr.distillation.precision import at_least_float32
from kdsr.errors import check_choice
from kdsr.losses.feature_pair import FeatureRegressors, of_unit_length
from kdsr.losses.image_pair import image_pair
from kdsr.losses.loss_range import check_loss_range, in_loss_range

FEATURE_NORMS = ('l2_flat', 'l2_channel', 'none')
REDUCTIONS = ('mean', 'sum_per_sample')


def feature_difference(ours: Tensor, theirs: Tensor, feature_norm: str = 'l2_flat') -> Tensor:
    """Return the difference map D of two features, (N, C, H, W); see :class:`LSFDLoss`.

    Args:
        ours: (N, C, H, W), already regressed.
        theirs: Same shape.
        feature_norm: 'l2_flat', 'l2_channel' or 'none'.

    Raises:
        ValueError: unknown `feature_norm`.
    """
    check_choice('feature_norm', feature_norm, FEATURE_NORMS)
    ours, theirs = at_least_float32(ours), at_least_float32(theirs)
    if feature_norm != 'none':
        dims = (1, 2, 3) if feature_norm == 'l2_flat' else (1,)
        ours, theirs = of_unit_length(ours, dims), of_unit_length(theirs, dims)
    return (ours - theirs).abs()


def selective_map(image: Tensor, target: Tensor, size: torch.Size) -> Tensor:
    """Return the attention map M, (N, 1, *size): |T - S| summed over the channels and averaged over each feature pixel.

    Args:
        image: The student's, (N, C, H, W).
        target: The teacher's, same shape.
        size: Height and width of the feature.

    Raises:
        ValueError: the image is not the same whole number of times as large as the feature in both directions.
    """
    kernel = image.shape[-1] // size[-1]
    if kernel < 1 or tuple(image.shape[-2:]) != (kernel * size[-2], kernel * size[-1]):
        raise ValueError(
            f'The map of an image of {tuple(image.shape[-2:])} does not fit features of {tuple(size)}: its sides must '
            "be the same whole number of times as long as the feature's. Tap another layer, or use `selective: false`."
        )
    return F.avg_pool2d((target - image).abs().sum(1, keepdim=True), kernel)


@LOSS_REGISTRY.register()
class LSFDLoss(DistillationLoss):
    """Distance between normalised features, the student's through a deep regressor, summed over the features.

        D_f = | r_f(F_S,f) / ||r_f(F_S,f)||_2 - F_T,f / ||F_T,f||_2 |           (N, C_T, h, w)
        L = alpha2 * sum_f mean(M * D_f)                        selective, Eq. (4) of [1]
        L = alpha1 * sum_f mean(D_f)                            not selective: LFD, Eq. (2)
        M = avgpool_S( sum_rgb |T - S| )                        the map of Eq. (3), one for all channels
        r_f: five 3x3 convolutions C_S -> C_T -> ... -> C_T with PReLU between them

    The published total adds (mean |S - G| + mean |S - T|) / 2: `pixel_opt` and ResponseLoss with a weight of 0.5 each,
    times 255 beside `loss_range` 255.

    Departs from the paper: Eq. (2) is missing from its text and the regressor is only called deep, so D, the norm, the
    regressor's layers and the gradient of M are readings, each an option.   Needs features: any; `selective` needs
    them a whole number of times smaller than the image.
    Zero when student equals teacher: with `selective`, whose map vanishes, or with `regressor` 'none'.

    Args:
        selective: true for LSFD, false for LFD.
        alpha1: Weight of LFD.
        alpha2: Weight of LSFD.
        alpha1_inside_D: Let alpha1 be a part of D, and so of LSFD too.
        feature_norm: 'l2_flat' (over a sample's channels and positions together), 'l2_channel' (over the channels, at
            each position) or 'none'.
        detach_attention: No gradient through M.
        reduction: 'mean', or 'sum_per_sample' (sum over a sample, mean over the samples).
        regressor: 'deep', or 'none' to compare the features as they are, which needs equal channels.
        kernel_size: Of the regressor, odd.
        num_layers: Of the regressor.
        act: Between the regressor's layers: 'prelu', 'relu', 'lrelu' or 'none'.
        act_last: Put an activation after the regressor's last layer too.
        narrow: Keep the student's width up to the last layer, which costs far less where C_T is larger.
        loss_range: 255 or 1: as on images in 0..255, or everything 255 times smaller, see `kdsr/losses/loss_range.py`.
        loss_weight: Factor on the result.
        features: Names from `distillation.features`; all of them when left out.

    Shape:
        student.features[f]: (N, Cs, h, w), any range; teacher.features[f]: (N, Ct, h, w), same N, h, w;
        student.sr, teacher.sr: (N, C, S*h, S*w), in [0, 1], for `selective`; result: ().

    Raises:
        ValueError: an unknown option value; a feature's sizes differ, or its channels with `regressor` 'none' (the
            message names the feature and both shapes); image and feature sizes that do not fit.

    References:
        [1] Park, Kwak. Local-Selective Feature Distillation for Single Image Super-Resolution. 2021.
            https://arxiv.org/abs/2111.10988
    """

    def __init__(
        self,
        selective: bool = True,
        alpha1: float = 2000.0,
        alpha2: float = 10.0,
        alpha1_inside_D: bool = False,  # noqa: N803 - the paper's name
        feature_norm: str = 'l2_flat',
        detach_attention: bool = True,
        reduction: str = 'mean',
        regressor: str = 'deep',
        kernel_size: int = 3,
        num_layers: int = 5,
        act: str = 'prelu',
        act_last: bool = False,
        narrow: bool = False,
        loss_range: int = 255,
        loss_weight: float = 1.0,
        features: list[str] | None = None,
    ) -> None:
        super().__init__(loss_weight, features)
        check_choice('feature_norm', feature_norm, FEATURE_NORMS)
        check_choice('reduction', reduction, REDUCTIONS)
        check_loss_range(loss_range)
        self.selective = selective
        self.weight = alpha2 * (alpha1 if alpha1_inside_D else 1) if selective else alpha1
        self.feature_norm = feature_norm
        self.detach_attention = detach_attention
        self.reduction = reduction
        self.loss_range = loss_range
        self.needs_teacher_image = selective
        self.regressors = FeatureRegressors(regressor, kernel_size, num_layers, act, act_last, narrow)

    def build_helpers(self, student: NetworkOutput, teacher: NetworkOutput) -> None:
        """Create one regressor per feature from the channels of a dry run."""
        self.regressors.build('LSFDLoss', self.pairs(student, teacher))

    def distance(self, student: NetworkOutput, teacher: NetworkOutput, batch: Batch) -> Tensor:
        """Return the sum over the features, a 0-dim tensor."""
        if self.selective:
            image, target = image_pair(student, teacher)
            image = image.detach() if self.detach_attention else image
        total = at_least_float32(student.image.new_zeros(()))
        maps: dict[torch.Size, Tensor] = {}
        for name, ours, theirs in self.pairs(student, teacher):
            difference = feature_difference(*self.regressors.pair('LSFDLoss', name, ours, theirs), self.feature_norm)
            if self.selective:
                size = difference.shape[-2:]
                if size not in maps:
                    maps[size] = selective_map(image, target, size)
                difference = maps[size] * difference
            total = total + (difference.mean() if self.reduction == 'mean' else difference.sum() / len(difference))
        return in_loss_range(self.weight * total, self.loss_range, image_term=self.selective)
