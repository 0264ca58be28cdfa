"""DCTSwin: fuses the images of several teachers into one (MTKD, stage 1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from basicsr.archs.arch_util import trunc_normal_
from basicsr.archs.swinir_arch import DropPath, Mlp, Upsample, WindowAttention, window_partition, window_reverse
from basicsr.utils.registry import ARCH_REGISTRY
from torch import Tensor, nn
from torch.nn import functional as F

from kdsr.archs.window_dct import MASKS, Mask, WindowDCT, attention_mask
from kdsr.distillation.dct import DCT_NORMS
from kdsr.distillation.padding import pad_to_multiple
from kdsr.errors import UserError, check_choice

Block = Literal['dctswin', 'swin', 'mixer']
Affine = Literal['mean_shift', 'official', 'none']
Residual = Literal['none', 'teacher_mean']


class TokenMixer(nn.Module):
    """MLP over the positions of a window, the same for every channel; replaces the attention in ablation v3.

    Args:
        num_tokens: Positions in a window.
        hidden: Channels of the hidden layer.

    Shape:
        input and output: (windows, num_tokens, C).
    """

    def __init__(self, num_tokens: int, hidden: int) -> None:
        super().__init__()
        self.mlp = Mlp(num_tokens, hidden)

    def forward(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """Mix the positions; `mask` belongs to the signature of an attention and must be None."""
        return self.mlp(tokens.transpose(1, 2)).transpose(1, 2)

    @staticmethod
    def hidden_width(dim: int, num_heads: int, window_size: int) -> int:
        """Return the hidden width with which a mixer has as many parameters as the window attention it replaces."""
        tokens = window_size**2
        attention = 4 * dim * (dim + 1) + num_heads * (2 * window_size - 1) ** 2
        return max(1, round((attention - tokens) / (2 * tokens + 1)))


@dataclass(frozen=True)
class LayerOptions:
    """Options that all layers of a network share; :class:`DCTSwin` describes them."""

    block: Block
    dct_norm: str
    attn_mask: Mask
    window_size: int
    mlp_ratio: float
    token_mlp_ratio: float | None

    def __post_init__(self) -> None:
        check_choice('block', self.block, get_args(Block))
        check_choice('dct_norm', self.dct_norm, DCT_NORMS)
        check_choice('attn_mask', self.attn_mask, MASKS)
        if self.block == 'mixer' and self.attn_mask != 'none':
            raise UserError(f"`attn_mask` {self.attn_mask!r} needs an attention, and `block` 'mixer' has none.")
        if self.window_size < 2 or self.window_size % 2:
            raise UserError(f'`window_size` must be even, not {self.window_size}.')

    def build_mixer(self, dim: int, num_heads: int) -> nn.Module:
        """Return the module that mixes the tokens of a window: an attention, or an MLP with as many parameters."""
        window = self.window_size
        if self.block != 'mixer':
            return WindowAttention(dim, (window, window), num_heads)
        if self.token_mlp_ratio is None:
            return TokenMixer(window**2, TokenMixer.hidden_width(dim, num_heads, window))
        return TokenMixer(window**2, int(self.token_mlp_ratio * window**2))


class DCTSwinLayer(nn.Module):
    """One transformer layer on windows: x + W(LN(x)), then x + MLP(LN(x)).

    W shifts the map cyclically (if `shift_size`), divides it into windows, mixes the tokens of each window, and joins
    the windows again. In a 'dctswin' layer the tokens are the DCT coefficients of the window.

    Args:
        dim: C, channels.
        num_heads: Attention heads.
        shift_size: 0, or half a window in every second layer.
        drop_path: Probability that a sample skips a branch in training.
        options: Shared options.

    Shape:
        input and output: (N, H*W, C), with H and W multiples of the window size.
    """

    def __init__(self, dim: int, num_heads: int, shift_size: int, drop_path: float, options: LayerOptions) -> None:
        super().__init__()
        self.window_size = options.window_size
        self.shift_size = shift_size
        self.attn_mask = options.attn_mask
        self.norm1 = nn.LayerNorm(dim)
        self.attn = options.build_mixer(dim, num_heads)
        self.dct = WindowDCT(options.window_size, options.dct_norm) if options.block == 'dctswin' else None
        self.drop_path = DropPath(drop_path) if drop_path > 0 else nn.Identity()
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim, int(dim * options.mlp_ratio))

    def forward(self, x: Tensor, x_size: tuple[int, int]) -> Tensor:
        """Return the tokens (N, H*W, C) of a map of size `x_size`."""
        x = x + self.drop_path(self._mix_windows(self.norm1(x), x_size))
        return x + self.drop_path(self.mlp(self.norm2(x)))

    def _mix_windows(self, x: Tensor, x_size: tuple[int, int]) -> Tensor:
        n, length, dim = x.shape
        x = x.view(n, *x_size, dim)
        if self.shift_size:
            x = torch.roll(x, (-self.shift_size, -self.shift_size), (1, 2))
        windows = self._mix_tokens(window_partition(x, self.window_size).flatten(1, 2), x_size)
        x = window_reverse(windows.unflatten(1, (self.window_size, self.window_size)), self.window_size, *x_size)
        if self.shift_size:
            x = torch.roll(x, (self.shift_size, self.shift_size), (1, 2))
        return x.view(n, length, dim)

    def _mix_tokens(self, tokens: Tensor, x_size: tuple[int, int]) -> Tensor:
        mask = attention_mask(*x_size, self.window_size, self.shift_size, self.attn_mask, tokens.device)
        if mask is not None:
            mask = mask.to(self.norm1.weight.dtype)  # for a network in half precision
        if self.dct is None:
            return self.attn(tokens, mask)
        return self.dct.inverse(self.attn(self.dct(tokens), mask))


class ResidualGroup(nn.Module):
    """Layers in sequence.

    Args:
        blocks: The layers.
    """

    def __init__(self, blocks: Sequence[nn.Module]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)

    def forward(self, x: Tensor, x_size: tuple[int, int]) -> Tensor:
        """Map tokens (N, H*W, C) to tokens."""
        for block in self.blocks:
            x = block(x, x_size)
        return x


class DCTSwinBlock(nn.Module):
    """x + conv3x3(layers(x)): SwinIR's residual group, with the same module names.

    Args:
        dim: C, channels.
        layers: Layers of the block.

    Shape:
        input and output: (N, H*W, C).
    """

    def __init__(self, dim: int, layers: Sequence[nn.Module]) -> None:
        super().__init__()
        self.residual_group = ResidualGroup(layers)
        self.conv = nn.Conv2d(dim, dim, 3, 1, 1)

    def forward(self, x: Tensor, x_size: tuple[int, int]) -> Tensor:
        """Map tokens (N, H*W, C) of a map of size `x_size` to tokens."""
        return x + _to_tokens(self.conv(_to_map(self.residual_group(x, x_size), x_size)))


class PatchEmbed(nn.Module):
    """Map to normalised tokens: (N, C, H, W) to (N, H*W, C).

    Args:
        dim: C, channels.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)

    def forward(self, x: Tensor) -> Tensor:
        """Return the tokens in reading order."""
        return self.norm(_to_tokens(x))


def _to_tokens(x: Tensor) -> Tensor:
    return x.flatten(2).transpose(1, 2)


def _to_map(x: Tensor, x_size: tuple[int, int]) -> Tensor:
    return x.transpose(1, 2).unflatten(2, x_size)


@ARCH_REGISTRY.register()
class DCTSwin(nn.Module):
    """Fuses the images of several teachers into one better image: MTKD's aggregation network [1].

        y = unshuffle_S(x)                      pad, then 3*T*S^2 channels at the size of the low-resolution image
        f = conv(y);  g = f + conv(LN(blocks(LN(f))))
        z = conv(upsample_S(LeakyReLU(conv(g))))     as SwinIR's 'pixelshuffle'

    The 64 tokens of a window are its DCT coefficients, not its positions.

    Published parameters for T = 3: 247,043 / 441,403 / 418,083 at x2 / x3 / x4.

    Departs from the paper: it does not give heads, MLP ratio, MLP after the attention, block convolution and drop path;
    they come from the released code. By default the transform is orthonormal and the attention has no mask. The
    released code has `dct_norm` 'none', `attn_mask` and `affine` 'official', `embed_dim` 96 and `depths` [4, 4].

    Args:
        upscale: S, 2, 3, 4 or 8.
        num_teachers: T.
        embed_dim: C, a multiple of every block's number of heads.
        depths: Number of layers of each block.
        num_heads: Attention heads, one number or one per block.
        window_size: Tokens per side of a window, even.
        mlp_ratio: Hidden channels of the channel MLP divided by `embed_dim`.
        drop_path_rate: Stochastic depth of the last layer; it grows linearly from 0 in the first layer.
        block: 'dctswin'; 'swin': the same without the transform (ablation v4); 'mixer': an MLP over the positions of a
            window instead of the attention, with as many parameters (ablation v3).
        dct_norm: 'ortho', or 'none' for a factor of 2 per axis.
        attn_mask: 'none', 'spatial' or 'official', see `attention_mask`. Default: 'spatial' for 'swin', else 'none'.
        affine: 'mean_shift': subtract `rgb_mean` from every teacher's image and add it to the result; 'official':
            z / 255 + rgb_mean, without a change of the input; 'none': z.
        rgb_mean: Mean colour; default: of DIV2K.
        residual: 'none', or 'teacher_mean' (not in the paper): the network starts as the mean of the teachers' images
            and learns a correction, so that a short training is not worse than its teachers.
        num_feat: Channels of the upsampler.
        token_mlp_ratio: Hidden width of the mixer's MLP divided by the number of positions. Default: as many parameters
            as the attention.

    Shape:
        input: (N, 3*T, S*h, S*w), in [0, 1], the teachers' RGB images one after the other; output: (N, 3, S*h, S*w),
        about [0, 1]. Any h and w: images are padded on the right and at the bottom, and the result is cropped.

    Raises:
        UserError: unknown option value, numbers that do not fit together, or an input that has not 3*T channels.

    References:
        [1] Jiang, Feng, Zhang, Bull. MTKD: Multi-Teacher Knowledge Distillation for Image Super-Resolution. ECCV 2024.
            https://arxiv.org/abs/2404.09571

    Example:
        >>> import kdsr, torch
        >>> network = kdsr.archs.DCTSwin(upscale=2, num_teachers=3)
        >>> network(torch.rand(1, 9, 24, 20)).shape
        torch.Size([1, 3, 24, 20])
    """

    mean: Tensor

    def __init__(
        self,
        upscale: int = 4,
        num_teachers: int = 3,
        embed_dim: int = 24,
        depths: Sequence[int] = (2, 2, 2, 2),
        num_heads: int | Sequence[int] = 6,
        window_size: int = 8,
        mlp_ratio: float = 2.0,
        drop_path_rate: float = 0.1,
        block: Block = 'dctswin',
        dct_norm: Literal['ortho', 'none'] = 'ortho',
        attn_mask: Mask | None = None,
        affine: Affine = 'mean_shift',
        rgb_mean: Sequence[float] = (0.4488, 0.4371, 0.4040),
        num_feat: int = 64,
        residual: Residual = 'none',
        token_mlp_ratio: float | None = None,
    ) -> None:
        super().__init__()
        check_choice('affine', affine, get_args(Affine))
        check_choice('residual', residual, get_args(Residual))
        attn_mask = attn_mask or ('spatial' if block == 'swin' else 'none')
        options = LayerOptions(
            block=block,
            dct_norm=dct_norm,
            attn_mask=attn_mask,
            window_size=window_size,
            mlp_ratio=mlp_ratio,
            token_mlp_ratio=token_mlp_ratio,
        )
        heads = [num_heads] * len(depths) if isinstance(num_heads, int) else list(num_heads)
        _check_sizes(embed_dim, depths, heads, num_teachers)
        self.upscale, self.window_size = upscale, window_size
        self.num_teachers = num_teachers
        self.affine, self.residual = affine, residual
        self.register_buffer('mean', torch.tensor(rgb_mean).view(1, 3, 1, 1), persistent=False)
        self.conv_first = nn.Conv2d(3 * num_teachers * upscale**2, embed_dim, 3, 1, 1)
        self.patch_embed = PatchEmbed(embed_dim)
        self.layers = _build_blocks(embed_dim, depths, heads, drop_path_rate, options)
        self.norm = nn.LayerNorm(embed_dim)
        self.conv_after_body = nn.Conv2d(embed_dim, embed_dim, 3, 1, 1)
        self.conv_before_upsample = nn.Sequential(nn.Conv2d(embed_dim, num_feat, 3, 1, 1), nn.LeakyReLU())
        self.upsample = Upsample(upscale, num_feat)
        self.conv_last = nn.Conv2d(num_feat, 3, 3, 1, 1)
        self.apply(_init_linear)
        if residual == 'teacher_mean':
            for parameter in self.conv_last.parameters():
                nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        """Return the fused image (N, 3, S*h, S*w) of teacher images (N, 3*T, S*h, S*w)."""
        if x.dim() != 4 or x.shape[1] != 3 * self.num_teachers:
            raise UserError(
                f'DCTSwin for {self.num_teachers} teachers needs their RGB images side by side, '
                f'(N, {3 * self.num_teachers}, H, W), not {tuple(x.shape)}.'
            )
        height, width = x.shape[-2:]
        y = x - self.mean.to(x.dtype).repeat(1, self.num_teachers, 1, 1) if self.affine == 'mean_shift' else x
        y = self.conv_first(F.pixel_unshuffle(pad_to_multiple(y, self.window_size * self.upscale), self.upscale))
        y = self.conv_after_body(self._forward_features(y)) + y
        y = self.conv_last(self.upsample(self.conv_before_upsample(y)))[..., :height, :width]
        return self._to_image(y, x)

    def _to_image(self, y: Tensor, teachers: Tensor) -> Tensor:
        if self.residual == 'teacher_mean':
            return y + teachers.unflatten(1, (self.num_teachers, 3)).mean(1)
        if self.affine == 'none':
            return y
        return (y / 255 if self.affine == 'official' else y) + self.mean.to(y.dtype)

    def _forward_features(self, x: Tensor) -> Tensor:
        x_size = (x.shape[2], x.shape[3])
        x = self.patch_embed(x)
        for layer in self.layers:
            x = layer(x, x_size)
        return _to_map(self.norm(x), x_size)


def _build_blocks(
    dim: int, depths: Sequence[int], heads: Sequence[int], drop_path_rate: float, options: LayerOptions
) -> nn.ModuleList:
    drop_path = iter(torch.linspace(0, drop_path_rate, sum(depths)).tolist())
    shifts = (0, options.window_size // 2)
    blocks = nn.ModuleList()
    for depth, num_heads in zip(depths, heads):
        layers = [DCTSwinLayer(dim, num_heads, shifts[j % 2], next(drop_path), options) for j in range(depth)]
        blocks.append(DCTSwinBlock(dim, layers))
    return blocks


def _check_sizes(dim: int, depths: Sequence[int], heads: Sequence[int], num_teachers: int) -> None:
    if len(heads) != len(depths):
        raise UserError(f'`num_heads` names {len(heads)} blocks and `depths` {len(depths)}.')
    if any(dim % h for h in heads):
        raise UserError(f'`embed_dim` {dim} must be a multiple of `num_heads` {heads}.')
    if num_teachers < 1:
        raise UserError(f'`num_teachers` must be at least 1, not {num_teachers}.')


def _init_linear(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        trunc_normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)
