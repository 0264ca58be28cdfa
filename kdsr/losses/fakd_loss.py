"""FAKD: the affinity matrices of the student's features should equal the teacher's."""

from __future__ import annotations

from typing import Any, Literal, get_args

import torch
from basicsr.utils import get_root_logger
from basicsr.utils.registry import LOSS_REGISTRY
from torch import Tensor
from torch.autograd.function import once_differentiable

from kdsr.distillation.distillation_loss import DistillationLoss
from kdsr.distillation.outputs import Batch, NetworkOutput
from kdsr.distillation.precision import at_least_float32
from kdsr.errors import UserError, check_choice
from kdsr.losses.feature_pair import pair_features
from kdsr.losses.image_pair import pair_images
from kdsr.losses.loss_range import PUBLISHED_PEAK, LossRange, check_loss_range, scale_to_range
from kdsr.losses.lsfd_loss import selective_map

Affinity = Literal['spatial', 'channel', 'instance']
Selective = Literal['none', 'features', 'normalised']
BLOCK = 192
EPS = 1e-8
LARGEST = 128 * 128  # positions; such a feature takes 50 times as long as a 48x48 one


def affinity_distance(
    student_feature: Tensor,
    teacher_feature: Tensor,
    affinity: Affinity = 'spatial',
    block: int = BLOCK,
    attention: Tensor | None = None,
) -> Tensor:
    """Return the mean L1 distance of the affinity matrices of two features; see :class:`FAKDLoss`.

    Args:
        student_feature: (N, Cs, H, W).
        teacher_feature: (N, Ct, H, W), without gradient; Ct = Cs for affinity 'channel'.
        affinity: 'spatial', 'channel' or 'instance'.
        block: Rows of the affinity matrix that exist at a time.
        attention: (N, 1, H, W), without gradient: multiplies the positions of both normalised features. Ignored for
            'instance', which does not normalise positions.

    Returns:
        A 0-dim tensor, of at least single precision.

    Raises:
        UserError: unknown `affinity`.
    """
    check_choice('affinity', affinity, get_args(Affinity))
    with torch.autocast(student_feature.device.type, enabled=False):
        x, y = (at_least_float32(feature).flatten(2) for feature in (student_feature, teacher_feature))
        if affinity == 'instance':
            return (_instance_affinity(x) - _instance_affinity(y)).abs().mean()
        if affinity == 'channel':
            x, y = x.transpose(1, 2), y.transpose(1, 2)
        weight = None if attention is None else attention.flatten(2)
        if weight is not None and affinity == 'channel':
            weight = weight.mT
        return _AffinityDistance.apply(x, y, weight, block)


def _instance_affinity(feature: Tensor) -> Tensor:
    rows = feature.flatten(1)
    gram = rows @ rows.T
    return gram / (torch.linalg.vector_norm(gram, dim=1, keepdim=True) + EPS)


class _AffinityDistance(torch.autograd.Function):
    """mean |U'U - V'V|, U and V being X (N, C, P) and Y (N, D, P) with unit columns; dL/dU = 2 U sign(U'U - V'V) / NPP.

    A `weight`, (N, 1, P) or (N, C, 1), multiplies U and V.

    The forward pass computes one row block of the P x P matrices at a time, adds its part of the sum and of the
    gradient, and discards it. The matrices are symmetric: only the part of a row block from the diagonal on is
    computed, and it counts twice. On a CPU the samples are processed one by one, so that a row block stays in the
    cache. Only the gradient of X is kept for the backward pass.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, weight: Tensor | None, block: int) -> Tensor:
        gradient = torch.empty_like(x)
        total = x.new_zeros((), dtype=torch.float64)
        group = 1 if x.device.type == 'cpu' else len(x)
        for first in range(0, len(x), group):
            samples = slice(first, first + group)
            (unit, length), (theirs, _) = _normalise_columns(x[samples]), _normalise_columns(y[samples])
            factor = 1 if weight is None else weight[samples]
            ours, theirs = unit * factor, theirs * factor
            part = torch.zeros_like(ours)
            for row in range(0, x.shape[2], block):
                total += _add_row_block(ours, theirs, row, block, part)
            gradient[samples] = _backpropagate_unit_columns(part * factor, unit, length)
        scale = 1 / (len(x) * x.shape[2] ** 2)
        ctx.scale = 2 * scale
        ctx.save_for_backward(gradient)
        return (total * scale).to(x.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = ctx.saved_tensors
        return gradient * (gradients[0] * ctx.scale), None, None, None


def _normalise_columns(matrix: Tensor) -> tuple[Tensor, Tensor]:
    length = torch.linalg.vector_norm(matrix, dim=1, keepdim=True)
    return matrix / (length + EPS), length


def _backpropagate_unit_columns(gradient: Tensor, unit: Tensor, length: Tensor) -> Tensor:
    """Turn the gradient of the unit columns into the gradient of the matrix; zero columns keep a finite gradient."""
    along = (unit * gradient).sum(1, keepdim=True) / length.clamp_min(EPS**2)
    return gradient / (length + EPS) - unit * along


def _add_row_block(x: Tensor, y: Tensor, row: int, block: int, gradient: Tensor) -> Tensor:
    """Return the sum of |X'X - Y'Y| over one row block and its mirror image; add X sign(X'X - Y'Y) to `gradient`."""
    end = row + block
    difference = torch.bmm(x[..., row:end].mT, x[..., row:])
    difference -= torch.bmm(y[..., row:end].mT, y[..., row:])  # not baddbmm: equal features must give exactly 0
    size = difference.abs()
    rows = 2 * size.sum(-1) - size[..., :block].sum(-1)  # the diagonal part contains its own mirror image
    total = rows.sum(dtype=torch.float64)  # row by row, because one float32 sum of all loses digits
    difference.sign_()
    gradient[..., row:end].baddbmm_(x[..., row:], difference.mT)
    gradient[..., end:].baddbmm_(x[..., row:end], difference[..., block:])
    return total


def describe_spatial_cost(name: str, student_feature: Tensor, teacher_feature: Tensor) -> str:
    """Return the cost of the spatial affinity of one feature, forward and backward, as text for the log.

    Args:
        name: Of the feature.
        student_feature: (N, Cs, H, W).
        teacher_feature: (N, Ct, H, W).

    Raises:
        UserError: the feature has more than 128x128 positions.
    """
    height, width = student_feature.shape[-2:]
    positions, channels = height * width, student_feature.shape[1]
    floating_point = positions**2 * (3 * channels + teacher_feature.shape[1])
    kept, working = 4 * positions * channels, 4 * positions * (4 * channels + teacher_feature.shape[1] + 2 * BLOCK)
    cost = f'{name!r}, {height}x{width}: {floating_point / 1e9:.1f} GFLOP a sample'
    if positions > LARGEST:
        raise UserError(
            f'FAKDLoss compares every position of a feature with every other, which is too much for {cost}. At most '
            f'{LARGEST} positions (128x128) are possible: tap a layer before the upsampler, or make '
            '`datasets.train.gt_size` smaller.'
        )
    return f'{cost}, {kept / 1e6:.1f} MB a sample kept and {working / 1e6:.0f} MB of working memory'


@LOSS_REGISTRY.register()
class FAKDLoss(DistillationLoss):
    """L1 between the affinity matrices of the student's and the teacher's features, summed over the features.

        X = F as (C, H*W), every column divided by (its L2 norm + 1e-8);   A = X^T X, (H*W, H*W)
        L = sum_f mean |A_S - A_T|                    affinity 'spatial', L_SA of [1]
        X's rows divided by (their L2 norm + 1e-8);   A = X X^T, (C, C)          affinity 'channel'
        G = the N x N inner products of the samples' features;  A = G's rows divided by their norm    'instance'

    Only one row block of the spatial matrices exists at a time. Per feature the loss keeps a gradient of the student's
    size, N*H*W*Cs numbers, and needs H*W*(4*Cs + Ct + 2*192) more to work (8 MB at 48x48, Cs 64, Ct 256; on a GPU times
    N). Time grows with (H*W)^2: the cost is logged before the first iteration, and features above 128x128 are refused.

    With `selective`, LSFD's map M on 0..255 [2] multiplies every position of both features: F for 'features', X for
    'normalised'. In the spatial affinity M cancels in X, so 'features' equals FAKD itself; 'normalised' turns A into
    M_i M_j A_ij. [2] reports that M on FAKD's input features does not help, and does not say which of the two it means.

    Departs from the paper: no; [1] trains with 'spatial', the other two are in the authors' released code.
    Needs features: any, channels may differ except for 'channel'; with `selective` the image must be a whole number of
    times as large.     Zero when student equals teacher: yes.

    Args:
        affinity: 'spatial', 'channel' or 'instance'. The last compares the samples of a batch; each process compares
            its own batch.
        selective: 'none', 'features' or 'normalised' (the same as 'features' for 'instance').
        loss_range: 255 (weight for image losses on 0..255) or 1 (255 times smaller), see `kdsr/losses/loss_range.py`.
        loss_weight: Factor on the result; 10 in [1].
        features: Names from `distillation.features`; all of them when left out.

    Shape:
        student.features[f]: (N, Cs, H, W), any range; teacher.features[f]: (N, Ct, H, W), same N, H, W;
        student.sr, teacher.sr: (N, C, S*H, S*W), in [0, 1], for `selective`; result: ().

    Raises:
        UserError: unknown option value; a feature is not tapped, or too large for 'spatial'.
        ValueError: a feature differs in N, H or W, or in its channels with 'channel' (the message names it and both
            shapes); with `selective`, image and feature sizes that do not fit.

    References:
        [1] He, Dai, Lu, Jiang, Xia. FAKD: Feature-Affinity Based Knowledge Distillation for Efficient Image
            Super-Resolution. ICIP 2020.
        [2] Park, Kwak. Local-Selective Feature Distillation for Single Image Super-Resolution. 2021.
            https://arxiv.org/abs/2111.10988

    Example:
        >>> import kdsr, torch
        >>> image = torch.zeros(1, 3, 8, 8)
        >>> student = kdsr.NetworkOutput(sr=image, features={'late': torch.eye(4).view(1, 4, 2, 2)})
        >>> teacher = kdsr.NetworkOutput(sr=image, features={'late': torch.ones(1, 8, 2, 2)})
        >>> loss = kdsr.losses.FAKDLoss(loss_range=1, loss_weight=255)
        >>> loss(student, teacher, kdsr.Batch(lq=torch.zeros(1, 3, 4, 4)))  # identity against ones: 12 of 16 differ
        tensor(0.7500)
    """

    def __init__(
        self,
        affinity: Affinity = 'spatial',
        selective: Selective = 'none',
        loss_range: LossRange = 255,
        loss_weight: float = 1.0,
        features: list[str] | None = None,
    ) -> None:
        super().__init__(loss_weight, features)
        check_choice('affinity', affinity, get_args(Affinity))
        check_choice('selective', selective, get_args(Selective))
        check_loss_range(loss_range)
        self.affinity = affinity
        self.selective = selective
        self.needs_teacher_image = selective != 'none'
        self.loss_range = loss_range

    def build_helpers(self, student: NetworkOutput, teacher: NetworkOutput) -> None:
        """Log the cost of the spatial affinities and refuse features that are too large; there are no helpers."""
        if self.affinity == 'spatial':
            costs = [describe_spatial_cost(*pair) for pair in self.pairs(student, teacher)]
            get_root_logger().info(f'FAKDLoss: {"; ".join(costs)}.')

    def distance(self, student: NetworkOutput, teacher: NetworkOutput, batch: Batch) -> Tensor:
        """Return the sum over the features, a 0-dim tensor."""
        total = at_least_float32(student.image.new_zeros(()))
        equal = '`affinity: channel`' if self.affinity == 'channel' else ''
        for pair in self.pairs(student, teacher):
            feature, target = pair_features('FAKDLoss', *pair, equal_channels=equal)
            attention = None if self.selective == 'none' else _make_map(student, teacher, feature.shape[-2:])
            if attention is not None and (self.selective == 'features' or self.affinity == 'instance'):
                feature, target, attention = feature * attention, target * attention, None
            total = total + affinity_distance(feature, target, self.affinity, attention=attention)
        return scale_to_range(total, self.loss_range, image_term=False)


def _make_map(student: NetworkOutput, teacher: NetworkOutput, size: torch.Size) -> Tensor:
    """Return LSFD's map for images in 0..255."""
    image, target = pair_images(student, teacher)
    return PUBLISHED_PEAK * selective_map(image.detach(), target, size)
