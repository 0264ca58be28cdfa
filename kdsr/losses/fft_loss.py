"""Image distillation in the frequency domain of the Fourier transform (LSFD's FFT loss)."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from basicsr.utils.registry import LOSS_REGISTRY
from torch import Tensor

from kdsr.distillation.distillation_loss import DistillationLoss
from kdsr.distillation.outputs import Batch, NetworkOutput
from kdsr.distillation.precision import at_least_float32
from kdsr.errors import check_choice
from kdsr.losses.image_pair import pair_images
from kdsr.losses.loss_range import LossRange, check_loss_range, scale_to_range

Complex = Literal['modulus', 'real_imag']
FFTNorm = Literal['ortho', 'backward']
Plane = Literal['full', 'half']


def fourier_distance(
    image: Tensor,
    target: Tensor,
    complex: Complex = 'modulus',
    fft_norm: FFTNorm = 'ortho',
    plane: Plane = 'full',
) -> Tensor:
    """Return the mean L1 distance of the spectra of two real images; see :class:`FFTLoss` for the equation.

    Args:
        image: (N, C, H, W).
        target: Same shape.
        complex: 'modulus' or 'real_imag'.
        fft_norm: 'ortho' or 'backward'.
        plane: 'full' or 'half'.

    Returns:
        A 0-dim tensor, of at least single precision.

    Raises:
        UserError: unknown option value.
        ValueError: the shapes differ.
    """
    _check_options(complex, fft_norm, plane)
    if image.shape != target.shape:
        raise ValueError(f'Two images of one shape are needed, not {tuple(image.shape)} and {tuple(target.shape)}.')
    difference = at_least_float32(image) - at_least_float32(target)
    spectrum = torch.fft.rfft2(difference, norm=fft_norm)
    size = spectrum.abs() if complex == 'modulus' else torch.view_as_real(spectrum).abs().mean(-1)
    if plane == 'half':
        return size.mean()
    # The other half of a real image's spectrum mirrors this one, except for the columns that mirror themselves.
    alone = size[..., :1].sum() + (size[..., -1:].sum() if image.shape[-1] % 2 == 0 else 0)
    return (2 * size.sum() - alone) / difference.numel()


def _check_options(complex: str, fft_norm: str, plane: str) -> None:
    check_choice('complex', complex, get_args(Complex))
    check_choice('fft_norm', fft_norm, get_args(FFTNorm))
    check_choice('plane', plane, get_args(Plane))


@LOSS_REGISTRY.register()
class FFTLoss(DistillationLoss):
    """L1 between the Fourier spectra of the student's and the teacher's image, per channel over the whole image.

        L = mean |F(S) - F(T)|                                                  complex 'modulus', Eq. (6) of [1]
        L = mean of |Re(F(S) - F(T))| and |Im(F(S) - F(T))|                     complex 'real_imag'

    The transform is linear, so only the difference is transformed. Unlike a loss on magnitudes, this one sees phases.

    Departs from the paper: no; it does not state the norm of a complex number, the scale of the transform and the
    weight, so they are options.   Needs features: none.   Zero when student equals teacher: yes.

    Args:
        complex: 'modulus' or 'real_imag'.
        fft_norm: 'ortho' (the loss has the size of a pixel L1) or 'backward' (sqrt(H*W) times larger).
        plane: Mean over the 'full' frequency plane, or over the 'half' that determines a real image's spectrum.
        loss_range: 255 or 1: value for images in 0..255 or in [0, 1], see `kdsr/losses/loss_range.py`.
        loss_weight: Factor on the result.
        features: Ignored.

    Shape:
        student.sr, teacher.sr: (N, C, H, W), in [0, 1]; result: ().

    Raises:
        UserError: unknown option value.
        ValueError: the images differ in shape.

    References:
        [1] Park, Kwak. Local-Selective Feature Distillation for Single Image Super-Resolution. 2021.
            https://arxiv.org/abs/2111.10988

    Example:
        >>> import kdsr, torch
        >>> student, teacher = (kdsr.NetworkOutput(sr=torch.full((1, 3, 8, 8), grey)) for grey in (0.5, 0.9))
        >>> loss = kdsr.losses.FFTLoss(loss_range=1)
        >>> loss(student, teacher, kdsr.Batch(lq=torch.zeros(1, 3, 4, 4)))  # one coefficient of 64 is not 0: 3.2 / 64
        tensor(0.0500)
    """

    def __init__(
        self,
        complex: Complex = 'modulus',
        fft_norm: FFTNorm = 'ortho',
        plane: Plane = 'full',
        loss_range: LossRange = 255,
        loss_weight: float = 1.0,
        features: list[str] | None = None,
    ) -> None:
        super().__init__(loss_weight, features)
        _check_options(complex, fft_norm, plane)
        check_loss_range(loss_range)
        self.complex = complex
        self.fft_norm = fft_norm
        self.plane = plane
        self.loss_range = loss_range

    def distance(self, student: NetworkOutput, teacher: NetworkOutput, batch: Batch) -> Tensor:
        """Return the mean over all frequencies, a 0-dim tensor."""
        image, target = pair_images(student, teacher)
        value = fourier_distance(image, target, self.complex, self.fft_norm, self.plane)
        return scale_to_range(value, self.loss_range, image_term=True)
