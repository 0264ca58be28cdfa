"""The three-line API: a model file in, larger images out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from basicsr.utils.color_util import rgb2ycbcr_pt
from torch import Tensor

from kdsr.archs.bicubic import BicubicUpsample
from kdsr.deployment.card import Card, card_of
from kdsr.deployment.formats import onnx_runner
from kdsr.deployment.sources import bytes_per_pixel, read_model
from kdsr.deployment.tiles import Progress, fitting_tile, free_memory, run_in_tiles, smaller_tile
from kdsr.distillation.outputs import Batch
from kdsr.distillation.padding import run_padded
from kdsr.distillation.precision import autocast
from kdsr.distillation.tiling import self_ensemble
from kdsr.errors import UserError

PRECISIONS = ('fp32', 'fp16', 'bf16')
_TO_YCBCR = ((65.481, -37.797, 112.0), (128.553, -74.203, -93.786), (24.966, 112.0, -18.214))  # RGB in [0, 1], BT.601


@dataclass(frozen=True)
class Model:
    """A network that is ready to run, wherever it comes from.

    Attributes:
        name: Of the network.
        run: Maps (N, C, h, w) in [0, 1] to (N, C, S*h, S*w), any size.
        scale: S.
        luminance: C is 1, Y of BT.601; otherwise 3, RGB.
        multiple: Where tiles may start.
        bytes_per_pixel: What a forward pass holds for a low-resolution pixel; 0 where it is not known.
    """

    name: str
    run: Callable[[Tensor], Tensor]
    scale: int
    luminance: bool
    multiple: int
    bytes_per_pixel: int


class Upscaler:
    """Enlarge images with a model file.

        upscaler = Upscaler('rfdn_small_x2')
        image = upscaler(image)

    Args:
        model: A name of `kdsr zoo`, a checkpoint (of BasicSR, kdsr, official, or one that spandrel knows), a
            safetensors file of `kdsr export`, or an ONNX file.
        network: Options of the network, where the file does not tell: a mapping as text, or an option file.
        device: 'cpu', 'cuda', ...
        tile: Side of tiles in pixels of the small image, 0 for none, or 'auto': none as long as memory allows.
        overlap: What a tile sees around it. A network that looks no further than half of it gives what it gives for
            the whole image.
        batch: Tiles at a time.
        self_ensemble: The mean over the eight flips and turns of the image.
        precision: 'fp32', 'fp16' or 'bf16' (autocast); ONNX files run as they are.

    Attributes:
        scale: S.
        name: Of the network.

    Raises:
        UserError: the file is missing, damaged or unknown, or a setting does not fit.

    Example:
        >>> import kdsr, numpy
        >>> upscaler = kdsr.Upscaler('rfdn_tiny_x2')
        >>> upscaler(numpy.zeros((20, 24, 3), numpy.uint8)).shape
        (40, 48, 3)
    """

    def __init__(
        self,
        model: str,
        network: str | None = None,
        device: str = 'cpu',
        tile: int | str = 'auto',
        overlap: int = 32,
        batch: int = 1,
        self_ensemble: bool = False,
        precision: str = 'fp32',
    ) -> None:
        _check(tile, overlap, batch, precision, device)
        self._tile, self._overlap, self._batch = tile, overlap, batch
        self._eight = self_ensemble
        self._device = torch.device(device)
        if str(model).lower().endswith('.onnx'):
            self._model = _onnx_model(str(model), device, precision)
        else:
            self._model = _torch_model(str(model), network, self._device, precision)
        self.scale, self.name = self._model.scale, self._model.name

    def __call__(self, image: np.ndarray, progress: Progress = lambda share: None) -> np.ndarray:
        """Enlarge an image.

        Alpha is enlarged bicubically; so is the chroma where the network takes luminance.

        Args:
            image: (H, W) grey, (H, W, 2) grey and alpha, (H, W, 3) RGB or (H, W, 4) RGBA; uint8, uint16, or floating
                point in [0, 1].
            progress: Called with the share of the image that a step has done; the shares add up to 1.

        Returns:
            (S*H, S*W) or (S*H, S*W, channels) of the same type.

        Raises:
            UserError: another shape or type, or the memory is too small for the smallest tiles.
        """
        planes = _planes(image)
        channels = len(planes)
        colours = planes[: channels - 1 if channels in (2, 4) else channels]
        with torch.inference_mode():
            large = self._coloured(colours[None], progress)
            if len(colours) < channels:
                alpha = BicubicUpsample(self.scale)(planes[None, -1:])
                large = torch.cat([large, alpha], dim=1)
        return _pixels(large[0], image)

    def _coloured(self, image: Tensor, progress: Progress) -> Tensor:
        """Map (1, 1 or 3, h, w) to (1, 1 or 3, S*h, S*w), whatever the network takes."""
        grey = image.shape[1] == 1
        if not self._model.luminance:
            large = self._tiled(image.expand(-1, 3, -1, -1), progress)
            return large.mean(dim=1, keepdim=True) if grey else large
        if grey:
            return (self._tiled((16 + 219 * image) / 255, progress) * 255 - 16) / 219
        ycbcr = rgb2ycbcr_pt(image)
        luminance = self._tiled(ycbcr[:, :1], progress)
        return _ycbcr_to_rgb(torch.cat([luminance, BicubicUpsample(self.scale)(ycbcr[:, 1:])], dim=1))

    def _tiled(self, image: Tensor, progress: Progress) -> Tensor:
        """Run the network in the tiles that memory allows, and in smaller ones where it did not after all."""
        model, (height, width) = self._model, image.shape[-2:]
        answer = self._answer
        if self._eight:
            answer = lambda lq: self_ensemble(lambda batch: self._answer(batch.lq), Batch(lq))  # noqa: E731
        tile: int | None = self._tile if isinstance(self._tile, int) else None
        if tile is None:
            free = free_memory(self._device)
            tile = fitting_tile(height, width, model.bytes_per_pixel, free, self._overlap, self._batch)
        while True:
            done = 0.0

            def told(share: float) -> None:
                nonlocal done
                done += share
                progress(share)

            try:
                return run_in_tiles(
                    answer, image, model.scale, tile, self._overlap, model.multiple, self._batch, told
                ).clamp(0, 1)
            except torch.cuda.OutOfMemoryError as error:
                smaller = smaller_tile(tile, height, width) if self._tile == 'auto' else None
                progress(-done)
                if smaller is None:
                    raise UserError(
                        f'{height}x{width} pixels in tiles of {tile or "the whole image"} need more memory than '
                        f'{self._device} has: --tile auto, or a smaller one.'
                    ) from error
                torch.cuda.empty_cache()
                tile = smaller

    def _answer(self, lq: Tensor) -> Tensor:
        return self._model.run(lq.contiguous())


def _check(tile: int | str, overlap: int, batch: int, precision: str, device: str) -> None:
    if tile != 'auto' and (not isinstance(tile, int) or tile < 0):
        raise UserError(f"tile must be 'auto', 0 (whole images) or a number of pixels, not {tile!r}.")
    if overlap < 0 or batch < 1:
        raise UserError(f'overlap must be at least 0 and batch at least 1, not {overlap} and {batch}.')
    if precision not in PRECISIONS:
        raise UserError(f'precision must be one of {", ".join(PRECISIONS)}, not {precision!r}.')
    if torch.device(device).type == 'cuda' and not torch.cuda.is_available():
        raise UserError(f'--device {device}: PyTorch sees no GPU here.')


def _torch_model(path: str, network: str | None, device: torch.device, precision: str) -> Model:
    one, card = read_model(path, network)
    assert one.network is not None
    module = one.network.to(device)

    def run(lq: Tensor) -> Tensor:
        with autocast(device, precision):
            return run_padded(module, lq.to(device), one.multiple).float()

    memory = card.bytes_per_pixel if card else bytes_per_pixel(one)
    return Model(one.name, run, one.scale, one.luminance, one.multiple, memory)


def _onnx_model(path: str, device: str, precision: str) -> Model:
    if precision != 'fp32':
        raise UserError(f'{path!r}: an ONNX file has its own precision; --fp16 and --bf16 are for checkpoints.')
    run = onnx_runner(path, device)
    session = run.session  # type: ignore[attr-defined]
    card: Card | None = card_of(session.get_modelmeta().custom_metadata_map, path)
    given = session.get_inputs()[0].shape
    sides = given[2:] if len(given) == 4 else ()
    if len(sides) != 2 or any(isinstance(side, int) for side in sides):
        raise UserError(f'{path!r} takes images of the shape {given} only; export it without --size.')
    if card is not None:
        return Model(card.name, run, card.scale, card.luminance, card.multiple, card.bytes_per_pixel)
    if given[1] not in (1, 3):
        raise UserError(f'{path!r} takes {given[1]} channels; only RGB and luminance networks enlarge images.')
    try:
        scale = run(torch.zeros(1, given[1], 32, 32)).shape[-1] // 32
    except Exception as error:  # onnxruntime's, of a file of unknown origin
        raise UserError(f'{path!r} fails on an image of 32x32: {error}') from None
    return Model(path, run, scale, given[1] == 1, 1, 0)


def _planes(image: np.ndarray) -> Tensor:
    """Map (H, W) or (H, W, C) to (C, H, W) in [0, 1], single precision."""
    if image.ndim not in (2, 3) or image.size == 0 or (image.ndim == 3 and not 1 <= image.shape[2] <= 4):
        raise UserError(f'an image is (H, W), or (H, W, C) with 1 to 4 channels, not {image.shape}.')
    if image.dtype in (np.uint8, np.uint16):
        image = image.astype(np.float32) / np.iinfo(image.dtype).max
    elif not np.issubdtype(image.dtype, np.floating):
        raise UserError(f'an image is uint8, uint16, or floating point in [0, 1], not {image.dtype}.')
    planes = image[None] if image.ndim == 2 else image.transpose(2, 0, 1)
    return torch.from_numpy(np.ascontiguousarray(planes, np.float32))


def _pixels(planes: Tensor, like: np.ndarray) -> np.ndarray:
    """Map (C, H, W) around [0, 1] to the layout and type of another image."""
    pixels = planes.clamp(0, 1).permute(1, 2, 0).numpy()
    if not np.issubdtype(like.dtype, np.floating):
        pixels = np.rint(pixels * np.float32(np.iinfo(like.dtype).max))
    pixels = np.ascontiguousarray(pixels.astype(like.dtype))
    return pixels[..., 0] if like.ndim == 2 else pixels


def _ycbcr_to_rgb(image: Tensor) -> Tensor:
    """Map (1, 3, H, W) from Y, Cb, Cr of BT.601, divided by 255, to RGB in [0, 1]: the inverse of `rgb2ycbcr_pt`."""
    offset = torch.tensor([16.0, 128.0, 128.0]).view(1, 3, 1, 1)
    back = torch.linalg.inv(torch.tensor(_TO_YCBCR, dtype=torch.float64)).float()
    return torch.einsum('nchw,cd->ndhw', 255 * image - offset, back)
