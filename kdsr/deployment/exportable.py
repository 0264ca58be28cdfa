"""Make a network exportable: the same function, written so that every image size survives tracing."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch
from basicsr.archs import swinir_arch
from torch import Tensor, nn

from kdsr.archs.transposed_conv import EnlargingConvTranspose2d, subpixel_kernel


class AnySize(nn.Module):
    """A network whose windows need sides of some multiple, padded inside, so that its file takes any image.

    Right and bottom are reflected, as in `kdsr.distillation.padding`; of an image smaller than what has to be added,
    the first row or column is repeated.

    Args:
        network: Maps (N, C, h, w) to (N, C', S*h, S*w).
        multiple: Of the sides; 1 for none.
        scale: S.
    """

    def __init__(self, network: nn.Module, multiple: int, scale: int) -> None:
        super().__init__()
        self.network, self.multiple, self.scale = network, multiple, scale

    def forward(self, x: Tensor) -> Tensor:
        """Return the enlarged image."""
        if self.multiple == 1:
            return self.network(x)
        height, width = x.shape[2], x.shape[3]
        x = x.index_select(2, _reflected(height, self.multiple, x.device))
        x = x.index_select(3, _reflected(width, self.multiple, x.device))
        return self.network(x)[:, :, : self.scale * height, : self.scale * width]


def _reflected(size: int, multiple: int, device: torch.device) -> Tensor:
    """Return the rows to take: all of them, and mirrored ones up to the next multiple."""
    index = torch.arange((size + multiple - 1) // multiple * multiple, device=device)
    return torch.where(index < size, index, (2 * size - 2 - index).clamp(min=0))


class FoldedTransposedConv(nn.Module):
    """The convolution and shuffle that equal a transposed convolution, with the rearranged weights kept.

    Args:
        layer: Whose weights to take.
    """

    def __init__(self, layer: EnlargingConvTranspose2d) -> None:
        super().__init__()
        self.scale = layer.stride[0]
        kernel = subpixel_kernel(layer.weight.detach(), self.scale)
        before = layer.kernel_size[0] // 2 // self.scale
        after = kernel.shape[-1] - 1 - before
        self.crop = after - before
        self.shuffle = nn.PixelShuffle(self.scale)
        self.conv = nn.Conv2d(kernel.shape[1], kernel.shape[0], kernel.shape[-1], padding=after)
        self.conv.weight = nn.Parameter(kernel.contiguous())
        bias = torch.zeros(layer.out_channels) if layer.bias is None else layer.bias.detach()
        self.conv.bias = nn.Parameter(bias.repeat_interleave(self.scale**2))

    def forward(self, x: Tensor) -> Tensor:
        """Return the enlarged map."""
        y = self.conv(x)
        return self.shuffle(y[:, :, self.crop :, self.crop :] if self.crop else y)


def exportable(network: nn.Module, multiple: int, scale: int) -> AnySize:
    """Return a copy of a network that can be traced, on the CPU, in eval mode, without gradients.

    Args:
        network: Of BasicSR or kdsr.
        multiple: What the sides of its input must be multiples of.
        scale: S.
    """
    network = copy.deepcopy(network).cpu().eval()
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, EnlargingConvTranspose2d):
                setattr(parent, name, FoldedTransposedConv(child))
            elif isinstance(child, nn.PReLU) and child.num_parameters == 1:
                # the same function, which onnxruntime computes together with the convolution before it
                setattr(parent, name, nn.LeakyReLU(child.weight.item()))
        if isinstance(parent, swinir_arch.SwinTransformerBlock):
            # BasicSR's keeps the mask of its training size and writes others slice by slice; a trace that begins at
            # the training size would keep that mask for every image.
            parent.input_resolution = None
            parent.calculate_mask = partial(shifted_window_mask, parent.window_size, parent.shift_size)
    return AnySize(network, multiple, scale).eval().requires_grad_(False)


def shifted_window_mask(window_size: int, shift_size: int, x_size: tuple[int, int]) -> Tensor:
    """Return what SwinIR adds to its attention: 0 where two tokens may see each other, -100 elsewhere.

    Args:
        window_size: Tokens per side of a window.
        shift_size: Cyclic shift.
        x_size: (h, w) of the token map, multiples of `window_size`.

    Returns:
        (windows, window_size^2, window_size^2), or (1, ...) of zeros without a shift.
    """
    tokens = window_size * window_size
    if shift_size == 0:
        return torch.zeros(1, tokens, tokens)
    rows, columns = (_origin(size, window_size, shift_size) for size in x_size)
    labels = (3 * rows[:, None] + columns).view(-1, window_size, x_size[1] // window_size, window_size)
    labels = labels.permute(0, 2, 1, 3).reshape(-1, tokens)
    return (labels[:, None, :] != labels[:, :, None]).float() * -100.0


def _origin(size: int, window_size: int, shift_size: int) -> Tensor:
    """Return 0 before the last window, 1 in it, 2 for what the shift wrapped round."""
    position = torch.arange(size)
    return (position >= size - window_size).long() + (position >= size - shift_size).long()


@contextmanager
def traceable_windows() -> Iterator[None]:
    """Let SwinIR put its windows together without asking how many images there are.

    BasicSR computes that number with `int`, so that a trace keeps that of its example, and other batches come out
    scrambled, in the right shape.
    """
    original = swinir_arch.window_reverse
    swinir_arch.window_reverse = _window_reverse
    try:
        yield
    finally:
        swinir_arch.window_reverse = original


def _window_reverse(windows: Tensor, window_size: int, h: int, w: int) -> Tensor:
    """Map (N*windows, window_size, window_size, C) to (N, h, w, C)."""
    channels = windows.shape[-1]
    parts = windows.view(-1, h // window_size, w // window_size, window_size, window_size, channels)
    return parts.permute(0, 1, 3, 2, 4, 5).reshape(-1, h, w, channels)
