"""One candidate on one set: images are read ahead and scored in threads while the network runs."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from basicsr.metrics import calculate_metric
from basicsr.utils import tensor2img
from basicsr.utils.color_util import rgb2ycbcr_pt
from torch import Tensor, nn

from kdsr.benchmark.protocol import Protocol, Resources
from kdsr.benchmark.results import ImageScore
from kdsr.compat.dataset_files import write_png
from kdsr.data.benchmark_sets import BenchmarkSet, Pair, read_pair
from kdsr.data.image_headers import read_size
from kdsr.data.matlab_bicubic import imresize_bicubic, upsample_bicubic
from kdsr.data.parallel import run_ahead
from kdsr.distillation.outputs import Batch
from kdsr.distillation.padding import run_padded
from kdsr.distillation.quadrants import run_in_quadrants
from kdsr.distillation.tiling import run_tiled, self_ensemble
from kdsr.errors import UserError
from kdsr.metrics import score
from kdsr.models.validation import colour_image
from kdsr.networks.candidates import Candidate
from kdsr.pictures.images import make_batch
from kdsr.progress_bars import ProgressBar
from kdsr.wording import printable

OVERLAP = 32  # low-resolution pixels that neighbouring tiles share
SSIM_WINDOW = 11
COMPARED = 5  # images of a set that are compared with bicubic upsampling


def run_on_set(
    candidate: Candidate,
    test_set: BenchmarkSet,
    protocol: Protocol,
    resources: Resources,
    bar: ProgressBar | None = None,
) -> list[ImageScore]:
    """Run a candidate on every image of a set and score the results.

    Threads read, score and write a few images at a time while the network runs on another one. This helps because
    OpenCV and NumPy release Python's lock.

    Args:
        candidate: What is scored.
        test_set: Pairs of ground truth and LR image.
        protocol: How to run and score.
        resources: Device, threads and folders to use.
        bar: Is advanced by each finished image.

    Raises:
        UserError: a result has the wrong size or values that are not finite, an image is too small for SSIM, or the
            device has too little memory.
    """
    _check_borders(test_set, protocol.border(candidate.scale))
    super_resolve = make_super_resolver(candidate, protocol, test_set.name, torch.device(resources.device))
    compared = {pair.name for pair in test_set.pairs[:COMPARED]} if candidate.network is not None else set()
    score_pair = partial(_score_pair, candidate, protocol, resources.pictures, compared)
    read = partial(_read, scale=candidate.scale, lr_cache=resources.lr_cache)

    def run(item: tuple[Pair, np.ndarray, np.ndarray]) -> tuple[Pair, np.ndarray | Tensor, np.ndarray, np.ndarray]:
        pair, lq, gt = item
        sr = super_resolve(choose_input(candidate, lq, gt))
        _check_result(candidate, pair, sr, gt)
        return pair, sr, lq, gt

    scores = []
    with ThreadPoolExecutor(max(resources.workers, 1)) as pool:
        threads = pool if resources.workers else None
        pairs = run_ahead(read, test_set.pairs, threads, 2 * resources.workers)
        for image_score in run_ahead(score_pair, map(run, pairs), threads, 2 * resources.workers):
            scores.append(image_score)
            if bar is not None:
                bar.update()
    return scores


def choose_input(candidate: Candidate, lq: np.ndarray, gt: np.ndarray) -> np.ndarray:
    """Return the image that a candidate sees: LR, the ground truth, or the clean LR image of the ground truth.

    Args:
        candidate: What is scored.
        lq: (h, w, 3), uint8.
        gt: (S*h, S*w, 3), uint8.
    """
    if candidate.input == 'gt':
        return gt
    return imresize_bicubic(gt, candidate.scale) if candidate.input == 'lq_clean' else lq


def make_super_resolver(
    candidate: Candidate, protocol: Protocol, set_name: str, device: torch.device
) -> Callable[[np.ndarray], np.ndarray | Tensor]:
    """Return a function that maps an LR image (h, w, 3), uint8, BGR, to the candidate's result.

    The input of a candidate that sees the ground truth is that image instead.

    A network's result is (1, C, S*h, S*w) in [0, 1], not clamped, on the CPU. The result of bicubic is
    (S*h, S*w, 3), uint8, BGR, rounded as in MATLAB.

    Args:
        candidate: A network, or bicubic.
        protocol: How to run it.
        set_name: Name of the set: only some sets may be run in quarters.
        device: Where the network runs. It is moved there.
    """
    if candidate.network is None:
        return partial(upsample_bicubic, scale=candidate.scale)
    run = make_network_runner(candidate.network.to(device), candidate, protocol, set_name)

    @torch.inference_mode()
    def super_resolve(lq: np.ndarray) -> Tensor:
        image = make_batch(lq).to(device)
        try:
            return run(rgb2ycbcr_pt(image, y_only=True) if candidate.luminance else image).float().cpu()
        except torch.cuda.OutOfMemoryError as error:
            raise UserError(
                f'{candidate.name}: an image of {lq.shape[0]}x{lq.shape[1]} pixels needs more memory than {device} '
                'has. Cut images with --tile 192 and run the command again: finished results are kept.'
            ) from error

    return super_resolve


def make_network_runner(
    network: nn.Module, candidate: Candidate, protocol: Protocol, set_name: str
) -> Callable[[Tensor], Tensor]:
    """Return a function that runs a network on (1, C, h, w) as the protocol says.

    Args:
        network: The candidate's, or a copy of it.
        candidate: For its window, and whether it runs in quarters.
        protocol: How to run it.
        set_name: Name of the set: only some sets may be run in quarters.
    """
    return partial(_run_network, network, candidate.multiple, protocol, protocol.in_quadrants(candidate, set_name))


def _run_network(network: nn.Module, multiple: int, protocol: Protocol, quadrants: bool, lq: Tensor) -> Tensor:
    """Run a network as the protocol says: padded, in quarters or tiles, averaged over eight orientations."""
    padded = partial(run_padded, network, multiple=multiple)

    def run_once(batch: Batch) -> Tensor:
        return run_in_quadrants(padded, batch.lq) if quadrants else padded(batch.lq)

    run = partial(self_ensemble, run_once) if protocol.self_ensemble else run_once
    if protocol.tile:
        return run_tiled(run, Batch(lq), protocol.tile, min(OVERLAP, protocol.tile // 2), multiple)
    return run(Batch(lq))


def _read(pair: Pair, scale: int, lr_cache: Path) -> tuple[Pair, np.ndarray, np.ndarray]:
    return (pair, *read_pair(pair, scale, lr_cache))


def _score_pair(
    candidate: Candidate,
    protocol: Protocol,
    pictures: Path | None,
    compared: Container[str],
    item: tuple[Pair, np.ndarray | Tensor, np.ndarray, np.ndarray],
) -> ImageScore:
    """Round a result to 8 bits, write it where a folder is given, and score it; also bicubic where it is compared."""
    pair, sr, lq, gt = item
    image = tensor2img(sr) if isinstance(sr, Tensor) else sr
    colour = image
    if candidate.luminance and (pictures is not None or protocol.rgb or protocol.metrics):
        colour = colour_image(sr, make_batch(lq))  # type: ignore[arg-type]
    if pictures is not None:
        write_png(colour, pictures / f'{pair.name}.png')
    border = protocol.border(candidate.scale)
    bicubic = None
    if pair.name in compared:
        bicubic, _ = score(upsample_bicubic(lq, candidate.scale), gt, border, y_channel=not protocol.rgb)
    name, others = printable(pair.name), measure_others(colour, gt, protocol.metrics, border)
    if candidate.luminance and not protocol.rgb:
        return ImageScore(name, *score(image, _to_luminance(gt, protocol.round_gt), border), bicubic, others)
    return ImageScore(name, *score(colour, gt, border, y_channel=not protocol.rgb), bicubic, others)


def measure_others(
    image: np.ndarray, gt: np.ndarray, metrics: Mapping[str, Mapping[str, Any]], border: int
) -> dict[str, float]:
    """Return the values of more metrics than PSNR and SSIM.

    Args:
        image: (H, W, 3), uint8, BGR.
        gt: The ground truth in the same format.
        metrics: Name to the options of a registered metric.
        border: Pixels that are cut from each border.
    """
    given = {'img': image, 'img2': gt}
    return {name: float(calculate_metric(given, {**opt, 'crop_border': border})) for name, opt in metrics.items()}


def _to_luminance(gt: np.ndarray, rounded: bool) -> np.ndarray:
    """Return the Y channel of an image, (H, W), in 0..255."""
    y = rgb2ycbcr_pt(make_batch(gt), y_only=True)
    return tensor2img(y) if rounded else y[0, 0].numpy() * np.float32(255)


def _check_result(candidate: Candidate, pair: Pair, sr: np.ndarray | Tensor, gt: np.ndarray) -> None:
    height, width = sr.shape[-2:] if isinstance(sr, Tensor) else sr.shape[:2]
    if (height, width) != gt.shape[:2]:
        raise UserError(
            f'{candidate.name}: its result for {pair.name} has {height}x{width} pixels, the ground truth has '
            f'{gt.shape[0]}x{gt.shape[1]}. Is it a network for x{candidate.scale}?'
        )
    if isinstance(sr, Tensor) and not torch.isfinite(sr).all():
        raise UserError(f'{candidate.name}: its result for {pair.name} has values that are not finite.')


def _check_borders(test_set: BenchmarkSet, border: int) -> None:
    """Refuse images that have no room for SSIM's window inside the border, before anything runs."""
    for pair in test_set.pairs:
        side = min(side - side % test_set.scale for side in read_size(pair.gt))
        if side < 2 * border + SSIM_WINDOW:
            raise UserError(
                f'{test_set.name}: {pair.name} has a side of {side} pixels. SSIM needs {SSIM_WINDOW} pixels inside a '
                f'border of {border}: remove the image, or choose a smaller --crop-border.'
            )
