"""Local attribution maps: which pixels of its input a super-resolution network uses for one window of its output.

Gu, Dong, Interpreting Super-Resolution Networks with Local Attribution Maps, CVPR 2021; MTKD shows them in its Fig. 4.
The input x moves along a path from blurred to sharp, x_0 ... x_T = x. The gain of the network along the path is
attributed to the pixels that changed:

    attribution = sum_{i=1..T} dD(F(x_i)) / dx_i * (x_i - x_{i-1}),    D(I) = sum of |grad I| inside the window

The attributions sum up to D(F(x_T)) - D(F(x_0)) (completeness), up to the error of the sum for the integral.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

SIGMA, KERNEL, STEPS, WINDOW = 1.2, 9, 50, 16  # values of the authors' example
SHARP = 1e-5  # added to sigma; with sigma 0 the kernel is then a one among zeros
CHUNK = {'cpu': 1, 'cuda': 10}  # images of the path that run at once; on a CPU more only cost memory


@dataclass(frozen=True)
class OutputWindow:
    """A square of the super-resolved image: its top left pixel, and its side, in pixels."""

    top: int
    left: int
    size: int = WINDOW


@dataclass(frozen=True)
class BlurPath:
    """How an input is blurred along its path.

    Attributes:
        sigma: Standard deviation of the Gaussian at the blurred end, in pixels of the input.
        kernel: Side of the Gaussian kernel, odd.
        steps: T, the number of steps.
    """

    sigma: float = SIGMA
    kernel: int = KERNEL
    steps: int = STEPS

    def scaled(self, factor: int) -> BlurPath:
        """Return the same blur for an image whose pixels are `factor` times smaller."""
        return BlurPath(self.sigma * factor, self.kernel // 2 * factor * 2 + 1, self.steps)


@dataclass(frozen=True)
class Attribution:
    """The attribution of one window of a network's output.

    Attributes:
        values: (C, h, w): the attribution of each value of the input.
        sr: (C', S*h, S*w): the network's output for the sharp input.
        gain: D(F(x_T)) - D(F(x_0)); the values sum up to about that.
    """

    values: Tensor
    sr: Tensor
    gain: float

    @property
    def covered(self) -> float:
        """The sum of the values divided by the gain: 1 where there are enough steps; nan where there is no gain."""
        return float(self.values.double().sum()) / self.gain if self.gain else float('nan')


def make_gaussian_line(size: int, sigma: float) -> Tensor:
    """Return one line of a separable Gaussian kernel that sums to 1, (size,), float64."""
    position = torch.arange(size, dtype=torch.float64) - size // 2
    line = torch.exp(-(position**2) / (2 * (sigma + SHARP) ** 2))
    return line / line.sum()


def make_blur_path(image: Tensor, path: BlurPath) -> Tensor:
    """Return the path from the blurred image to the image itself; the border is reflected (c b | a b c).

    Args:
        image: (C, h, w); both sides are larger than half of the kernel.
        path: How to blur; sigma falls linearly to 0.

    Returns:
        (T + 1, C, h, w).
    """
    sigmas = np.linspace(path.sigma, 0.0, path.steps + 1)
    half = path.kernel // 2
    planes = F.pad(image[:, None].double(), (half, half, half, half), 'reflect')  # (C, 1, ...)
    lines = torch.stack([make_gaussian_line(path.kernel, float(sigma)) for sigma in sigmas]).to(image.device)
    blurred = F.conv2d(planes, lines[:, None, None, :])  # (C, T + 1, ...)
    blurred = F.conv2d(blurred, lines[:, None, :, None], groups=len(sigmas))
    return blurred.transpose(0, 1).to(image.dtype)


def detect_gradient(images: Tensor, window: OutputWindow) -> Tensor:
    """Return D: the sum over window and channels of sqrt(dy^2 + dx^2), with differences to the next row and column.

    Args:
        images: (N, C, H, W).
        window: Inside the images. The last row and column of an image have no difference.

    Returns:
        (N,).
    """
    rows, columns = (slice(start, start + window.size) for start in (window.top, window.left))
    down = (images[..., :-1, :-1] - images[..., 1:, :-1])[..., rows, columns]
    right = (images[..., :-1, :-1] - images[..., :-1, 1:])[..., rows, columns]
    # vector_norm has the gradient 0 at 0, where the root of a sum has none
    return torch.linalg.vector_norm(torch.stack([down, right]), dim=0).sum(dim=(1, 2, 3))


def attribute(
    network: Callable[[Tensor], Tensor], image: Tensor, window: OutputWindow, path: BlurPath | None = None
) -> Attribution:
    """Compute the local attribution of one window.

    Args:
        network: Maps (N, C, h, w) to (N, C', S*h, S*w), differentiably; its parameters need no gradients.
        image: (C, h, w), in [0, 1]: the input.
        window: The window in the network's output.
        path: How to blur; None takes the authors' path.
    """
    points = make_blur_path(image, path or BlurPath())
    values = torch.zeros_like(image)
    count = CHUNK.get(image.device.type, 1)
    for start in range(1, len(points), count):
        chunk = points[start : start + count].detach().requires_grad_()
        with torch.enable_grad():
            detected = detect_gradient(network(chunk), window)
            gradients = torch.autograd.grad(detected.sum(), chunk)[0]
        steps = points[start : start + count] - points[start - 1 : start - 1 + len(chunk)]
        values += (gradients * steps).sum(dim=0)
    with torch.no_grad():
        blurred, sharp = network(points[:1]), network(points[-1:])
    gain = detect_gradient(sharp, window) - detect_gradient(blurred, window)
    return Attribution(values, sharp[0], float(gain))


def make_attribution_map(values: Tensor) -> np.ndarray:
    """Return the absolute value of the sum over the channels: (C, h, w) to (h, w)."""
    return values.sum(dim=0).abs().double().cpu().numpy()


def compute_gini(values: np.ndarray) -> float:
    """Return the Gini coefficient of values from 0: 0 where all are equal, near 1 where one value has the whole sum."""
    ordered = np.sort(np.asarray(values, np.float64).ravel()) + 1e-7
    n = len(ordered)
    return float(((2 * np.arange(1, n + 1) - n - 1) * ordered).sum() / (n * ordered.sum()))


def compute_diffusion_index(attributions: np.ndarray) -> float:
    """Return DI = 100 (1 - Gini) of an attribution map: larger where more pixels are used, in 0..100."""
    top = float(attributions.max())
    return 100 * (1 - compute_gini(attributions / top if top else attributions))


def find_most_textured_window(image: np.ndarray, size: int = WINDOW) -> OutputWindow:
    """Return the window with the largest sum of gradient magnitudes.

    Args:
        image: (H, W, 3) or (H, W), any range, larger than the window.
        size: Side of the window.
    """
    planes = np.atleast_3d(image).astype(np.float64)
    down, right = planes[:-1, :-1] - planes[1:, :-1], planes[:-1, :-1] - planes[:-1, 1:]
    sums = cv2.boxFilter(np.hypot(down, right).sum(axis=2), -1, (size, size), anchor=(0, 0), normalize=False)
    height, width = (side - size for side in planes.shape[:2])
    top, left = np.unravel_index(int(sums[:height, :width].argmax()), (height, width))
    return OutputWindow(int(top), int(left), size)
