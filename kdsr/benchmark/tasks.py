"""The work of `kdsr benchmark`: one network over one set, read ahead and scored in threads."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from basicsr.utils import imwrite, tensor2img
from basicsr.utils.color_util import rgb2ycbcr_pt
from torch import Tensor, nn
from tqdm import tqdm

from kdsr.data.benchmark_sets import BenchmarkSet, Pair, default_lr_cache, read_pair
from kdsr.data.matlab_bicubic import upsample_bicubic
from kdsr.data.source_images import header_size
from kdsr.distillation.outputs import Batch
from kdsr.distillation.padding import run_padded
from kdsr.distillation.quadrants import run_in_quadrants
from kdsr.distillation.tiling import run_tiled, self_ensemble
from kdsr.errors import UserError
from kdsr.models.validation import colour_image
from kdsr.networks.candidates import Candidate
from kdsr.pictures.scores import as_batch, score

OVERLAP = 32  # low-resolution pixels that a tile sees of its neighbours
SSIM_WINDOW = 11
Item = TypeVar('Item')
Result = TypeVar('Result')


@dataclass(frozen=True)
class Protocol:
    """What a number depends on beside weights and images.

    Attributes:
        rgb: Score the three colours, not the Y channel.
        crop_border: Pixels of border left out; the scale when None.
        round_gt: Round the luminance of the ground truth for networks of one channel, as their own is.
        self_ensemble: Mean over eight flips and turns.
        quadrants: Test in four quarters, or for which sets; what the option file says when None.
        tile: Side of tiles in low-resolution pixels; 0 for whole images.
    """

    rgb: bool = False
    crop_border: int | None = None
    round_gt: bool = False
    self_ensemble: bool = False
    quadrants: bool | tuple[str, ...] | None = None
    tile: int = 0

    def border(self, scale: int) -> int:
        """Return the border that is left out, in pixels."""
        return scale if self.crop_border is None else self.crop_border

    def in_quadrants(self, one: Candidate, set_name: str) -> bool:
        """Tell whether a set is tested in four quarters."""
        chosen = one.quadrants if self.quadrants is None else self.quadrants
        return chosen if isinstance(chosen, bool) else set_name in chosen


@dataclass(frozen=True)
class ImageScore:
    """PSNR in dB and SSIM of one image."""

    image: str
    psnr: float
    ssim: float


@dataclass(frozen=True)
class Place:
    """Where the work is done.

    Attributes:
        device: 'cpu', 'cuda', ...
        workers: Threads that read, score and write; 0 for none.
        lr_cache: Folder of the LR images that had to be made.
        pictures: Folder for the super-resolved images; None to write none.
    """

    device: str = 'cpu'
    workers: int = 4
    lr_cache: Path = field(default_factory=default_lr_cache)
    pictures: Path | None = None


def run_on_set(
    one: Candidate, test_set: BenchmarkSet, protocol: Protocol, place: Place, bar: tqdm | None = None
) -> list[ImageScore]:
    """Test a candidate on every image of a set.

    Images are read, scored and written in threads, a few at a time, while the network works on another: OpenCV and
    NumPy let go of Python's lock.

    Raises:
        UserError: an answer is of another size, or the device's memory is too small.
    """
    _check_borders(test_set, protocol.border(one.scale))
    answer = answer_of(one, protocol, test_set.name, torch.device(place.device))
    judge = partial(_judge, one, protocol, place.pictures)
    read = partial(_read, scale=one.scale, lr_cache=place.lr_cache)

    def answered(item: tuple[Pair, np.ndarray, np.ndarray]) -> tuple[Pair, np.ndarray | Tensor, np.ndarray, np.ndarray]:
        pair, lq, gt = item
        image = answer(lq)
        _check_answer(one, pair, image, gt)
        return pair, image, lq, gt

    scores = []
    with ThreadPoolExecutor(max(place.workers, 1)) as pool:
        run_ahead = partial(_ahead, pool if place.workers else None, 2 * place.workers)
        for done in run_ahead(judge, map(answered, run_ahead(read, test_set.pairs))):
            scores.append(done)
            if bar is not None:
                bar.update()
    return scores


def _ahead(
    pool: ThreadPoolExecutor | None, count: int, work: Callable[[Item], Result], items: Iterable[Item]
) -> Iterator[Result]:
    """Yield `work(item)` in order, with up to `count` items begun before their turn."""
    if pool is None:
        yield from map(work, items)
        return
    pending: deque[Future[Result]] = deque()
    for item in items:
        pending.append(pool.submit(work, item))
        if len(pending) > count:
            yield pending.popleft().result()
    while pending:
        yield pending.popleft().result()


def answer_of(
    one: Candidate, protocol: Protocol, set_name: str, device: torch.device
) -> Callable[[np.ndarray], np.ndarray | Tensor]:
    """Return what maps an LR image (h, w, 3), uint8, BGR, to its answer.

    The answer is (1, C, S*h, S*w) in [0, 1] on the CPU; bicubic's is (S*h, S*w, 3), uint8, BGR, as MATLAB rounds it.
    """
    if one.network is None:
        return partial(upsample_bicubic, scale=one.scale)
    network = one.network.to(device)
    image = partial(_image, network, one.multiple, protocol, protocol.in_quadrants(one, set_name))

    @torch.inference_mode()
    def answer(lq: np.ndarray) -> Tensor:
        given = as_batch(lq).to(device)
        try:
            return image(rgb2ycbcr_pt(given, y_only=True) if one.luminance else given).float().cpu()
        except torch.cuda.OutOfMemoryError as error:
            raise UserError(
                f'{one.name}: {lq.shape[0]}x{lq.shape[1]} pixels at once need more memory than {device} has: cut them '
                'with --tile 192 (what is finished is kept).'
            ) from error

    return answer


def _image(network: nn.Module, multiple: int, protocol: Protocol, quadrants: bool, lq: Tensor) -> Tensor:
    """Run a network as the protocol says: padded in quarters or tiles, each as the mean of eight orientations."""
    padded = partial(run_padded, network, multiple=multiple)

    def plain(batch: Batch) -> Tensor:
        return run_in_quadrants(padded, batch.lq) if quadrants else padded(batch.lq)

    answer = partial(self_ensemble, plain) if protocol.self_ensemble else plain
    if protocol.tile:
        return run_tiled(answer, Batch(lq), protocol.tile, min(OVERLAP, protocol.tile // 2), multiple)
    return answer(Batch(lq))


def _read(pair: Pair, scale: int, lr_cache: Path) -> tuple[Pair, np.ndarray, np.ndarray]:
    return (pair, *read_pair(pair, scale, lr_cache))


def _judge(
    one: Candidate,
    protocol: Protocol,
    pictures: Path | None,
    item: tuple[Pair, np.ndarray | Tensor, np.ndarray, np.ndarray],
) -> ImageScore:
    """Round an answer, write it where it is wanted, and score it."""
    pair, answer, lq, gt = item
    image = tensor2img(answer) if isinstance(answer, Tensor) else answer
    colour = image
    if one.luminance and (pictures is not None or protocol.rgb):
        colour = colour_image(answer, as_batch(lq))  # type: ignore[arg-type]
    if pictures is not None:
        imwrite(colour, str(pictures / f'{pair.name}.png'))
    border = protocol.border(one.scale)
    if one.luminance and not protocol.rgb:
        return ImageScore(pair.name, *score(image, _luminance(gt, protocol.round_gt), border))
    return ImageScore(pair.name, *score(colour, gt, border, y_channel=not protocol.rgb))


def _luminance(gt: np.ndarray, rounded: bool) -> np.ndarray:
    """Return the Y channel of an image, (H, W), in 0..255."""
    y = rgb2ycbcr_pt(as_batch(gt), y_only=True)
    return tensor2img(y) if rounded else y[0, 0].numpy() * np.float32(255)


def _check_answer(one: Candidate, pair: Pair, image: np.ndarray | Tensor, gt: np.ndarray) -> None:
    size = tuple(image.shape[-2:] if isinstance(image, Tensor) else image.shape[:2])
    if size != gt.shape[:2]:
        raise UserError(
            f'{one.name}: {pair.name}: its image is {size[0]}x{size[1]}, the ground truth {gt.shape[0]}x{gt.shape[1]}. '
            f'Is it a network for x{one.scale}?'
        )
    if isinstance(image, Tensor) and not torch.isfinite(image).all():
        raise UserError(f'{one.name}: {pair.name}: its image has values that are not finite.')


def _check_borders(test_set: BenchmarkSet, border: int) -> None:
    """Refuse a border that leaves no window for SSIM, before anything is computed."""
    for pair in test_set.pairs:
        side = min(side - side % test_set.scale for side in header_size(pair.gt))
        if side < 2 * border + SSIM_WINDOW:
            raise UserError(
                f'{test_set.name}: {pair.name} has a side of {side} pixels: without {border} at each border there is '
                f'no window of {SSIM_WINDOW} pixels left for SSIM.'
            )
