"""The losses written plainly from their equations: what benchmarks/losses.py measures kdsr's against.

Each takes (loss, student, teacher, batch), the last three as the loss itself does; `loss` lends its options and its
regressors. They hold whatever the equation names: affinity matrices, all pairs of samples, transforms of both images.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from kdsr.distillation.adapters import helper_key
from kdsr.distillation.distillation_loss import DistillationLoss
from kdsr.distillation.outputs import Batch, NetworkOutput


def l1(loss: DistillationLoss, student: NetworkOutput, teacher: NetworkOutput, batch: Batch) -> Tensor:
    """Mean |S - T|."""
    return F.l1_loss(student.sr, teacher.sr)


def haar(loss: DistillationLoss, student: NetworkOutput, teacher: NetworkOutput, batch: Batch) -> Tensor:
    """Both images transformed by a convolution of stride 2, band by band."""
    signs = torch.tensor([[1.0, 1, 1, 1], [1, -1, 1, -1], [1, 1, -1, -1], [1, -1, -1, 1]])
    kernels = signs.view(4, 1, 2, 2) / 2
    low, total = [x.sr.flatten(0, 1)[:, None] for x in (student, teacher)], torch.zeros(())
    for _ in range(loss.level):
        ours, theirs = (F.conv2d(x, kernels, stride=2) for x in low)
        total = total + sum((ours[:, i] - theirs[:, i]).abs().mean() for i in (1, 2, 3))
        low = [ours[:, :1], theirs[:, :1]]
    return (total + F.l1_loss(*low)) / (3 * loss.level + 1)


def fft(loss: DistillationLoss, student: NetworkOutput, teacher: NetworkOutput, batch: Batch) -> Tensor:
    """The full complex transform of both images."""
    ours, theirs = (torch.fft.fft2(x.sr, norm='ortho') for x in (student, teacher))
    return 255 * (ours - theirs).abs().mean()


def fft_dct(x: Tensor) -> Tensor:
    """DCT-II along the last axis, unnormalised: even samples, odd ones reversed, a complex FFT (Makhoul 1980)."""
    size = x.shape[-1]
    spectrum = torch.fft.fft(torch.cat([x[..., ::2], x[..., 1::2].flip(-1)], -1))
    angle = torch.arange(size) * math.pi / (2 * size)
    return 2 * (spectrum.real * angle.cos() + spectrum.imag * angle.sin())


def dct(loss: DistillationLoss, student: NetworkOutput, teacher: NetworkOutput, batch: Batch) -> Tensor:
    """Both images transformed along both axes."""
    ours, theirs = (fft_dct(fft_dct(x.sr).mT).mT for x in (student, teacher))
    return (ours - theirs).abs().mean()


def csd(loss: DistillationLoss, student: NetworkOutput, teacher: NetworkOutput, batch: Batch) -> Tensor:
    """Between the images themselves, every sample beside every negative."""
    ours, theirs = 255 * student.sr, 255 * teacher.sr
    blurred = 255 * F.interpolate(batch.lq[: loss.num_negatives], size=ours.shape[-2:], mode='bicubic')
    far = (ours[:, None] - blurred).abs().mean((2, 3, 4)).sum(1).mean()
    return (ours - theirs).abs().mean() / (far + 1e-7)


def regressed(loss: DistillationLoss, student: NetworkOutput, teacher: NetworkOutput) -> list[tuple[Tensor, Tensor]]:
    """Return the pairs of features, the student's through the regressor where the loss has one."""
    own = getattr(loss, 'regressors', {})
    return [
        (own[helper_key(name)](ours) if len(own) else ours, theirs)
        for name, ours, theirs in loss.pairs(student, teacher)
    ]


def fitnet(loss: DistillationLoss, student: NetworkOutput, teacher: NetworkOutput, batch: Batch) -> Tensor:
    """L1 after a 1x1 convolution and ReLU."""
    return sum(F.l1_loss(ours, theirs) for ours, theirs in regressed(loss, student, teacher))


def attention(loss: DistillationLoss, student: NetworkOutput, teacher: NetworkOutput, batch: Batch) -> Tensor:
    """Normalised maps of squared activations."""
    pairs = [[F.normalize(x.square().mean(1).flatten(1)) for x in pair] for pair in regressed(loss, student, teacher)]
    return sum((ours - theirs).square().mean() for ours, theirs in pairs)


def affinity(loss: DistillationLoss, student: NetworkOutput, teacher: NetworkOutput, batch: Batch) -> Tensor:
    """Two matrices of (N, H*W, H*W)."""

    def matrix(feature: Tensor) -> Tensor:
        columns = feature.flatten(2)
        columns = columns / (columns.norm(dim=1, keepdim=True) + 1e-8)
        return columns.mT @ columns

    return sum((matrix(a) - matrix(b)).abs().mean() for a, b in regressed(loss, student, teacher))


def lsfd(loss: DistillationLoss, student: NetworkOutput, teacher: NetworkOutput, batch: Batch) -> Tensor:
    """The map times the difference of the normalised features."""
    total = torch.zeros(())
    for ours, theirs in regressed(loss, student, teacher):
        apart = (student.sr - teacher.sr).abs().sum(1, keepdim=True).detach()
        attention = 255 * F.avg_pool2d(apart, apart.shape[-1] // ours.shape[-1])
        ours, theirs = (x / x.flatten(1).norm(dim=1).view(-1, 1, 1, 1) for x in (ours, theirs))
        total = total + 10 * (attention * (ours - theirs).abs()).mean()
    return total


def facd(loss: DistillationLoss, student: NetworkOutput, teacher: NetworkOutput, batch: Batch) -> Tensor:
    """All pairs of samples side by side, (N, N, C, H, W)."""
    to_gt, gap, to_teacher = (
        (a - b).abs().mean((1, 2, 3))
        for a, b in ((student.sr, batch.gt), (teacher.sr, batch.gt), (student.sr, teacher.sr))
    )
    alpha = (to_gt >= gap).float().detach()
    total = 255 * ((2 - alpha) * to_gt + alpha * to_teacher).mean() / 2
    for weight, (ours, theirs) in zip(loss.layer_weights, regressed(loss, student, teacher)):
        pairs = (ours[:, None] - theirs).abs().mean((2, 3, 4))
        total = total + 4 * weight * (alpha * pairs.diagonal()).sum() / (pairs.triu(1).sum() + 1e-8)
    return total
