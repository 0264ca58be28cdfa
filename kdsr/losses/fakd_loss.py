"""FAKD: the student's features relate to each other as the teacher's do."""

from __future__ import annotations

from typing import Any

import torch
from basicsr.utils import get_root_logger
from basicsr.utils.registry import LOSS_REGISTRY
from torch import Tensor
from torch.autograd.function import once_differentiable

from kdsr.distillation.distillation_loss import DistillationLoss
from kdsr.distillation.outputs import Batch, NetworkOutput
from kdsr.distillation.precision import at_least_float32
from kdsr.errors import UserError, check_choice
from kdsr.losses.feature_pair import feature_pair
from kdsr.losses.image_pair import image_pair
from kdsr.losses.loss_range import PUBLISHED_PEAK, check_loss_range, in_loss_range
from kdsr.losses.lsfd_loss import selective_map

AFFINITIES = ('spatial', 'channel', 'instance')
SELECTIVE = ('none', 'features', 'normalised')
BLOCK = 192
EPS = 1e-8
LARGEST = 128 * 128  # positions; such a feature takes 50 times as long as one of 48x48


def affinity_distance(
    ours: Tensor, theirs: Tensor, affinity: str = 'spatial', block: int = BLOCK, attention: Tensor | None = None
) -> Tensor:
    """Return the mean L1 distance of the affinity matrices of two features; see :class:`FAKDLoss`.

    Args:
        ours: (N, Cs, H, W).
        theirs: (N, Ct, H, W), without gradient; Ct = Cs for affinity 'channel'.
        affinity: 'spatial', 'channel' or 'instance'.
        block: Rows of the affinity matrix that are held at a time.
        attention: (N, 1, H, W), without gradient: multiplies the positions of both normalised features ('instance'
            normalises none).

    Returns:
        A 0-dim tensor, of at least single precision.

    Raises:
        ValueError: unknown `affinity`.
    """
    check_choice('affinity', affinity, AFFINITIES)
    with torch.autocast(ours.device.type, enabled=False):
        ours, theirs = (at_least_float32(x).flatten(2) for x in (ours, theirs))
        if affinity == 'instance':
            return (_instance_affinity(ours) - _instance_affinity(theirs)).abs().mean()
        if affinity == 'channel':
            ours, theirs = ours.transpose(1, 2), theirs.transpose(1, 2)
        weight = None if attention is None else attention.flatten(2)
        if weight is not None and affinity == 'channel':
            weight = weight.mT
        return _AffinityDistance.apply(ours, theirs, weight, block)


def _instance_affinity(feature: Tensor) -> Tensor:
    rows = feature.flatten(1)
    gram = rows @ rows.T
    return gram / (torch.linalg.vector_norm(gram, dim=1, keepdim=True) + EPS)


class _AffinityDistance(torch.autograd.Function):
    """mean |U'U - V'V|, U and V being X (N, C, P) and Y (N, D, P) with unit columns; dL/dU = 2 U sign(U'U - V'V) / NPP.

    A `weight`, (N, 1, P) or (N, C, 1), multiplies U and V.

    A row block of the P x P matrices gives both its part of the sum and its part of the gradient, and is forgotten.
    The matrices are symmetric: of a row block only the part from the diagonal on is computed, and counts twice. On a
    CPU the samples come one by one, so that a row block stays in the cache. Only X's gradient outlives the forward.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, weight: Tensor | None, block: int) -> Tensor:
        gradient = torch.empty_like(x)
        total = x.new_zeros((), dtype=torch.float64)
        group = 1 if x.device.type == 'cpu' else len(x)
        for first in range(0, len(x), group):
            samples = slice(first, first + group)
            (unit, length), (theirs, _) = _unit_columns(x[samples]), _unit_columns(y[samples])
            factor = 1 if weight is None else weight[samples]
            ours, theirs = unit * factor, theirs * factor
            part = torch.zeros_like(ours)
            for row in range(0, x.shape[2], block):
                total += _row_block(ours, theirs, row, block, part)
            gradient[samples] = _through_unit_columns(part * factor, unit, length)
        scale = 1 / (len(x) * x.shape[2] ** 2)
        ctx.scale = 2 * scale
        ctx.save_for_backward(gradient)
        return (total * scale).to(x.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = ctx.saved_tensors
        return gradient * (gradients[0] * ctx.scale), None, None, None


def _unit_columns(matrix: Tensor) -> tuple[Tensor, Tensor]:
    length = torch.linalg.vector_norm(matrix, dim=1, keepdim=True)
    return matrix / (length + EPS), length


def _through_unit_columns(gradient: Tensor, unit: Tensor, length: Tensor) -> Tensor:
    """Return the gradient with respect to a matrix from that with respect to its unit columns; 0 stays 0."""
    along = (unit * gradient).sum(1, keepdim=True) / length.clamp_min(EPS**2)
    return gradient / (length + EPS) - unit * along


def _row_block(x: Tensor, y: Tensor, row: int, block: int, gradient: Tensor) -> Tensor:
    """Return the sum of |X'X - Y'Y| over one row block and its mirror image; add X sign(X'X - Y'Y) to `gradient`."""
    end = row + block
    difference = torch.bmm(x[..., row:end].mT, x[..., row:])
    difference -= torch.bmm(y[..., row:end].mT, y[..., row:])  # equal features: exactly 0, which baddbmm would not give
    size = difference.abs()
    rows = 2 * size.sum(-1) - size[..., :block].sum(-1)  # on the diagonal the mirror image is in the block itself
    total = rows.sum(dtype=torch.float64)  # row by row: one float32 sum of all loses digits
    difference.sign_()
    gradient[..., row:end].baddbmm_(x[..., row:], difference.mT)
    gradient[..., end:].baddbmm_(x[..., row:end], difference[..., block:])
    return total


def spatial_cost(name: str, ours: Tensor, theirs: Tensor) -> str:
    """Return for the log what the spatial affinity of a feature costs, both ways.

    Raises:
        UserError: the feature is too large.
    """
    height, width = ours.shape[-2:]
    positions, channels = height * width, ours.shape[1]
    floating_point = positions**2 * (3 * channels + theirs.shape[1])
    kept, working = 4 * positions * channels, 4 * positions * (4 * channels + theirs.shape[1] + 2 * BLOCK)
    cost = f'{name!r}, {height}x{width}: {floating_point / 1e9:.1f} GFLOP a sample'
    if positions > LARGEST:
        raise UserError(
            f'FAKDLoss compares every position of a feature with every other, too many in {cost} and step. At most '
            f'{LARGEST} positions (128x128) are taken: tap a layer before the upsampler, or make '
            '`datasets.train.gt_size` smaller.'
        )
    return f'{cost}, {kept / 1e6:.1f} MB a sample kept and {working / 1e6:.0f} MB worked in'


@LOSS_REGISTRY.register()
class FAKDLoss(DistillationLoss):
    """L1 between the affinity matrices of the student's and the teacher's features, summed over the features.

        X = F as (C, H*W), every column divided by (its L2 norm + 1e-8);   A = X^T X, (H*W, H*W)
        L = sum_f mean |A_S - A_T|                    affinity 'spatial', L_SA of [1]
        X's rows divided by (their L2 norm + 1e-8);   A = X X^T, (C, C)          affinity 'channel'
        G = the N x N inner products of the samples' features;  A = G's rows divided by their norm    'instance'

    The spatial matrices exist as one row block at a time: per feature the loss keeps a gradient of the student's size,
    N*H*W*Cs numbers, and works in H*W*(4*Cs + Ct + 2*192) more (8 MB at 48x48, Cs 64, Ct 256; on a GPU times N). Time
    grows with (H*W)^2: the cost is logged before the first iteration, and features above 128x128 are refused.

    With `selective`, LSFD's map M on 0..255 [2] multiplies every position of both features: F with 'features', X with
    'normalised'. In the spatial affinity M cancels in X, so that 'features' is FAKD itself, while 'normalised' makes
    of A the map M_i M_j A_ij. [2] reports that M on FAKD's input features does not help; which of the two is meant is
    left open.

    Departs from the paper: no; [1] trains with 'spatial', the other two are in the authors' released code.
    Needs features: any, channels may differ but for 'channel'; with `selective` a whole number of times smaller than
    the image.   Zero when student equals teacher: yes.

    Args:
        affinity: 'spatial', 'channel' or 'instance'. The last compares the samples of a batch; with several processes
            each compares its own.
        selective: 'none', 'features' or 'normalised' (the same as 'features' for 'instance').
        loss_range: 255 or 1: beside image losses on 0..255 as in [1], or everything 255 times smaller, see
            `kdsr/losses/loss_range.py`.
        loss_weight: Factor on the result; 10 in [1].
        features: Names from `distillation.features`; all of them when left out.

    Shape:
        student.features[f]: (N, Cs, H, W), any range; teacher.features[f]: (N, Ct, H, W), same N, H, W;
        student.sr, teacher.sr: (N, C, S*H, S*W), in [0, 1], for `selective`; result: ().

    Raises:
        ValueError: an unknown option value; a feature's sizes differ, or its channels with 'channel' (the message
            names the feature and both shapes); a feature too large for 'spatial'; with `selective`, image and feature
            sizes that do not fit.

    References:
        [1] He, Dai, Lu, Jiang, Xia. FAKD: Feature-Affinity Based Knowledge Distillation for Efficient Image
            Super-Resolution. ICIP 2020.
        [2] Park, Kwak. Local-Selective Feature Distillation for Single Image Super-Resolution. 2021.
            https://arxiv.org/abs/2111.10988
    """

    def __init__(
        self,
        affinity: str = 'spatial',
        selective: str = 'none',
        loss_range: int = 255,
        loss_weight: float = 1.0,
        features: list[str] | None = None,
    ) -> None:
        super().__init__(loss_weight, features)
        check_choice('affinity', affinity, AFFINITIES)
        check_choice('selective', selective, SELECTIVE)
        check_loss_range(loss_range)
        self.affinity = affinity
        self.selective = selective
        self.needs_teacher_image = selective != 'none'
        self.loss_range = loss_range

    def build_helpers(self, student: NetworkOutput, teacher: NetworkOutput) -> None:
        """Log what the spatial affinities will cost, and refuse what is too much; nothing here is trained."""
        if self.affinity == 'spatial':
            costs = [spatial_cost(*pair) for pair in self.pairs(student, teacher)]
            get_root_logger().info(f'FAKDLoss: {"; ".join(costs)}.')

    def distance(self, student: NetworkOutput, teacher: NetworkOutput, batch: Batch) -> Tensor:
        """Return the sum over the features, a 0-dim tensor."""
        total = at_least_float32(student.image.new_zeros(()))
        equal = '`affinity: channel`' if self.affinity == 'channel' else ''
        for name, ours, theirs in self.pairs(student, teacher):
            ours, theirs = feature_pair('FAKDLoss', name, ours, theirs, equal)
            attention = None if self.selective == 'none' else _published_map(student, teacher, ours.shape[-2:])
            if attention is not None and (self.selective == 'features' or self.affinity == 'instance'):
                ours, theirs, attention = ours * attention, theirs * attention, None
            total = total + affinity_distance(ours, theirs, self.affinity, attention=attention)
        return in_loss_range(total, self.loss_range, image_term=False)


def _published_map(student: NetworkOutput, teacher: NetworkOutput, size: torch.Size) -> Tensor:
    image, target = image_pair(student, teacher)
    return PUBLISHED_PEAK * selective_map(image.detach(), target, size)
