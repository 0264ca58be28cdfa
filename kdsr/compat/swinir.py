"""The masks of the shifted windows of BasicSR's SwinIR."""

from __future__ import annotations

import functools
from typing import Any

import torch
from basicsr.archs.swinir_arch import SwinTransformerBlock
from torch import Tensor

basicsr_calculate_mask = SwinTransformerBlock.calculate_mask


def calculate_mask(self: Any, x_size: tuple[int, int]) -> Tensor:
    """Keep the masks of image sizes other than the configured one, on the device where they are used.

    BasicSR makes them anew on the CPU in every block of every forward pass, 18 times for SwinIR-light, and the device
    waits for each. They depend on sizes alone.

    Args:
        self: The block.
        x_size: (h, w) of its input.

    Returns:
        (windows, window_size^2, window_size^2), 0 or -100.
    """
    exported = torch.compiler.is_compiling() or torch.jit.is_tracing() or any(type(side) is not int for side in x_size)
    if exported or not hasattr(self, 'attn_mask'):  # under construction, the mask becomes the block's own buffer
        return basicsr_calculate_mask(self, x_size)
    return _cached_mask(tuple(x_size), self.window_size, self.shift_size, self.norm1.weight.device)


@functools.lru_cache(maxsize=4)
def _cached_mask(size: tuple[int, int], window_size: int, shift_size: int, device: torch.device) -> Tensor:
    with torch.inference_mode(False):  # a mask first used in a validation must still serve the training
        block = SwinTransformerBlock.__new__(SwinTransformerBlock)
        vars(block).update(window_size=window_size, shift_size=shift_size)
        return basicsr_calculate_mask(block, size).to(device)
