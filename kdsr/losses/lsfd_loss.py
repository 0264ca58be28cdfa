"""LFD and LSFD: regressed features should equal the teacher's; LSFD weighs positions by the image difference."""

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
from kdsr.losses.feature_pair import Activation, FeatureRegressors, RegressorKind, normalise
from kdsr.losses.image_pair import pair_images
from kdsr.losses.loss_range import LossRange, check_loss_range, scale_to_range

FeatureNorm = Literal['l2_flat', 'l2_channel', 'l2_spatial', 'none']
Reduction = Literal['mean', 'sum_per_sample']
FEATURE_NORMS: tuple[FeatureNorm, ...] = get_args(FeatureNorm)
REDUCTIONS: tuple[Reduction, ...] = get_args(Reduction)
_NORMALISED = {'l2_flat': (1, 2, 3), 'l2_channel': (1,), 'l2_spatial': (2, 3)}  # the axes of one length


def feature_difference(regressed: Tensor, target: Tensor, feature_norm: FeatureNorm = 'l2_flat') -> Tensor:
    """Return the difference map D of two features; see :class:`LSFDLoss`.

    Args:
        regressed: The student's, after the regressor, (N, C, H, W).
        target: The teacher's, same shape.
        feature_norm: 'l2_flat', 'l2_channel', 'l2_spatial' or 'none'.

    Returns:
        (N, C, H, W), of at least single precision.

    Raises:
        UserError: unknown `feature_norm`.
    """
    check_choice('feature_norm', feature_norm, FEATURE_NORMS)
    regressed, target = at_least_float32(regressed), at_least_float32(target)
    if feature_norm != 'none':
        dims = _NORMALISED[feature_norm]
        regressed, target = normalise(regressed, dims), normalise(target, dims)
    return (regressed - target).abs()


def selective_map(image: Tensor, target: Tensor, size: torch.Size) -> Tensor:
    """Return the attention map M: |T - S| summed over the channels and averaged over the area of each feature pixel.

    Args:
        image: The student's, (N, C, H, W).
        target: The teacher's, same shape.
        size: Height and width of the feature.

    Returns:
        (N, 1, *size), in the range of the images.

    Raises:
        ValueError: height and width of the image are not the same whole multiple of the feature's.
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
    """Distance between normalised features after a deep regressor, summed over the features.

        D_f = | r_f(F_S,f) / ||r_f(F_S,f)||_2 - F_T,f / ||F_T,f||_2 |           (N, C_T, h, w)
        L = alpha2 * sum_f mean(M * D_f)                        selective, Eq. (4) of [1]
        L = alpha1 * sum_f mean(D_f)                            not selective: LFD, Eq. (2)
        M = avgpool_S( sum_rgb |T - S| )                        the map of Eq. (3), one for all channels
        r_f: five 3x3 convolutions C_S -> C_T -> ... -> C_T with PReLU between them

    The published total adds (mean |S - G| + mean |S - T|) / 2: `pixel_opt` and ResponseLoss with the weight 0.5 each,
    times 255 beside `loss_range` 255.

    Departs from the paper: Eq. (2) is missing from its text, and it calls the regressor only deep. So D, the norm, the
    regressor's layers and the gradient of M are readings, each an option.   Needs features: any; for `selective` the
    image must be a whole number of times as large.
    Zero when student equals teacher: with `selective`, because M is 0 then, or with `regressor` 'none'.

    Args:
        selective: true for LSFD, false for LFD.
        alpha1: Weight of LFD.
        alpha2: Weight of LSFD.
        alpha1_inside_D: Multiply D by alpha1, so that LSFD has both factors.
        feature_norm: 'l2_flat' (over a sample's channels and positions together), 'l2_channel' (over the channels, at
            each position), 'l2_spatial' (over the positions, in each channel) or 'none'.
        detach_attention: No gradient flows through M.
        reduction: 'mean', or 'sum_per_sample' (sum over a sample, mean over the samples).
        regressor: 'deep', or 'none' to compare the features themselves, which needs equal channels.
        kernel_size: Of the regressor, odd.
        num_layers: Of the regressor.
        act: Between the regressor's layers: 'prelu', 'relu', 'lrelu' or 'none'.
        act_last: Add an activation after the regressor's last layer.
        narrow: Keep the student's width up to the last layer, which costs far less if C_T is larger.
        loss_range: 255 (value for images in 0..255) or 1 (255 times smaller), see `kdsr/losses/loss_range.py`.
        loss_weight: Factor on the result.
        features: Names from `distillation.features`; all of them when left out.

    Shape:
        student.features[f]: (N, Cs, h, w), any range; teacher.features[f]: (N, Ct, h, w), same N, h, w;
        student.sr, teacher.sr: (N, C, S*h, S*w), in [0, 1], for `selective`; result: ().

    Raises:
        UserError: unknown option value; a feature is not tapped.
        ValueError: a feature differs in N, h or w, or in its channels with `regressor` 'none' (the message names it
            and both shapes); image and feature sizes that do not fit.

    References:
        [1] Park, Kwak. Local-Selective Feature Distillation for Single Image Super-Resolution. 2021.
            https://arxiv.org/abs/2111.10988

    Example:
        >>> import kdsr, torch
        >>> images = torch.full((1, 3, 4, 4), 0.5), torch.full((1, 3, 4, 4), 0.6)
        >>> features = torch.tensor([3.0, 4.0, 0.0, 0.0]), torch.tensor([4.0, 3.0, 0.0, 0.0])
        >>> student, teacher = (
        ...     kdsr.NetworkOutput(sr=image, features={'late': feature.view(1, 1, 2, 2)})
        ...     for image, feature in zip(images, features)
        ... )
        >>> loss = kdsr.losses.LSFDLoss(regressor='none', loss_range=1)
        >>> loss(student, teacher, kdsr.Batch(lq=torch.zeros(1, 3, 2, 2)))  # 10 * mean(0.3 * (0.2, 0.2, 0, 0))
        tensor(0.3000)
    """

    def __init__(
        self,
        selective: bool = True,
        alpha1: float = 2000.0,
        alpha2: float = 10.0,
        alpha1_inside_D: bool = False,  # noqa: N803 - the paper's name
        feature_norm: FeatureNorm = 'l2_flat',
        detach_attention: bool = True,
        reduction: Reduction = 'mean',
        regressor: RegressorKind = 'deep',
        kernel_size: int = 3,
        num_layers: int = 5,
        act: Activation = 'prelu',
        act_last: bool = False,
        narrow: bool = False,
        loss_range: LossRange = 255,
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
        self.regressors = FeatureRegressors(
            kind=regressor, kernel_size=kernel_size, num_layers=num_layers, act=act, act_last=act_last, narrow=narrow
        )

    def build_helpers(self, student: NetworkOutput, teacher: NetworkOutput) -> None:
        """Create one regressor per feature from the channels of a dry run."""
        self.regressors.build('LSFDLoss', self.pairs(student, teacher))

    def distance(self, student: NetworkOutput, teacher: NetworkOutput, batch: Batch) -> Tensor:
        """Return the sum over the features, a 0-dim tensor."""
        if self.selective:
            image, target = pair_images(student, teacher)
            image = image.detach() if self.detach_attention else image
        total = at_least_float32(student.image.new_zeros(()))
        maps: dict[torch.Size, Tensor] = {}
        for pair in self.pairs(student, teacher):
            difference = feature_difference(*self.regressors.regress_pair('LSFDLoss', *pair), self.feature_norm)
            if self.selective:
                size = difference.shape[-2:]
                if size not in maps:
                    maps[size] = selective_map(image, target, size)
                difference = maps[size] * difference
            total = total + (difference.mean() if self.reduction == 'mean' else difference.sum() / len(difference))
        return scale_to_range(self.weight * total, self.loss_range, image_term=self.selective)
