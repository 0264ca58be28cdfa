"""Pretrained networks of many kinds: every file that the spandrel library recognises, as a frozen teacher."""

from __future__ import annotations

from typing import Any

from basicsr.utils import get_root_logger
from basicsr.utils.registry import ARCH_REGISTRY
from torch import Tensor, nn
from torch.nn import functional as F

from kdsr.distillation.checkpoint import read_checkpoint
from kdsr.errors import UserError
from kdsr.wording import counted, installing


@ARCH_REGISTRY.register()
class Spandrel(nn.Module):
    """A pretrained super-resolution network; the library spandrel recognises its architecture from the weights.

    spandrel (https://github.com/chaiNNer-org/spandrel) knows CRAFT, DAT, HAT, SwinIR, OmniSR and dozens more. kdsr
    reads the file itself, as tensors and plain values only. The network stays frozen. Its tap paths begin with
    `model.`, for example `model.layers.2`.

    Args:
        path: Checkpoint file: .safetensors, or a dictionary of weights.
        upscale: The scale that the file must have. Default: any.

    Attributes:
        multiple: The sides of the input are padded to multiples of this number.
        upscale: S, the scale of the file.
        input_channels: 3.

    Shape:
        input: (N, 3, h, w), RGB in [0, 1], any size; output: (N, 3, S*h, S*w), about [0, 1].

    Raises:
        UserError: spandrel is not installed; the file is missing or contains code; its architecture is unknown, or its
            scale or number of channels is wrong.

    Example:
        >>> import kdsr, os, tempfile, torch
        >>> from basicsr.archs.srvgg_arch import SRVGGNetCompact
        >>> path = os.path.join(tempfile.mkdtemp(), 'compact.pth')
        >>> torch.save(SRVGGNetCompact(num_conv=2, upscale=2).state_dict(), path)
        >>> network = kdsr.archs.Spandrel(path)
        >>> network(torch.rand(1, 3, 12, 10)).shape
        torch.Size([1, 3, 24, 20])
    """

    brings_weights = True  # a teacher of this type needs no `path`
    input_channels = 3

    def __init__(self, path: str, upscale: int | None = None) -> None:
        super().__init__()
        descriptor = _load_descriptor(str(path))
        if upscale is not None and descriptor.scale != upscale:
            raise UserError(f'{path!r} is a network for x{descriptor.scale}, not for `upscale: {upscale}`.')
        if (descriptor.input_channels, descriptor.output_channels) != (3, 3):
            raise UserError(
                f'{path!r} maps {descriptor.input_channels} channels to {descriptor.output_channels}; '
                'a teacher maps RGB to RGB.'
            )
        self.model: nn.Module = descriptor.model.eval().requires_grad_(False)
        self.upscale: int = descriptor.scale
        requirements = descriptor.size_requirements
        self.multiple: int = requirements.multiple_of
        self._minimum, self._square = requirements.minimum, requirements.square
        self._call = descriptor._call_fn  # a few architectures return more than the image

    def forward(self, x: Tensor) -> Tensor:
        """Return the super-resolved image (N, 3, S*h, S*w)."""
        height, width = x.shape[-2:]
        padded = self._pad(x)
        own = padded.clone() if padded is x else padded  # spandrel's RCAN multiplies its input by 255 in place
        return self._call(self.model, own)[..., : height * self.upscale, : width * self.upscale]

    def train(self, mode: bool = True) -> Spandrel:
        """Stay in eval mode, because the network is frozen."""
        return super().train(False)

    def _pad(self, x: Tensor) -> Tensor:
        """Pad right and bottom to a size that the network accepts: reflect if possible, then repeat the border."""
        height, width = (-(-max(side, self._minimum) // self.multiple) * self.multiple for side in x.shape[-2:])
        if self._square:
            height = width = max(height, width)
        for mode in ('reflect', 'replicate'):
            down, right = height - x.shape[-2], width - x.shape[-1]
            if mode == 'reflect':
                down, right = min(down, x.shape[-2] - 1), min(right, x.shape[-1] - 1)
            if down or right:
                x = F.pad(x, (0, right, 0, down), mode)
        return x


def _load_descriptor(path: str) -> Any:
    try:
        import spandrel
    except ImportError as error:
        raise UserError(f'`type: Spandrel` needs the spandrel library ({error}); {installing("spandrel")}') from None
    content = read_checkpoint(path)
    try:
        weights = spandrel.canonicalize_state_dict(content)
        descriptor = spandrel.ModelLoader().load_from_state_dict(weights)
    except spandrel.UnsupportedModelError:
        raise UserError(
            f'{path!r}: spandrel {spandrel.__version__} does not know the architecture of these weights. If BasicSR or '
            'kdsr has the network, name it as the `type:`, with its settings; `kdsr convert` converts official files.'
        ) from None
    except Exception as error:  # each of dozens of architectures has its own checks
        raise UserError(f'spandrel {spandrel.__version__} cannot load {path!r}: {error}') from None
    if not isinstance(descriptor, spandrel.ImageModelDescriptor) or descriptor.purpose != 'SR':
        raise UserError(f'{path!r} is a network for {descriptor.purpose}, not for super-resolution (SR).')
    get_root_logger().info(
        f'{path}: {descriptor.architecture.name} x{descriptor.scale} ({", ".join(descriptor.tags)}), '
        f'all {counted(len(descriptor.model.state_dict()), "tensor")} loaded.'
    )
    return descriptor
