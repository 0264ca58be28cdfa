"""A network over images of any size and type: border, tiles, bands of finished rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from kdsr.deployment.borders import BorderedImage
from kdsr.deployment.engines import PixelRunner, is_out_of_memory
from kdsr.deployment.tiles import BUDGET, CACHED, SMALLEST, fitting_tile, free_memory
from kdsr.distillation.outputs import Batch
from kdsr.distillation.tiling import Span, run_in_bands, self_ensemble, tile_spans
from kdsr.errors import UserError

Progress = Callable[[float], object]
OVERLAP = 32
FARTHEST = 48  # pixels; networks that look farther are blended over `OVERLAP` instead
_BICUBIC_REACH = 2
# What runtimes hold as a multiple of what is counted for PyTorch, measured; plain convolutions keep nothing for later.
_MEMORY = {'torch': 1.0, 'onnx': 1.5, 'openvino': 2.75}
_MEMORY_OF_PLAIN = {'torch': 1.0, 'onnx': 1.0, 'openvino': 0.75}


@dataclass(frozen=True)
class TileSettings:
    """How images are cut.

    Attributes:
        tile: Side of tiles in pixels of the small image; 0 for none; 'auto': as memory allows.
        overlap: What a tile reads around it; 'auto': as far as the network looks, or 32 where that is not known.
        batch: Tiles at a time.
        self_ensemble: The mean over the eight flips and turns.
        seamless: The image is a texture that is laid side by side.
    """

    tile: int | Literal['auto'] = 'auto'
    overlap: int | Literal['auto'] = 'auto'
    batch: int = 1
    self_ensemble: bool = False
    seamless: bool = False


class TiledNetwork:
    """Enlarges images of one or three channels.

    Args:
        runner: Runs the network.
        scale: S.
        multiple: What the sides of tiles must be multiples of.
        reach: How far the network looks; None where it is not known.
        border: What is put around the image.
        bytes_per_pixel: What PyTorch holds for a low-resolution pixel; 0 where it is not known.
        device: Where the network is.
        settings: How images are cut.
    """

    def __init__(
        self,
        runner: PixelRunner,
        *,
        scale: int,
        multiple: int,
        reach: int | None,
        border: int,
        bytes_per_pixel: int,
        device: torch.device,
        settings: TileSettings,
    ) -> None:
        self._runner, self._scale, self._multiple, self._device = runner, scale, multiple, device
        self._bytes_per_pixel, self._settings = bytes_per_pixel, settings
        if settings.overlap != 'auto':
            self._overlap = self._ramp = settings.overlap
        elif reach is not None and reach <= FARTHEST:
            self._overlap, self._ramp = reach, 0
        else:
            self._overlap = self._ramp = OVERLAP
        self._border = border
        if settings.seamless:
            self._border = -(-max(border, self._overlap) // multiple) * multiple
        unused = self._overlap - -(-self._ramp // 2)  # of what a tile reads around it; the blend needs the rest
        runner.edges_are_cut = min(self._border, unused) >= _BICUBIC_REACH
        self._largest: int | None = None  # side of a tile that memory holds, once a larger one did not fit

    def rows(self, image: np.ndarray, progress: Progress) -> Iterator[np.ndarray]:
        """Enlarge an image, and yield its rows as they get finished.

        Args:
            image: (H, W, 1 or 3), uint8, uint16, or float32 in [0, 1].
            progress: Called with the share of the image that a step has done; the shares add up to 1.

        Yields:
            (rows, S*W, 1 or 3) of the same type.

        Raises:
            UserError: memory is too small for the smallest tiles, or the network gives values that are not finite.
        """
        height, width = image.shape[:2]
        scale, border = self._scale, self._border
        bordered = BorderedImage(image, border, self._multiple, self._settings.seamless)
        rows, columns = self._spans(bordered.height, bordered.width)
        total = len(rows) * len(columns)

        def run(row: Span, columns: Sequence[Span]) -> list[Tensor]:
            outputs: list[Tensor] = []
            for batch in _of_one_size(columns, self._settings.batch):
                tiles = np.stack([bordered.cut(row.seen, column.seen) for column in batch])
                outputs += self._enlarge(torch.from_numpy(_for_network(tiles))).split(1)
                progress(len(batch) / total)
            return outputs

        first, last = scale * border, scale * (border + height)
        top = 0
        for band in run_in_bands(run, rows, columns, self._ramp):
            start, end = max(first - top, 0), min(last - top, band.shape[2])
            top += band.shape[2]
            if start < end:
                inner = band[0, :, start:end, scale * border : scale * (border + width)]
                yield _like(inner.permute(1, 2, 0).numpy(), image.dtype)

    def _spans(self, height: int, width: int) -> tuple[list[Span], list[Span]]:
        tile = self._fitting_tile(height, width) if self._settings.tile == 'auto' else self._settings.tile
        if self._settings.tile == 'auto' and self._largest is not None:
            tile = min(tile or self._largest, self._largest)
        rows, columns = (tile_spans(side, tile or side, self._overlap, self._multiple) for side in (height, width))
        return rows, columns

    def _fitting_tile(self, height: int, width: int) -> int:
        engine = self._runner.engine
        on_cpu = self._device.type == 'cpu'
        budget = None
        if on_cpu:
            budget = CACHED if self._ramp == 0 else BUDGET
        return fitting_tile(
            height,
            width,
            bytes_per_pixel=int(self._bytes_per_pixel * (_MEMORY if self._ramp else _MEMORY_OF_PLAIN)[engine]),
            free=free_memory(self._device),
            overlap=self._overlap,
            batch=self._settings.batch,
            budget=budget,
        )

    def _enlarge(self, pixels: Tensor) -> Tensor:
        """Map tiles (n, h, w, C) to (n, C, S*h, S*w); in smaller tiles where memory does not hold them after all."""
        side = max(pixels.shape[1:3])
        if self._largest is not None and side >= self._largest + 2 * (self._overlap + self._multiple):
            return self._enlarge_in_parts(pixels)
        try:
            return self._ensemble(pixels) if self._settings.self_ensemble else _planes(self._runner.run(pixels))
        except Exception as error:  # each runtime has its own for a lack of memory
            if not is_out_of_memory(error):
                raise
            smaller = side // 2 - 2 * self._overlap
            if self._settings.tile != 'auto' or smaller < SMALLEST:
                raise UserError(
                    f'{pixels.shape[1]}x{pixels.shape[2]} pixels at once need more memory than {self._device} has: '
                    '--tile auto, or a smaller one.'
                ) from error
        if self._device.type == 'cuda':
            torch.cuda.empty_cache()
        self._largest = smaller
        return self._enlarge_in_parts(pixels)

    def _enlarge_in_parts(self, pixels: Tensor) -> Tensor:
        assert self._largest is not None
        tile, overlap, multiple = self._largest, self._overlap, self._multiple
        rows, columns = (tile_spans(side, tile, overlap, multiple) for side in pixels.shape[1:3])

        def run(row: Span, columns: Sequence[Span]) -> list[Tensor]:
            return [self._enlarge(pixels[:, slice(*row.seen), slice(*c.seen)].contiguous()) for c in columns]

        return torch.cat(list(run_in_bands(run, rows, columns, self._ramp)), dim=2)

    def _ensemble(self, pixels: Tensor) -> Tensor:
        eight_bit = pixels.dtype == torch.uint8
        image = _planes(pixels.float() / 255 if eight_bit else pixels)
        mean = self_ensemble(
            lambda batch: _planes(self._runner.run(batch.lq.permute(0, 2, 3, 1).contiguous())), Batch(image)
        )
        return (mean * 255).round_().to(torch.uint8) if eight_bit else mean


def _planes(pixels: Tensor) -> Tensor:
    """View (N, h, w, C) as (N, C, h, w)."""
    return pixels.permute(0, 3, 1, 2)


def _of_one_size(columns: Sequence[Span], batch: int) -> Iterator[list[Span]]:
    """Yield neighbours that read equally many pixels, at most `batch` at a time."""
    waiting: list[Span] = []
    for column in columns:
        size = column.seen[1] - column.seen[0]
        if waiting and (len(waiting) == batch or waiting[0].seen[1] - waiting[0].seen[0] != size):
            yield waiting
            waiting = []
        waiting.append(column)
    yield waiting


def _for_network(pixels: np.ndarray) -> np.ndarray:
    """Return uint8 pixels as they are, others as float32 in [0, 1]."""
    if pixels.dtype == np.uint16:
        return pixels.astype(np.float32) / np.float32(65535)
    return pixels if pixels.dtype == np.uint8 else pixels.astype(np.float32, copy=False)


def _like(pixels: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Return what the network gave in the type of its image."""
    return np.rint(pixels * np.float32(65535)).astype(np.uint16) if dtype == np.uint16 else pixels
