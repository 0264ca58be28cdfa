"""Anyone's pretrained network: whatever file the spandrel library recognises, as a frozen teacher."""

from __future__ import annotations

from typing import Any

from basicsr.utils import get_root_logger
from basicsr.utils.registry import ARCH_REGISTRY
from torch import Tensor, nn
from torch.nn import functional as F

from kdsr.distillation.checkpoint import read_checkpoint
from kdsr.errors import UserError
from kdsr.wording import installing


@ARCH_REGISTRY.register()
class Spandrel(nn.Module):
    """A pretrained super-resolution network with the architecture that its file's weights give away.

    spandrel (https://github.com/chaiNNer-org/spandrel) knows CRAFT, DAT, HAT, SwinIR, OmniSR and dozens more. The file
    is read as tensors and plain values only, never by spandrel itself. The network stays frozen; taps begin with
    `model.`, for example `model.layers.2`.

    Args:
        path: Checkpoint file, .safetensors or a dictionary of weights.
        upscale: S, if given: the file must be of this scale.

    Attributes:
        multiple: What the sides of its input are padded to be multiples of.
        upscale: S, of the file.
        input_channels: 3.

    Shape:
        input: (N, 3, h, w), RGB in [0, 1], any size; output: (N, 3, S*h, S*w), about [0, 1].

    Raises:
        UserError: spandrel is not installed, the file is missing, holds code, or is of an unknown architecture, scale
            or colour.
    """

    brings_weights = True  # so that a teacher of this type needs no `path` of its own
    input_channels = 3

    def __init__(self, path: str, upscale: int | None = None) -> None:
        super().__init__()
        descriptor = _recognise(str(path))
        if upscale is not None and descriptor.scale != upscale:
            raise UserError(f'{path!r} is a network for x{descriptor.scale}, `upscale: {upscale}` asks for another.')
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
        return self._call(self.model, self._padded(x))[..., : height * self.upscale, : width * self.upscale]

    def train(self, mode: bool = True) -> Spandrel:
        """Stay in eval mode, as a frozen network must."""
        return super().train(False)

    def _padded(self, x: Tensor) -> Tensor:
        """Pad right and bottom to the sizes that the network can take: reflected as far as there is an image."""
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


def _recognise(path: str) -> Any:
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
            f'{path!r} holds weights of no architecture that spandrel {spandrel.__version__} knows. If BasicSR or kdsr '
            'has it, name it as the `type:` of the network, with its settings; `kdsr convert` knows official files.'
        ) from None
    except Exception as error:  # dozens of architectures, each with checks of its own
        raise UserError(f'{path!r} cannot be loaded by spandrel {spandrel.__version__}: {error}') from None
    if not isinstance(descriptor, spandrel.ImageModelDescriptor) or descriptor.purpose != 'SR':
        raise UserError(f'{path!r} is a network for {descriptor.purpose}, not for super-resolution (SR).')
    get_root_logger().info(
        f'{path}: {descriptor.architecture.name} x{descriptor.scale} ({", ".join(descriptor.tags)}), '
        f'all {len(descriptor.model.state_dict())} tensors loaded.'
    )
    return descriptor
