"""Image distillation in the wavelet domain (MTKD)."""

from __future__ import annotations

import functools
from typing import Any, Literal, get_args

import numpy as np
import pywt
import torch
from basicsr.utils.registry import LOSS_REGISTRY
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from kdsr.distillation.distillation_loss import DistillationLoss
from kdsr.distillation.outputs import Batch, NetworkOutput
from kdsr.distillation.precision import at_least_float32
from kdsr.errors import UserError, check_choice, did_you_mean
from kdsr.losses.image_pair import pair_images
from kdsr.wording import counted

CACHED_PIXELS = 2**18
WaveletMode = Literal['symmetric', 'reflect', 'periodization', 'zero']
WaveletForm = Literal['paper', 'official']


def wavelet_distance(
    image: Tensor,
    target: Tensor,
    wave: str = 'haar',
    level: int = 1,
    high_frequency_only: bool = False,
    mode: WaveletMode = 'symmetric',
    form: WaveletForm = 'paper',
) -> Tensor:
    """Return the mean L1 distance of the wavelet sub-bands of two images; see :class:`WaveletLoss` for the equation.

    Args:
        image: (N, C, H, W).
        target: Same shape.
        wave: Any discrete wavelet of PyWavelets.
        level: K, how often the low band is split again.
        high_frequency_only: Leave the low band out.
        mode: How the image continues beyond its edges, as in PyWavelets.
        form: 'paper' or 'official'.

    Returns:
        A 0-dim tensor, of at least single precision.

    Raises:
        UserError: unknown option value, options that exclude each other, a `level` that the images do not allow, or
            fewer than `level` samples with `form` 'official'.
        ValueError: the shapes differ.
    """
    _check_options(wave, level, mode, form, high_frequency_only)
    if image.shape != target.shape:
        raise ValueError(f'Two images of one shape are needed, not {tuple(image.shape)} and {tuple(target.shape)}.')
    _check_depth(image, wave, level)
    if form == 'official' and len(image) < level:
        raise UserError(
            f'WaveletLoss with `form: official` and `level: {level}` compares the low band of sample {level}, but the '
            f'batch has {counted(len(image), "sample")}.'
        )
    with torch.autocast(image.device.type, enabled=False):
        image, target = at_least_float32(image), at_least_float32(target)
        fits = all(size % 2**level == 0 for size in image.shape[-2:])
        if wave in ('haar', 'db1') and fits and form == 'paper':
            return _HaarDistance.apply(image, target, level, high_frequency_only)
        low, details = _split_bands(image - target, wave, level, mode)
        if form == 'official':
            low = low.unflatten(0, (len(image), -1))[level - 1]
            return _sum_band_means(details) / 3 + low.abs().mean()
        total = _sum_band_means(details) + (0 if high_frequency_only else low.abs().mean())
        return total / _count_bands(level, high_frequency_only)


def _check_options(wave: str, level: int, mode: str, form: str, high_frequency_only: bool) -> None:
    known = pywt.wavelist(kind='discrete')
    if wave not in known:
        raise UserError(f'`wave` must be a discrete wavelet of PyWavelets, not {wave!r}.{did_you_mean(wave, known)}')
    if isinstance(level, bool) or not isinstance(level, int) or level < 1:
        raise UserError(f'`level` must be a whole number of at least 1, not {level!r}.')
    check_choice('mode', mode, get_args(WaveletMode))
    check_choice('form', form, get_args(WaveletForm))
    if form == 'official' and high_frequency_only:
        raise UserError('`high_frequency_only` belongs to `form: paper`; the released code always has the low band.')


def _check_depth(image: Tensor, wave: str, level: int) -> None:
    height, width = image.shape[-2:]
    deepest = pywt.dwt_max_level(min(height, width), pywt.Wavelet(wave).dec_len)
    if level > deepest:
        raise UserError(f'`level` {level} is too deep: {height}x{width} images allow {deepest} with `wave` {wave!r}.')


def _count_bands(level: int, high_frequency_only: bool) -> int:
    return 3 * level + (not high_frequency_only)


class _HaarDistance(torch.autograd.Function):
    """The Haar distance of two images by additions only; the forward pass also computes its gradient.

    With unnormalised butterflies a band of level k is 2^k times the orthonormal one and has 4^k times fewer elements
    than the image. So its mean and its gradient carry the whole number 2^k. Except for one factor of 2, the gradient
    image consists of small whole numbers. The backward pass needs only these: a quarter of the memory of the image. On
    a CPU a few channels are processed at a time, so that the intermediate images stay in the cache.
    """

    @staticmethod
    def forward(ctx: Any, image: Tensor, target: Tensor, level: int, high_frequency_only: bool) -> Tensor:
        counter = torch.int8 if 3 * (2**level - 1) + 2 ** (level - 1) <= 127 else torch.int32
        steps = torch.empty(image.shape, dtype=counter, device=image.device)
        planes = [x.flatten(0, 1) for x in (image, target, steps)]
        group = max(1, CACHED_PIXELS // planes[0][0].numel()) if image.device.type == 'cpu' else len(planes[0])
        total = image.new_zeros(())
        for ours, theirs, out in zip(*(x.split(group) for x in planes)):
            difference = (ours - theirs).contiguous()
            total += _haar_sum(difference, level, high_frequency_only)
            out.copy_(difference)
        ctx.save_for_backward(steps)
        ctx.scale = 2 / (_count_bands(level, high_frequency_only) * image.numel())
        return total * ctx.scale

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (steps,) = ctx.saved_tensors
        gradient = steps.to(gradients[0].dtype).mul_(gradients[0] * ctx.scale)
        return gradient, -gradient if ctx.needs_input_grad[1] else None, None, None


def _haar_sum(image: Tensor, level: int, high_frequency_only: bool) -> Tensor:
    """Return the sum over the bands of 2^(k-1) * sum |band k| of (B, H, W); replace `image` by its gradient.

    One complex product adds and subtracts the neighbours l and r of a row, (l + ir)(1 - i) = (l + r) + i(r - l). This
    needs no separate copies of the even and the odd columns; (1 + i) is its transpose.
    """
    top, bottom = image.unflatten(1, (-1, 2)).unbind(2)
    bands = torch.empty_like(image).unflatten(1, (2, -1))
    torch.add(top, bottom, out=bands[:, 0])
    torch.sub(top, bottom, out=bands[:, 1])
    pairs = torch.view_as_complex(bands.unflatten(-1, (-1, 2)))
    pairs.mul_(1 - 1j)
    low = bands[:, 0, :, ::2]
    if level > 1:
        deeper = low.clone(memory_format=torch.contiguous_format)
    if level > 1 or high_frequency_only:
        low.zero_()
    total = torch.abs(bands, out=image.view_as(bands)).sum()  # the image is no longer needed
    bands.sign_()
    if level > 1:
        total += 2 * _haar_sum(deeper, level - 1, high_frequency_only)
        torch.mul(deeper, 2, out=low)
    pairs.mul_(1 + 1j)
    torch.add(bands[:, 0], bands[:, 1], out=top)
    torch.sub(bands[:, 0], bands[:, 1], out=bottom)
    return total


def _split_bands(difference: Tensor, wave: str, level: int, mode: WaveletMode) -> tuple[Tensor, list[Tensor]]:
    """Transform (N, C, H, W); return the low band (N*C, h, w) and for each level its detail bands (3, N*C, h, w)."""
    wavelet = pywt.Wavelet(wave)
    filters = (wavelet.dec_lo[::-1], wavelet.dec_hi[::-1])  # reversed: a convolution reads its kernel backwards
    low, details = difference.flatten(0, 1), []
    for _ in range(level):
        halves = _filter_rows(low, filters, mode)
        bands = _filter_rows(halves.transpose(-1, -2), filters, mode).transpose(-1, -2).unflatten(0, (-1, 2, 2))
        low = bands[:, 0, 0]
        details.append(bands.flatten(1, 2)[:, 1:].transpose(0, 1))
    return low, details


def _sum_band_means(details: list[Tensor]) -> Tensor:
    """Return the sum of the mean absolute values of all detail bands."""
    return torch.stack([band.abs().mean() for bands in details for band in bands]).sum()


def _filter_rows(images: Tensor, filters: tuple[list[float], list[float]], mode: WaveletMode) -> Tensor:
    """Split (B, H, W) along W into (2B, H, W'): the low and then the high half of each image."""
    length = len(filters[0])
    extended = _extend_rows(images, length, mode)
    span = extended.shape[-1] - length + 1
    taps = [extended[..., i : i + span : 2] for i in range(length)]
    halves: list[Any] = [sum(weight * tap for weight, tap in zip(weights, taps)) for weights in filters]
    return torch.stack(halves, 1).flatten(0, 1)


def _extend_rows(images: Tensor, length: int, mode: WaveletMode) -> Tensor:
    """Continue (B, H, W) along W as far as a filter of `length` reaches, with PyWavelets' alignment."""
    width = images.shape[-1]
    if mode == 'zero':
        return F.pad(images, (length - 2, _count_right_margin(width, length)))
    return images[..., _make_row_index(width, length, mode, images.device)]


def _count_right_margin(width: int, length: int) -> int:
    return 2 * ((width + length - 1) // 2) - width


@functools.lru_cache(maxsize=64)  # otherwise a device waits for every copy of it
def _make_row_index(
    width: int, length: int, mode: Literal['symmetric', 'reflect', 'periodization'], device: torch.device
) -> Tensor:
    """Return the indices of the samples in a continued row."""
    if mode == 'periodization':
        even = width + width % 2  # an odd row repeats its last sample before it continues at its start
        index = np.minimum(np.arange(1 - length // 2, even + length // 2 - 1) % even, width - 1)
    else:
        index = np.pad(np.arange(width), (length - 2, _count_right_margin(width, length)), mode=mode)
    with torch.inference_mode(False):  # an index first used in a validation must still serve the training
        return torch.as_tensor(index, device=device)


@LOSS_REGISTRY.register()
class WaveletLoss(DistillationLoss):
    """L1 between the wavelet sub-bands of the student's image and the teacher's (in MTKD the aggregated teachers').

        L = 1/(3K+1) * [ sum_{k=1..K} (l_LH,k + l_HL,k + l_HH,k) + l_LL,K ],   l_b = mean |b(S) - b(T)|    [1]
        L = 1/(3K)   *   sum_{k=1..K} (l_LH,k + l_HL,k + l_HH,k)               high_frequency_only, ablation v7

        L = sum_{k=1..K} (l_LH,k + l_HL,k + l_HH,k) / 3 + l_LL,K of sample K                  form 'official'

    With `form` 'paper' every band has the same weight and the low band counts once. 'official' is the released code
    (github.com/YuxuanJJ/MTKD): one mean over the three bands of a level, and the low band of a single sample of the
    batch, the one whose number is the level (for level 1 the first). There `level` is 4 and `mode` 'zero' by default.
    Each RGB channel is transformed separately. The transform is linear, so only the difference S - T is transformed.

    Departs from the paper: no.   Needs features: none.   Zero when student equals teacher: yes.

    Args:
        wave: Any discrete wavelet of PyWavelets, for example 'haar', 'db2', 'bior2.2'.
        level: K.
        high_frequency_only: Leave the low band out; only with `form` 'paper'.
        mode: How an image continues beyond its edges: 'symmetric', 'reflect', 'periodization' or 'zero'. Haar on
            sizes divisible by 2^level never reads beyond them.
        form: 'paper', or 'official' as in the released code.
        loss_weight: Factor on the result; 1 in [1], where the pixel loss has the weight 0.1.
        features: Ignored.

    Shape:
        student.sr, teacher.sr: (N, C, H, W), in [0, 1]; result: ().

    Raises:
        UserError: unknown option value; a `level` below 1 or too deep for the images; `form` 'official' with
            `high_frequency_only`, or with fewer samples than levels.
        ValueError: the images differ in shape.

    References:
        [1] Jiang, Feng, Zhang, Bull. MTKD: Multi-Teacher Knowledge Distillation for Image Super-Resolution. ECCV 2024.
            https://arxiv.org/abs/2404.09571

    Example:
        >>> import kdsr, torch
        >>> student, teacher = (kdsr.NetworkOutput(sr=torch.full((1, 3, 8, 8), grey)) for grey in (0.5, 0.75))
        >>> loss = kdsr.losses.WaveletLoss()
        >>> loss(student, teacher, kdsr.Batch(lq=torch.zeros(1, 3, 4, 4)))  # low band 0.5, three others 0: 0.5 / 4
        tensor(0.1250)
    """

    def __init__(
        self,
        wave: str = 'haar',
        level: int = 1,
        high_frequency_only: bool = False,
        mode: WaveletMode = 'symmetric',
        form: WaveletForm = 'paper',
        loss_weight: float = 1.0,
        features: list[str] | None = None,
    ) -> None:
        super().__init__(loss_weight, features)
        _check_options(wave, level, mode, form, high_frequency_only)
        self.wave = wave
        self.level = level
        self.high_frequency_only = high_frequency_only
        self.mode = mode
        self.form = form

    def distance(self, student: NetworkOutput, teacher: NetworkOutput, batch: Batch) -> Tensor:
        """Return the mean band distance, a 0-dim tensor."""
        image, target = pair_images(student, teacher)
        return wavelet_distance(
            image,
            target,
            wave=self.wave,
            level=self.level,
            high_frequency_only=self.high_frequency_only,
            mode=self.mode,
            form=self.form,
        )
