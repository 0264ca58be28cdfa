"""Image distillation in the frequency domain of the cosine transform (MTKD, ablation v6)."""

from __future__ import annotations

import functools
import math

import torch
from basicsr.utils.registry import LOSS_REGISTRY
from torch import Tensor

from kdsr.distillation.distillation_loss import DistillationLoss
from kdsr.distillation.outputs import Batch, NetworkOutput
from kdsr.losses.image_pair import check_choice, image_pair

DCT_NORMS = ('ortho', 'none')


def dct_matrix(size: int, norm: str = 'ortho') -> Tensor:
    """Return the DCT-II of `size` samples as a matrix (size, size) in double precision; row k is frequency k.

    'none' is ``2 * sum_n x[n] cos(pi k (2n + 1) / (2 size))``, the FFT libraries' unnormalised form; 'ortho' is that
    with rows scaled to length 1, so that the transpose is the inverse.

    Raises:
        ValueError: unknown `norm`.
    """
    check_choice('norm', norm, DCT_NORMS)
    position = torch.arange(size, dtype=torch.float64)
    matrix = 2 * torch.cos(math.pi / (2 * size) * position[:, None] * (2 * position + 1))
    if norm == 'ortho':
        matrix *= 1 / math.sqrt(2 * size)
        matrix[0] *= math.sqrt(0.5)
    return matrix


@functools.lru_cache(maxsize=16)
def _cached_matrix(size: int, norm: str, dtype: torch.dtype, device: torch.device) -> Tensor:
    with torch.inference_mode(False):  # a matrix first used in a validation must still serve the training
        return dct_matrix(size, norm).to(device, dtype)


def dct2(images: Tensor, norm: str = 'ortho') -> Tensor:
    """Return the two-dimensional DCT-II of every channel.

    Args:
        images: (..., H, W), single or double precision.
        norm: 'ortho', or 'none' for a factor of 2 per axis.

    Returns:
        (..., H, W); entry (0, 0) belongs to the mean.
    """
    rows = _cached_matrix(images.shape[-2], norm, images.dtype, images.device)
    columns = _cached_matrix(images.shape[-1], norm, images.dtype, images.device)
    with torch.autocast(images.device.type, enabled=False):
        return rows @ (images @ columns.T)


@LOSS_REGISTRY.register()
class DCTLoss(DistillationLoss):
    """L1 between the cosine spectra of the student's and the teacher's image, per channel over the whole image.

        L = mean |DCT2(S) - DCT2(T)|          [1], ablation v6

    The transform is linear, so only the difference is transformed.

    Departs from the paper: its scale of the transform is not stated; the authors' build was unnormalised ('none').
    Needs features: none.   Zero when student equals teacher: yes.

    Args:
        norm: 'ortho' (the loss has the size of a pixel L1) or 'none' (a factor of 2 per axis).
        loss_weight: Factor on the result.
        features: Ignored.

    Shape:
        student.sr, teacher.sr: (N, C, H, W), in [0, 1]; result: ().

    Raises:
        ValueError: unknown `norm`, or the images differ in shape.

    References:
        [1] Jiang, Feng, Zhang, Bull. MTKD: Multi-Teacher Knowledge Distillation for Image Super-Resolution. ECCV 2024.
            https://arxiv.org/abs/2404.09571
    """

    def __init__(self, norm: str = 'ortho', loss_weight: float = 1.0, features: list[str] | None = None) -> None:
        super().__init__(loss_weight, features)
        check_choice('norm', norm, DCT_NORMS)
        self.norm = norm

    def distance(self, student: NetworkOutput, teacher: NetworkOutput, batch: Batch) -> Tensor:
        """Return the mean over all coefficients, a 0-dim tensor."""
        image, target = image_pair(student, teacher)
        return dct2(image - target, self.norm).abs().mean()
