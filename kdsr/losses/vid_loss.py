"""VID of PISR: the student's features estimate a distribution; the teacher's features should be likely in it."""

from __future__ import annotations

import math
from typing import Literal, get_args

from basicsr.utils.registry import LOSS_REGISTRY
from torch import Tensor, nn
from torch.nn import functional as F

from kdsr.distillation.adapters import helper_key
from kdsr.distillation.distillation_loss import DistillationLoss
from kdsr.distillation.outputs import Batch, NetworkOutput
from kdsr.distillation.precision import at_least_float32
from kdsr.errors import check_choice
from kdsr.losses.feature_pair import pair_features

Pdf = Literal['laplace', 'gaussian']
VIDForm = Literal['paper', 'official']
Scale = Literal['element', 'channel', 'position', 'layer']
OFFICIAL_FACTOR = {'laplace': 0.1, 'gaussian': 0.001}  # of softplus, in the released code
EPS = 1e-8


def negative_log_likelihood(
    mean: Tensor, raw: Tensor, target: Tensor, pdf: Pdf = 'laplace', form: VIDForm = 'paper'
) -> Tensor:
    """Return the negative log-likelihood of the target, averaged over its elements; see :class:`VIDLoss`.

    Args:
        mean: mu, (N, C, H, W).
        raw: r, whose softplus is the scale; its shape broadcasts to that of `mean`.
        target: (N, C, H, W).
        pdf: 'laplace' or 'gaussian'.
        form: 'paper' or 'official'.

    Returns:
        A 0-dim tensor, of at least single precision.

    Raises:
        UserError: unknown `pdf` or `form`.
    """
    check_choice('pdf', pdf, get_args(Pdf))
    check_choice('form', form, get_args(VIDForm))
    mean, raw, target = at_least_float32(mean), at_least_float32(raw), at_least_float32(target)
    scale = F.softplus(raw) * (OFFICIAL_FACTOR[pdf] if form == 'official' else 1) + EPS
    if pdf == 'laplace':
        distance, spread = (target - mean).abs() / scale, scale.log().mean()
    else:
        distance, spread = (target - mean).square() / (2 * scale), scale.log().mean() / 2
    if form == 'official':
        spread = spread + mean.shape[1] * math.log(2 * math.pi) / 2 + (math.log(2) if pdf == 'laplace' else 0)
    return distance.mean() + spread


class Estimator(nn.Module):
    """Mean and raw scale of a teacher's feature, estimated from the student's.

    Each is conv1x1 C_S -> C_S, PReLU with one slope, conv1x1; 2 x 6,385 parameters for 56 channels and `scale`
    'element'.

    Args:
        in_channels: C_S, of the student's feature.
        out_channels: C_T, of the teacher's.
        scale: One scale per 'element', per 'channel', per 'position' or for the whole 'layer'.

    Shape:
        input: (N, C_S, H, W); output: the mean (N, C_T, H, W) and the raw scale: (N, C_T, H, W) for 'element',
        (N, C_T, 1, 1) for 'channel', (N, 1, H, W) for 'position', (N, 1, 1, 1) for 'layer'.
    """

    def __init__(self, in_channels: int, out_channels: int, scale: Scale = 'element') -> None:
        super().__init__()
        self.mean = _build_branch(in_channels, out_channels)
        self.scale = _build_branch(in_channels, out_channels if scale in ('element', 'channel') else 1)
        self.pooled = scale in ('channel', 'layer')

    def forward(self, feature: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and raw scale."""
        raw = self.scale(feature)
        return self.mean(feature), raw.mean((2, 3), keepdim=True) if self.pooled else raw


def _build_branch(in_channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(in_channels, in_channels, 1), nn.PReLU(), nn.Conv2d(in_channels, out_channels, 1))


@LOSS_REGISTRY.register()
class VIDLoss(DistillationLoss):
    """Negative log-likelihood of the teacher's features, up to constants, summed over the features.

        laplace:   L = sum_f mean( log b + |F_T,f - mu| / b )                       Eq. (10) of [1]
        gaussian:  L = sum_f mean( log(v) / 2 + (F_T,f - mu)^2 / (2 v) )            [2]
        mu, r = estimator_f(F_S,f),   b or v = softplus(r) + 1e-8

    `form` 'official' is that of the released code: b = 0.1 softplus(r) + 1e-8 and v = 0.001 softplus(r) + 1e-8, which
    changes the gradients, and the terms C log(2 pi) / 2 and, with 'laplace', log 2, which do not. The estimators are
    trained together with the student. [1] also compares with mean |F_S - F_T|: FitNetLoss with `regressor` 'none'.

    Departs from the paper: 1e-8 also keeps the scale of 'paper' away from 0. Eq. (10) is for 'laplace' only; the form
    'paper' of 'gaussian' is its counterpart.   Needs features: any.
    Zero when student equals teacher: no.

    Args:
        pdf: 'laplace' or 'gaussian'.
        form: 'paper' or 'official'.
        scale: One scale per 'element' (the paper), per 'channel', per 'position', or for the whole 'layer'.
        loss_weight: Factor on the result; 1e-6 in [1], with an image loss on [0, 1].
        features: Names from `distillation.features`; all of them when left out.

    Shape:
        student.features[f]: (N, Cs, H, W), any range; teacher.features[f]: (N, Ct, H, W), same N, H, W; result: (), of
        either sign.

    Raises:
        UserError: unknown option value; a feature is not tapped.
        ValueError: a feature differs in N, H or W; the message names it and both shapes.

    References:
        [1] Lee, Lee, Kim, Ham. Learning with Privileged Information for Efficient Image Super-Resolution. ECCV 2020.
            https://arxiv.org/abs/2007.07524
        [2] Ahn, Hu, Damianou, Lawrence, Dai. Variational Information Distillation for Knowledge Transfer. CVPR 2019.
            https://arxiv.org/abs/1904.05835

    Example:
        >>> import kdsr, torch
        >>> image = torch.zeros(1, 3, 8, 8)
        >>> student = kdsr.NetworkOutput(sr=image, features={'last': torch.zeros(1, 56, 4, 4)})
        >>> teacher = kdsr.NetworkOutput(sr=image, features={'last': torch.ones(1, 56, 4, 4)})
        >>> loss = kdsr.losses.VIDLoss(loss_weight=1e-6)
        >>> loss.build_helpers(student, teacher)  # an estimator of mean and scale
        >>> sum(p.numel() for p in loss.parameters())
        12770
        >>> loss(student, teacher, kdsr.Batch(lq=torch.zeros(1, 3, 4, 4))).shape
        torch.Size([])
    """

    needs_teacher_image = False

    def __init__(
        self,
        pdf: Pdf = 'laplace',
        form: VIDForm = 'paper',
        scale: Scale = 'element',
        loss_weight: float = 1.0,
        features: list[str] | None = None,
    ) -> None:
        super().__init__(loss_weight, features)
        check_choice('pdf', pdf, get_args(Pdf))
        check_choice('form', form, get_args(VIDForm))
        check_choice('scale', scale, get_args(Scale))
        self.pdf = pdf
        self.form = form
        self.scale = scale
        self.estimators = nn.ModuleDict()

    def build_helpers(self, student: NetworkOutput, teacher: NetworkOutput) -> None:
        """Create one estimator per feature from the channels of a dry run."""
        for name, feature, target in self.pairs(student, teacher):
            pair_features('VIDLoss', name, feature, target)
            estimator = Estimator(feature.shape[1], target.shape[1], self.scale)
            self.estimators[helper_key(name)] = estimator.to(feature.device)

    def distance(self, student: NetworkOutput, teacher: NetworkOutput, batch: Batch) -> Tensor:
        """Return the sum over the features, a 0-dim tensor."""
        total = at_least_float32(student.image.new_zeros(()))
        for name, feature, teacher_feature in self.pairs(student, teacher):
            _, target = pair_features('VIDLoss', name, feature, teacher_feature)
            mean, raw = self.estimators[helper_key(name)](feature)
            total = total + negative_log_likelihood(mean, raw, target, self.pdf, self.form)
        return total
