"""SAN: second-order attention network, a teacher and student in FAKD and LSFD."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from basicsr.archs.arch_util import Upsample
from basicsr.utils.registry import ARCH_REGISTRY
from torch import Tensor, nn
from torch.nn import functional as F

from kdsr.distillation.precision import at_least_float32
from kdsr.errors import UserError

COVARIANCE_SIDE = 1000  # of a larger map, the covariance of the centre is taken
SMALLEST_TRACE = 1e-10  # keeps root and gradient finite for a map that is constant over positions


def covariance(x: Tensor) -> Tensor:
    """Return the biased covariance of the channels over the positions, ``X (I/M - 11^T/M^2) X^T``.

    Args:
        x: (N, C, H, W); of larger maps only the central 1000x1000 positions count.

    Returns:
        (N, C, C), symmetric, of at least single precision.
    """
    height, width = x.shape[-2:]
    top, left = max(height - COVARIANCE_SIDE, 0) // 2, max(width - COVARIANCE_SIDE, 0) // 2
    x = at_least_float32(x[..., top : top + COVARIANCE_SIDE, left : left + COVARIANCE_SIDE]).flatten(2)
    centred = x - x.mean(dim=2, keepdim=True)
    with torch.autocast(x.device.type, enabled=False):
        return centred @ centred.transpose(1, 2) / x.shape[2]


def newton_schulz_root(matrix: Tensor, iterations: int = 5) -> Tensor:
    """Return the approximate square root of positive semidefinite matrices, with matrix products only.

        A = matrix / trace;  Y_0 = A, Z_0 = I;  T = (3 I - Z Y) / 2;  Y <- Y T, Z <- T Z;  result Y sqrt(trace)

    Args:
        matrix: (N, C, C), symmetric, single or double precision.
        iterations: 5 in the paper; small eigenvalues converge later.

    Returns:
        (N, C, C); zero for a zero matrix.
    """
    identity = torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)
    trace = (matrix * identity).sum(dim=(1, 2), keepdim=True).clamp(min=SMALLEST_TRACE)
    with torch.autocast(matrix.device.type, enabled=False):
        root = matrix / trace
        step = (3 * identity - root) / 2  # Z_0 Y_0 is A itself
        root, inverse = root @ step, step
        for i in range(1, iterations):
            step = (3 * identity - inverse @ root) / 2
            root = root @ step
            if i < iterations - 1:
                inverse = step @ inverse
    return root * trace.sqrt()


class MeanShift(nn.Conv2d):
    """Subtract or add a mean colour with a trainable 1x1 convolution in full precision.

    Args:
        shift: Initially added to each channel.
    """

    def __init__(self, shift: Sequence[float]) -> None:
        super().__init__(len(shift), len(shift), 1)
        nn.init.eye_(self.weight.data.view(len(shift), len(shift)))
        self.bias = nn.Parameter(torch.tensor(shift, dtype=torch.float32))

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, 3, H, W) to the same shape, not under autocast, where values up to 255 would lose their last bits."""
        with torch.autocast(x.device.type, enabled=False):
            return super().forward(x.to(self.weight.dtype))


class SecondOrderAttention(nn.Module):
    """SOCA: scale every channel by a factor computed from the square root of the channels' covariance.

    Args:
        dim: C, channels.
        squeeze_factor: C divided by the hidden channels.

    Shape:
        input and output: (N, C, H, W).
    """

    def __init__(self, dim: int, squeeze_factor: int) -> None:
        super().__init__()
        hidden = dim // squeeze_factor
        self.attention = nn.Sequential(nn.Conv2d(dim, hidden, 1), nn.ReLU(), nn.Conv2d(hidden, dim, 1), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        """Return the scaled map."""
        statistic = newton_schulz_root(covariance(x)).mean(dim=1)[..., None, None]
        return x * self.attention(statistic.to(x.dtype))


class RegionNonLocal(nn.Module):
    """RL-NL: x + out(attention); every position attends to all positions of its own quadrant.

    The attention is the softmax of the unscaled products of two embeddings (embedded Gaussian). `out` starts at zero.

    Args:
        dim: C, channels.
        inner: Channels of the embeddings.

    Shape:
        input and output: (N, C, H, W), any H and W; the quadrants meet at floor(H/2), floor(W/2).
    """

    def __init__(self, dim: int, inner: int) -> None:
        super().__init__()
        self.g, self.theta, self.phi = (nn.Conv2d(dim, inner, 1) for _ in range(3))
        self.out = nn.Conv2d(inner, dim, 1)
        for parameter in self.out.parameters():
            nn.init.zeros_(parameter)
        # The authors' module contains an attention that it never calls. The published number of parameters includes it.
        # It is frozen here, so that a distributed run needs no `find_unused_parameters`.
        self.soca = SecondOrderAttention(dim, 8).requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        """Return the map plus the weighted mean of similar positions."""
        embedded = [at_least_float32(conv(x)) for conv in (self.theta, self.phi, self.g)]
        top, left = x.shape[2] // 2, x.shape[3] // 2
        with torch.autocast(x.device.type, enabled=False):
            halves = [
                torch.cat(
                    [_attend(*(e[:, :, rows, columns] for e in embedded)) for columns in _split_side(left)], dim=3
                )
                for rows in _split_side(top)
            ]
        return x + self.out(torch.cat(halves, dim=2).to(x.dtype))


def _split_side(middle: int) -> list[slice]:
    return [slice(None, middle), slice(middle, None)] if middle else [slice(None)]


def _attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    q, k, v = (e.flatten(2).transpose(1, 2).unsqueeze(1) for e in (query, key, value))  # (N, 1 head, positions, inner)
    return F.scaled_dot_product_attention(q, k, v, scale=1.0).squeeze(1).transpose(1, 2).unflatten(2, query.shape[2:])


class ResidualBlock(nn.Module):
    """x + conv(ReLU(conv(x))).

    Args:
        dim: C, channels.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(dim, dim, 3, 1, 1)
        self.conv2 = nn.Conv2d(dim, dim, 3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to the same shape."""
        return x + self.conv2(F.relu(self.conv1(x)))


class AttentionGroup(nn.Module):
    """LSRAG: x + conv(attention(blocks(x))), plus the skip that all groups share.

    Args:
        dim: C, channels.
        num_block: Number of residual blocks.
        squeeze_factor: Of the attention.

    Shape:
        input and output: (N, C, H, W).
    """

    def __init__(self, dim: int, num_block: int, squeeze_factor: int) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(ResidualBlock(dim) for _ in range(num_block)))
        self.soca = SecondOrderAttention(dim, squeeze_factor)
        self.conv = nn.Conv2d(dim, dim, 3, 1, 1)
        self.gamma = nn.Parameter(torch.zeros(1), requires_grad=False)  # not used, as in the authors' code, but counted

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """Return the group's output with `skip`, the scaled shared map, added."""
        return x + self.conv(self.soca(self.blocks(x))) + skip


@ARCH_REGISTRY.register()
class SAN(nn.Module):
    """Second-order Attention Network [1].

        f = conv(x);  s = RL-NL(f)                      region-level non-local attention
        y_0 = s;  y_k = LSRAG_k(y_{k-1}) + gamma * s    `body`: residual groups with one shared, scaled skip
        z = conv(upsample(RL-NL(y_n) + f))              the same RL-NL, called again

    FAKD compares three feature maps: `body.6`, `body.13` and `non_local` (its second call) of the teacher, `body.1`,
    `body.3` and `non_local` of the student with 6 groups.

    Published parameters at x2 / x3 / x4: 15,712,800 / 15,897,440 / 15,860,512 (20 groups) and 4,847,834 / 5,032,474 /
    4,995,546 (6 groups). They include parameters that the authors' code does not use: a gamma per group, a convolution,
    and an attention in the non-local module. Here these are frozen. The two mean shifts are trained, as by the authors.

    Args:
        upscale: S, 2, 3, 4 or 8.
        num_feat: C, at least 8, `squeeze_factor` and `non_local_reduction`.
        num_group: Number of groups; 20 for the teacher, 6 for the student.
        num_block: Number of residual blocks in a group.
        squeeze_factor: Channel reduction of the attention in a group.
        non_local_reduction: C divided by the channels of the non-local embeddings: 8 in the authors' code, 4 in FAKD's
            (2,072 parameters more). LSFD does not say which it uses.
        img_range: The network works internally on images in [0, img_range].
        rgb_mean: Mean colour; default: of DIV2K.

    Shape:
        input: (N, 3, h, w), RGB in [0, 1], any size; output: (N, 3, S*h, S*w), about [0, 1]. The attention compares
        all positions of a quadrant: for large images see `kdsr.distillation.quadrants`.

    Raises:
        UserError: unknown `upscale`, or too few channels.

    References:
        [1] Dai, Cai, Zhang, Xia, Zhang. Second-Order Attention Network for Single Image Super-Resolution. CVPR 2019.

    Example:
        >>> import kdsr, torch
        >>> network = kdsr.archs.SAN(upscale=2, num_group=6)
        >>> network(torch.rand(1, 3, 12, 10)).shape
        torch.Size([1, 3, 24, 20])
    """

    def __init__(
        self,
        upscale: int = 4,
        num_feat: int = 64,
        num_group: int = 20,
        num_block: int = 10,
        squeeze_factor: int = 16,
        non_local_reduction: int = 8,
        img_range: float = 255.0,
        rgb_mean: Sequence[float] = (0.4488, 0.4371, 0.4040),
    ) -> None:
        super().__init__()
        _check_sizes(upscale, num_feat, max(8, squeeze_factor, non_local_reduction))
        self.img_range = img_range
        mean = [img_range * m for m in rgb_mean]
        self.sub_mean = MeanShift([-m for m in mean])
        self.conv_first = nn.Conv2d(3, num_feat, 3, 1, 1)
        self.non_local = RegionNonLocal(num_feat, num_feat // non_local_reduction)
        self.gamma = nn.Parameter(torch.zeros(1))
        self.body = nn.ModuleList(AttentionGroup(num_feat, num_block, squeeze_factor) for _ in range(num_group))
        self.conv_unused = nn.Conv2d(num_feat, num_feat, 3, 1, 1).requires_grad_(False)  # see the class's docstring
        self.upsample = Upsample(upscale, num_feat)
        self.conv_last = nn.Conv2d(num_feat, 3, 3, 1, 1)
        self.add_mean = MeanShift(mean)

    def forward(self, x: Tensor) -> Tensor:
        """Return the super-resolved image (N, 3, S*h, S*w)."""
        head = self.conv_first(self.sub_mean(x * self.img_range))
        y = self.non_local(head)
        skip = self.gamma * y
        for group in self.body:
            y = group(y, skip)
        y = self.non_local(y) + head
        return self.add_mean(self.conv_last(self.upsample(y))) / self.img_range


def _check_sizes(upscale: int, num_feat: int, least: int) -> None:
    if upscale not in (2, 3, 4, 8):
        raise UserError(f'`upscale` must be 2, 3, 4 or 8, not {upscale!r}.')
    if num_feat < least:
        raise UserError(
            f'`num_feat` must be at least {least}, the largest of 8, `squeeze_factor` and `non_local_reduction`; it is '
            f'{num_feat}.'
        )
