"""CARN and CARN-M: a cascade of cascades of residual blocks."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from basicsr.utils.registry import ARCH_REGISTRY
from torch import Tensor, nn

from kdsr.errors import UserError

SCALES = (2, 3, 4)
NUM_UNITS = 3  # of every cascade, as published


class MeanShift(nn.Module):
    """Subtract or add the mean colour with a frozen 1x1 convolution, whose tensors the published weights contain.

    Args:
        offset: Added to each channel.
    """

    def __init__(self, offset: Sequence[float]) -> None:
        super().__init__()
        channels = len(offset)
        self.shifter = nn.Conv2d(channels, channels, 1)
        self.shifter.weight.data = torch.eye(channels).view(channels, channels, 1, 1)
        self.shifter.bias.data = torch.tensor(offset)  # type: ignore[union-attr]
        self.shifter.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        """Return the shifted image, in single precision also under autocast, so that colours stay exact."""
        with torch.autocast(x.device.type, enabled=False):
            return self.shifter(x.to(self.shifter.weight.dtype))


class ResidualUnit(nn.Module):
    """relu(x + body(x)); the body is conv-relu-conv, or in CARN-M conv-relu-conv-relu-conv1x1 with groups.

    Args:
        num_feat: C, channels.
        groups: Groups of the 3x3 convolutions.
        mobile: Build the unit of CARN-M.

    Shape:
        input and output: (N, C, h, w).
    """

    def __init__(self, num_feat: int, groups: int, mobile: bool) -> None:
        super().__init__()
        layers: list[nn.Module] = [
            nn.Conv2d(num_feat, num_feat, 3, 1, 1, groups=groups),
            nn.ReLU(),
            nn.Conv2d(num_feat, num_feat, 3, 1, 1, groups=groups),
        ]
        if mobile:
            layers += [nn.ReLU(), nn.Conv2d(num_feat, num_feat, 1)]
        self.body = nn.Sequential(*layers)
        self.act = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Return the unit's features."""
        return self.act(x + self.body(x))


class Cascade(nn.Module):
    """Units; each gets a 1x1 convolution of all outputs before it.

        o_i = relu(conv1x1(concat[x, u_1, ..., u_i])),  u_i = unit_i(o_{i-1}),  o_0 = x;   y = o_3

    Args:
        num_feat: C, channels.
        units: Three units, or one that is used three times with the same weights.

    Shape:
        input and output: (N, C, h, w).
    """

    def __init__(self, num_feat: int, units: Sequence[nn.Module]) -> None:
        super().__init__()
        self.units = nn.ModuleList(units)
        self.fuse = nn.ModuleList(
            nn.Sequential(nn.Conv2d((i + 2) * num_feat, num_feat, 1), nn.ReLU()) for i in range(NUM_UNITS)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return the last 1x1 convolution's output."""
        seen = out = x
        for i, fuse in enumerate(self.fuse):
            seen = torch.cat([seen, self.units[i % len(self.units)](out)], 1)
            out = fuse(seen)
        return out


class CascadeUpsample(nn.Sequential):
    """Sub-pixel upsampling, in two steps of 2 for x4; ReLU and shuffle follow each convolution.

    Args:
        upscale: 2, 3 or 4.
        num_feat: C, channels.
        groups: Of the convolutions.
    """

    def __init__(self, upscale: int, num_feat: int, groups: int) -> None:
        layers: list[nn.Module] = []
        for step in [2, 2] if upscale == 4 else [upscale]:
            conv = nn.Conv2d(num_feat, step**2 * num_feat, 3, 1, 1, groups=groups)
            layers += [conv, nn.ReLU(), nn.PixelShuffle(step)]
        super().__init__(*layers)


class MultiScaleUpsample(nn.ModuleDict):
    """The upsamplers of all scales; one is used, the others are frozen.

    Args:
        upscale: 2, 3 or 4.
        num_feat: C, channels.
        groups: Of the convolutions.
    """

    def __init__(self, upscale: int, num_feat: int, groups: int) -> None:
        super().__init__({f'x{scale}': CascadeUpsample(scale, num_feat, groups) for scale in SCALES})
        self.used = f'x{upscale}'
        for name, upsample in self.items():
            upsample.requires_grad_(name == self.used)

    def forward(self, x: Tensor) -> Tensor:
        """Return the upsampled map."""
        return self[self.used](x)


@ARCH_REGISTRY.register()
class CARN(nn.Module):
    """Cascading residual network [1] and its mobile version CARN-M.

        y = mean + conv(upsample_S(cascade of 3 cascades of 3 residual units (conv(x - mean))))

    Published parameters: 964,187 / 1,148,827 / 1,111,899 at x2 / x3 / x4; 1,591,963 with `multi_scale` at
    every scale; CARN-M with `multi_scale` 414,811. They include the 24 frozen values of the two mean shifts.

    Args:
        upscale: S: 2, 3 or 4.
        num_feat: C, 64.
        mobile: Build CARN-M: convolutions with groups, and one unit per cascade, used three times.
        groups: Groups of CARN-M's 3x3 convolutions.
        multi_scale: Build the upsamplers of all three scales, like the published weights; only that of S is used, the
            others are frozen.
        rgb_mean: Mean colour; default: of DIV2K. Loaded weights replace it.
        img_range: The network works internally on images in [0, img_range]; the published weights need 1.

    Shape:
        input: (N, 3, h, w), RGB in [0, 1], any size; output: (N, 3, S*h, S*w).

    Raises:
        UserError: `upscale` is not 2, 3 or 4.

    References:
        [1] Ahn, Kang, Sohn. Fast, Accurate, and Lightweight Super-Resolution with Cascading Residual Network. ECCV
            2018. https://arxiv.org/abs/1803.08664

    Example:
        >>> import kdsr, torch
        >>> network = kdsr.archs.CARN(upscale=2)
        >>> network(torch.rand(1, 3, 12, 10)).shape
        torch.Size([1, 3, 24, 20])
    """

    def __init__(
        self,
        upscale: int = 4,
        num_feat: int = 64,
        mobile: bool = False,
        groups: int = 4,
        multi_scale: bool = False,
        rgb_mean: Sequence[float] = (0.4488, 0.4371, 0.4040),
        img_range: float = 1.0,
    ) -> None:
        super().__init__()
        if upscale not in SCALES:
            raise UserError(f'`upscale` must be one of {SCALES}, not {upscale!r}.')
        groups = groups if mobile else 1
        self.upscale, self.img_range = upscale, img_range
        self.sub_mean = MeanShift([-c * img_range for c in rgb_mean])
        self.add_mean = MeanShift([c * img_range for c in rgb_mean])
        self.conv_first = nn.Conv2d(len(rgb_mean), num_feat, 3, 1, 1)
        self.body = Cascade(num_feat, [_build_cascade(num_feat, groups, mobile) for _ in range(NUM_UNITS)])
        self.upsample: nn.Module = (
            MultiScaleUpsample(upscale, num_feat, groups) if multi_scale else CascadeUpsample(upscale, num_feat, groups)
        )
        self.conv_last = nn.Conv2d(num_feat, len(rgb_mean), 3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return the super-resolved image (N, 3, S*h, S*w)."""
        x = self.body(self.conv_first(self.sub_mean(x * self.img_range)))
        return self.add_mean(self.conv_last(self.upsample(x))) / self.img_range


def _build_cascade(num_feat: int, groups: int, mobile: bool) -> Cascade:
    return Cascade(num_feat, [ResidualUnit(num_feat, groups, mobile) for _ in range(1 if mobile else NUM_UNITS)])
