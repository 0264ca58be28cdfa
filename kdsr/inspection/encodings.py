"""What the encoder of PISR's teacher makes of the ground truth, beside the low-quality image (PISR, Fig. 3)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from basicsr.utils import tensor2img
from torch import Tensor, nn

from kdsr import options, plugins
from kdsr.distillation.padding import run_padded
from kdsr.errors import UserError
from kdsr.experiment import Experiment, read_experiment
from kdsr.metrics import check_finite, psnr_of_error, score
from kdsr.networks.shown_images import ShownImages
from kdsr.networks.subjects import find_weights, read_weights_of

SMALLEST_ERROR = 1e-12  # equal images get 120 dB instead of infinity


@dataclass(frozen=True)
class PrivilegedRun:
    """A trained teacher of PISR.

    Attributes:
        name: Of the experiment, for tables and pictures.
        experiment: The experiment.
        network: With its weights, in eval mode.
        weights: Their file.
    """

    name: str
    experiment: Experiment
    network: nn.Module
    weights: str

    @torch.no_grad()
    def encode(self, gt: Tensor) -> Tensor:
        """Return the compact feature (1, C, h, w) of a ground truth (1, C, S*h, S*w)."""
        return self.network.get_submodule('encoder')(gt)

    @torch.no_grad()
    def restore(self, gt: Tensor) -> Tensor:
        """Return the image that the teacher makes of a ground truth; both (1, C, S*h, S*w)."""
        return run_padded(self.network, gt, self.experiment.trained.multiple)


@dataclass(frozen=True)
class Encoding:
    """The compact feature of one image.

    Attributes:
        run: Name of the run.
        image: Names of set and image.
        lq, gt, code: (1, C, h, w), (1, C, S*h, S*w), (1, C, h, w): the pair and the compact feature.
        psnr: Of the compact feature against the low-quality image, in dB, peak 1.
        correlation: Pearson's, of the compact feature and the low-quality image; it does not depend on the size of the
            feature. 0 where one of them is constant.
        restored: PSNR in dB of the teacher's image, in 8 bits, S pixels cut from each border.
    """

    run: str
    image: str
    lq: Tensor
    gt: Tensor
    code: Tensor
    psnr: float
    correlation: float
    restored: float


def load_privileged(option_file: str, iteration: str = 'latest', overrides: Sequence[str] = ()) -> PrivilegedRun:
    """Load a trained teacher of PISR from its option file.

    Raises:
        UserError: it trains something else, has no encoder, or is not trained yet.
    """
    opt = options.load_experiment(option_file, overrides)
    plugins.import_named(opt.get('import_modules') or ())
    experiment = read_experiment(opt)
    if experiment.trained.input != 'gt':
        raise UserError(f'{option_file}: its network does not see the ground truth (`PrivilegedTeacherModel`).')
    weights = find_weights(experiment, iteration, option_file)
    network = read_weights_of(experiment, lambda: weights, 'cpu')
    if not hasattr(network, 'encoder'):
        kind = experiment.trained.opt['type']
        raise UserError(f'{option_file}: {kind} has no `encoder`, so there is no compact feature to look at.')
    return PrivilegedRun(experiment.name, experiment, network, weights)


def find_encodings(
    runs: Sequence[PrivilegedRun], folders: Sequence[str] = (), count: int | None = None
) -> list[Encoding]:
    """Run encoders and decoders on the images of the first run's sets.

    Args:
        runs: Teachers of one scale, for example with and without the imitation loss.
        folders: Folders of test sets instead of the validation sets.
        count: How many images of each set to take, from the first; None for all.

    Returns:
        Image after image, for each the runs in their order.

    Raises:
        UserError: the runs have different scales.
    """
    scales = {run.experiment.scale for run in runs}
    if len(scales) > 1:
        raise UserError(f'the runs have different scales: {", ".join(f"x{scale}" for scale in sorted(scales))}.')
    shown, scale = ShownImages(runs[0].experiment, folders), scales.pop()
    return [
        _encode(run, f'{name} {file}', lq, gt, scale)
        for name in shown.names()
        for file, lq, gt in shown.images(name, count)
        for run in runs
    ]


def _encode(run: PrivilegedRun, image: str, lq: Tensor, gt: Tensor, scale: int) -> Encoding:
    code = run.encode(gt)
    check_finite(code, run.name)
    error = float((code - lq).square().mean())
    restored = score(tensor2img(check_finite(run.restore(gt), run.name)), _luminance_of(gt), scale)[0]
    return Encoding(
        run=run.name,
        image=image,
        lq=lq,
        gt=gt,
        code=code,
        psnr=psnr_of_error(max(error, SMALLEST_ERROR), 1.0),
        correlation=float(torch.corrcoef(torch.stack([code.flatten(), lq.flatten()]))[0, 1].nan_to_num()),
        restored=restored,
    )


def _luminance_of(gt: Tensor) -> np.ndarray:
    """Return the ground truth in 0..255; a luminance is not rounded, as in PISR's tests."""
    return gt[0, 0].numpy() * np.float32(255) if gt.shape[1] == 1 else tensor2img(gt)


def slice_spectrum(image: Tensor) -> np.ndarray:
    """Return the magnitude of an image's Fourier transform along one line through its centre.

    Args:
        image: (1, C, h, w).

    Returns:
        (w // 2 + 1,): log10 of the magnitude at vertical frequency 0, from horizontal frequency 0 to the highest.
    """
    spectrum = torch.fft.rfft2(image[0].mean(0), norm='ortho')[0].abs()
    return spectrum.clamp(min=SMALLEST_ERROR).log10().numpy()


def find_range(images: Sequence[Tensor], left_out: float = 0.005) -> tuple[float, float]:
    """Return the range of the values of some images, at least 0..1; a small share at either end may lie outside.

    Args:
        images: Of any size, together.
        left_out: This share.
    """
    low, high = np.quantile(np.concatenate([image.numpy().ravel() for image in images]), [left_out, 1 - left_out])
    return min(float(low), 0.0), max(float(high), 1.0)


def count_pixels(image: Tensor, bins: int, low: float, high: float) -> np.ndarray:
    """Return the shares of the pixels in equal bins; values outside of [low, high] count in none."""
    counts, _ = np.histogram(image.numpy(), bins=bins, range=(low, high))
    return counts / image.numel()


def describe_runs(runs: Sequence[PrivilegedRun]) -> str:
    """Return the names of the runs and their weights."""
    return ', '.join(f'{run.name} ({os.path.basename(run.weights)})' for run in runs)
