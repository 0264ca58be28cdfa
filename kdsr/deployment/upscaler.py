"""The three-line API: a model file in, larger images out."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, TypeVar, get_args

import numpy as np
import torch
from PIL import Image
from torch import nn

from kdsr.archs.bicubic import BicubicUpsample
from kdsr.deployment.alpha import spread_colours
from kdsr.deployment.borders import needed_border
from kdsr.deployment.card import read_card
from kdsr.deployment.engines import ENGINES, Engine, InstalledEngine, PixelRunner, Precision, installed_engine
from kdsr.deployment.reach import reach_of
from kdsr.deployment.sources import estimate_bytes_per_pixel, read_model
from kdsr.deployment.tiled_network import Progress, TiledNetwork, TileSettings
from kdsr.distillation.photo_probe import warn_if_worse
from kdsr.errors import UserError, check_choice
from kdsr.image_files.rows import in_blocks
from kdsr.networks.devices import find_device
from kdsr.networks.onnx_network import OnnxNetwork
from kdsr.optional_packages import is_installed

AlphaMode = Literal['bicubic', 'network']
AnyImage = TypeVar('AnyImage', np.ndarray, Image.Image)
_BLOCK = 64  # rows in which colours and alpha are put together
_ARRAYS = {1: 'L', 2: 'LA', 3: 'RGB', 4: 'RGBA'}


@dataclass(frozen=True)
class Model:
    """A network that is ready to run, wherever it comes from.

    Attributes:
        name: Of the network.
        network: Maps (N, C, h, w) in [0, 1] to (N, C, S*h, S*w), on its device; h and w are multiples of `multiple`.
        scale: S.
        luminance: C is 1, Y of BT.601; otherwise 3, RGB.
        multiple: What the sides of its input must be multiples of.
        bytes_per_pixel: What a forward pass holds for a low-resolution pixel; 0 where it is not known.
        reach: How many pixels it looks far; None where that is not known.
    """

    name: str
    network: nn.Module
    scale: int
    luminance: bool
    multiple: int
    bytes_per_pixel: int
    reach: int | None


class Upscaler:
    """Enlarge images with a model file.

        upscaler = Upscaler('rfdn_small_x2')
        image = upscaler(image)

    Args:
        model: A name of `kdsr zoo`, a checkpoint (of BasicSR, kdsr, official, or one that spandrel knows), a
            safetensors file of `kdsr export`, or an ONNX file.
        network: Options of the network, where the file does not tell: a mapping as text, or an option file.
        device: 'auto' (a GPU, if there is one), 'cpu', 'cuda', ...
        tile: Side of tiles in pixels of the small image, 0 for none, or 'auto': as memory allows.
        overlap: What a tile reads around it. A network that looks no further than half of it gives what it gives for
            the whole image. 'auto': as far as the network looks, where that is known; otherwise 32.
        batch: Tiles at a time.
        self_ensemble: The mean over the eight flips and turns of the image.
        precision: 'fp32', 'fp16' or 'bf16'; ONNX files run as they are.
        engine: What computes: 'torch', 'onnx' (onnxruntime), 'openvino'; 'auto' takes the fastest that is installed
            (docs/speed.md). Results differ by at most 1 level of 255.
        alpha: How transparency is enlarged: 'bicubic', or by the 'network' as a grey image.
        seamless: The image is a texture that is laid side by side; its enlargement fits to itself as well.
        notice: Called with a sentence when something else is done than asked for, or when a file that kdsr did not
            export is worse than bicubic upsampling on photos.

    Attributes:
        scale: S.
        name: Of the network.
        engine: What computes.
        border: Pixels that are put around the image and cut off again (`kdsr.deployment.borders`).

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
        model: str | os.PathLike[str],
        network: str | None = None,
        device: str = 'auto',
        tile: int | Literal['auto'] = 'auto',
        overlap: int | Literal['auto'] = 'auto',
        batch: int = 1,
        self_ensemble: bool = False,
        precision: Precision = 'fp32',
        *,
        engine: Engine = 'auto',
        alpha: AlphaMode = 'bicubic',
        seamless: bool = False,
        notice: Callable[[str], object] = lambda sentence: None,
    ) -> None:
        settings = TileSettings(tile, overlap, batch, self_ensemble, seamless)
        _check(settings, precision, engine, alpha)
        self._alpha, self._device = alpha, find_device(device)
        path = os.fspath(model)
        if path.lower().endswith('.onnx'):
            of_file = _engine_of_file(path, engine, precision, self._device)
            self._model = _onnx_model(path, of_file, engine == 'auto', self._device, notice)
            self.engine: InstalledEngine = of_file
            around: InstalledEngine = 'torch'
        else:
            self._model = _torch_model(path, network, self._device, notice)
            self.engine = around = installed_engine(engine, precision, self._device)
        self.scale, self.name = self._model.scale, self._model.name
        one = self._model
        self.border = needed_border(one.network, luminance=one.luminance, multiple=one.multiple, device=self._device)
        self._network = TiledNetwork(
            PixelRunner(
                one.network,
                scale=one.scale,
                luminance=one.luminance,
                multiple=one.multiple,
                engine=around,
                fall_back=engine == 'auto',
                device=self._device,
                precision=precision,
                notice=notice,
            ),
            scale=one.scale,
            multiple=one.multiple,
            reach=one.reach,
            border=self.border,
            bytes_per_pixel=one.bytes_per_pixel,
            device=self._device,
            settings=settings,
        )
        self._bicubic = _bicubic_network(one.scale, seamless)

    def __call__(self, image: AnyImage, progress: Progress = lambda share: None) -> AnyImage:
        """Enlarge an image.

        Args:
            image: (H, W) grey, (H, W, 2) grey and alpha, (H, W, 3) RGB or (H, W, 4) RGBA; uint8, uint16, or floating
                point in [0, 1]. Or an image of Pillow; palettes become RGB or RGBA.
            progress: Called with the share of the image that a step has done; the shares add up to 1.

        Returns:
            (S*H, S*W) or (S*H, S*W, channels) of the same type; an image of Pillow for an image of Pillow.

        Raises:
            UserError: another shape, type or range, or the memory is too small for the smallest tiles.
        """
        if isinstance(image, Image.Image):
            return _to_pillow(self(_from_pillow(image), progress), image)
        height, width = self.scale * image.shape[0], self.scale * image.shape[1] if image.ndim > 1 else 0
        large = np.empty((height, width, *image.shape[2:]), image.dtype)
        top = 0
        for block in self.rows(image, progress):
            large[top : top + len(block)] = block
            top += len(block)
        return large

    def rows(self, image: np.ndarray, progress: Progress = lambda share: None) -> Iterator[np.ndarray]:
        """Enlarge an image, and yield its rows as they get finished, so that the result need not be in memory.

        Args:
            image: As for a call, without images of Pillow.
            progress: Likewise.

        Yields:
            (rows, S*W) or (rows, S*W, channels) of the same type, from top to bottom.

        Raises:
            UserError: as for a call.
        """
        check_image(image)
        planes = image[..., None] if image.ndim == 2 else image
        floating = np.issubdtype(image.dtype, np.floating)
        planes = planes.astype(np.float32, copy=False) if floating else planes
        for block in self._planes(planes, progress):
            block = block[..., 0] if image.ndim == 2 else block
            yield block.astype(image.dtype, copy=False)

    def _planes(self, image: np.ndarray, progress: Progress) -> Iterator[np.ndarray]:
        if image.shape[2] not in (2, 4):
            yield from self._network.rows(image, progress)
            return
        colours, alpha = image[..., :-1], image[..., -1:]
        opaque = np.float32(1) if image.dtype == np.float32 else np.iinfo(image.dtype).max
        if (alpha == opaque).all():
            for block in self._network.rows(np.ascontiguousarray(colours), progress):
                yield np.concatenate([block, np.full((*block.shape[:2], 1), opaque, block.dtype)], axis=2)
            return
        by_network = self._alpha == 'network'
        share: Progress = (lambda done: progress(done / 2)) if by_network else progress
        streams = [
            self._network.rows(spread_colours(np.ascontiguousarray(colours), alpha[..., 0]), share),
            self._bicubic.rows(np.ascontiguousarray(alpha), lambda done: None),
        ]
        if by_network:
            streams.append(self._network.rows(np.ascontiguousarray(alpha), share))
        for colour, plain, *sharp in zip(*(in_blocks(stream, _BLOCK) for stream in streams)):
            if sharp:  # the network's rounding must not make what is opaque or invisible a little different
                plain = np.where((plain == 0) | (plain == opaque), plain, sharp[0])
            yield np.concatenate([colour, plain], axis=2)


def check_image(image: np.ndarray) -> None:
    """Refuse arrays that are not images.

    Raises:
        UserError: names the shape, the type or the range.
    """
    if image.ndim not in (2, 3) or image.size == 0 or (image.ndim == 3 and not 1 <= image.shape[2] <= 4):
        raise UserError(f'an image is (H, W), or (H, W, C) with 1 to 4 channels, not {image.shape}.')
    if image.dtype in (np.uint8, np.uint16):
        return
    if not np.issubdtype(image.dtype, np.floating):
        raise UserError(f'an image is uint8, uint16, or floating point in [0, 1], not {image.dtype}.')
    low, high = float(image.min()), float(image.max())
    if not (low >= -0.5 and high <= 1.5):  # NaN too; a little outside comes from resizing and is clipped
        raise UserError(
            f'an image in floating point has values in [0, 1], not in [{low:.6g}, {high:.6g}]: divide it by 255, or '
            'give uint8.'
        )


def _check(settings: TileSettings, precision: str, engine: str, alpha: str) -> None:
    tile, overlap = settings.tile, settings.overlap
    if tile != 'auto' and (not isinstance(tile, int) or tile < 0):
        raise UserError(f"tile must be 'auto', 0 (whole images) or a number of pixels, not {tile!r}.")
    if overlap != 'auto' and (not isinstance(overlap, int) or overlap < 0):
        raise UserError(f"overlap must be 'auto' or at least 0 pixels, not {overlap!r}.")
    if settings.batch < 1:
        raise UserError(f'batch must be at least 1, not {settings.batch}.')
    check_choice('precision', precision, get_args(Precision))
    check_choice('engine', engine, ENGINES)
    check_choice('alpha', alpha, get_args(AlphaMode))


def _torch_model(path: str, network: str | None, device: torch.device, notice: Callable[[str], object]) -> Model:
    one, card = read_model(path, network, notice)
    if one.network is None:
        raise UserError('bicubic is no network; name a model, for example rfdn_small_x2.')
    reach = reach_of(one.network, 1 if one.luminance else 3) if one.multiple == 1 else None
    memory = card.bytes_per_pixel if card else estimate_bytes_per_pixel(one)
    return Model(
        name=one.name,
        network=one.network.to(device),
        scale=one.scale,
        luminance=one.luminance,
        multiple=one.multiple,
        bytes_per_pixel=memory,
        reach=reach,
    )


def _engine_of_file(
    path: str, engine: Engine, precision: Precision, device: torch.device
) -> Literal['onnx', 'openvino']:
    if precision != 'fp32':
        raise UserError(f'{path!r}: an ONNX file has its own precision; --fp16 and --bf16 are for checkpoints.')
    if engine == 'torch':
        raise UserError(f'{path!r}: PyTorch does not run ONNX files; leave out --engine.')
    if engine == 'openvino' and device.type != 'cpu':
        raise UserError(f'--engine openvino runs on the CPU; on {device} use --engine onnx.')
    if engine == 'auto':
        return 'openvino' if device.type == 'cpu' and is_installed('openvino') else 'onnx'
    return engine


def _onnx_model(
    path: str,
    engine: Literal['onnx', 'openvino'],
    fall_back: bool,
    device: torch.device,
    notice: Callable[[str], object],
) -> Model:
    if not os.path.isfile(path):
        raise UserError(f'{path!r} does not exist (looked in {os.getcwd()!r}).')
    try:
        network = OnnxNetwork(path, engine, device.type)
    except UserError:
        if not fall_back or engine == 'onnx':
            raise
        network = OnnxNetwork(path, 'onnx', device.type)
    if network.sides is not None:
        raise UserError(
            f'{path!r} takes images of {network.sides[0]}x{network.sides[1]} pixels only; export it without --size.'
        )
    card, scale = read_card(network.metadata, path), network.scale()
    if card is None:
        warning = warn_if_worse(path, network, scale, network.channels)
        if warning:
            notice(warning)
        return Model(
            name=path,
            network=network,
            scale=scale,
            luminance=network.channels == 1,
            multiple=1,
            bytes_per_pixel=0,
            reach=None,
        )
    if card.scale != scale or card.luminance != (network.channels == 1):
        raise UserError(f'{path!r}: its metadata says x{card.scale}, but it enlarges by {scale}: it is damaged.')
    return Model(
        name=card.name,
        network=network,
        scale=scale,
        luminance=card.luminance,
        multiple=card.multiple,
        bytes_per_pixel=card.bytes_per_pixel,
        reach=card.reach,
    )


def _bicubic_network(scale: int, seamless: bool) -> TiledNetwork:
    """Return what enlarges alpha: bicubic as MATLAB's, which looks two pixels far and mirrors the border."""
    cpu = torch.device('cpu')
    runner = PixelRunner(
        _GreyBicubic(scale),
        scale=scale,
        luminance=False,
        multiple=1,
        engine='torch',
        fall_back=False,
        device=cpu,
        precision='fp32',
        notice=lambda sentence: None,
    )
    return TiledNetwork(
        runner,
        scale=scale,
        multiple=1,
        reach=2,
        border=2,
        bytes_per_pixel=64 * scale**2,
        device=cpu,
        settings=TileSettings(seamless=seamless),
    )


class _GreyBicubic(nn.Module):
    """Bicubic of the first of three equal channels: a grey image as RGB networks are shown it."""

    def __init__(self, scale: int) -> None:
        super().__init__()
        self._bicubic = BicubicUpsample(scale)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self._bicubic(image[:, :1])


def _from_pillow(image: Image.Image) -> np.ndarray:
    if image.mode in ('P', 'PA', '1', 'RGBX', 'YCbCr'):
        transparent = image.mode == 'PA' or 'transparency' in image.info
        image = image.convert('L' if image.mode == '1' else 'RGBA' if transparent else 'RGB')
    if image.mode not in (*_ARRAYS.values(), 'I;16'):
        raise UserError(f'an image of the mode {image.mode}; convert it to L, LA, RGB, RGBA or I;16.')
    return np.asarray(image)


def _to_pillow(large: np.ndarray, like: Image.Image) -> Image.Image:
    result = Image.fromarray(large)
    result.info.update({key: like.info[key] for key in ('icc_profile', 'dpi') if key in like.info})
    return result
