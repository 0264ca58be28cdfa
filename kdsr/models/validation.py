"""Validation on one set, as BasicSR does it: the same files, numbers and log."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import cv2
import numpy as np
import torch
from basicsr.metrics import calculate_metric
from basicsr.utils import get_root_logger, tensor2img
from basicsr.utils.color_util import rgb2ycbcr_pt, ycbcr2bgr
from torch import Tensor

from kdsr.archs.bicubic import BicubicUpsample
from kdsr.compat.dataset_files import write_png
from kdsr.data.parallel import run_ahead
from kdsr.errors import UserError
from kdsr.metrics import check_finite
from kdsr.progress_bars import ProgressBar

THREADS = min(4, os.cpu_count() or 1)  # OpenCV and NumPy let go of Python's lock


def validate(model: Any, loader: Any, current_iter: int | str, tb_logger: Any, save_img: bool) -> None:
    """Run a model on a validation set, log the mean of every metric of `val.metrics`, and write the images.

    Metrics receive the same as from BasicSR: the image and the ground truth as (H, W, 3) BGR, uint8. On luminance
    (`color: y`) they get (H, W): the network's in whole numbers and the ground truth's as it is, unrounded, which is
    how PISR's authors measure; `val.round_gt: true` rounds it too. Metrics and writing run in threads, while the
    network works on the next image.

    Args:
        model: With `experiment`, `feed_data`, `test`, `output`, `gt`, and BasicSR's memory of the best results.
        loader: Batches of one image; `loader.dataset.opt['name']` names the set.
        current_iter: Iteration, for the log and the names of the images.
        tb_logger: TensorBoard's writer, or None.
        save_img: Write the images to the experiment's `visualization` folder, in colour also for `color: y`.

    Raises:
        UserError: the set is empty.
    """
    name, metrics = loader.dataset.opt['name'], model.experiment.validation.metrics
    totals = dict.fromkeys(metrics, 0.0)
    count = 0
    for values in _measure_images(model, loader, current_iter, save_img, metrics):
        count += 1
        totals = {metric: total + values[metric] for metric, total in totals.items()}
    if count == 0:
        raise UserError(f'validation set {name!r} is empty.')
    if not metrics:
        return
    model.metric_results = {metric: total / count for metric, total in totals.items()}
    model._initialize_best_metric_results(name)
    for metric, value in model.metric_results.items():
        model._update_best_metric_result(name, metric, value, current_iter)
    model._log_validation_metric_values(current_iter, name, tb_logger)
    if model.is_train:
        model.keep_if_best(name, current_iter)


def _measure_images(
    model: Any, loader: Any, current_iter: int | str, save_img: bool, metrics: Mapping[str, Any]
) -> Iterator[dict[str, float]]:
    """Yield the metrics of each image, in order; threads compute those of a few images at a time."""

    def run_network() -> Iterator[Callable[[], dict[str, float]]]:
        """Run the network on each image; yield what is left to do with it."""
        for data in ProgressBar(loader, unit='image', disable=not model.opt['val'].get('pbar', False)):
            model.feed_data(data)
            model.test()
            image = model.output.detach().float().cpu()
            gt = model.gt.float().cpu() if 'gt' in data else None
            chroma_source = None if model.chroma_source is None else model.chroma_source.cpu()
            path = (
                _image_path(model, loader.dataset.opt['name'], data['lq_path'][0], current_iter) if save_img else None
            )
            round_gt = model.experiment.validation.round_gt
            source = data['lq_path'][0]
            yield partial(
                _judge, image, gt, lq=chroma_source, path=path, source=source, metrics=metrics, round_gt=round_gt
            )

    with ThreadPoolExecutor(THREADS) as pool:
        yield from run_ahead(_call, run_network(), pool, THREADS)


def _call(job: Callable[[], dict[str, float]]) -> dict[str, float]:
    return job()


def _judge(
    image: Tensor,
    gt: Tensor | None,
    *,
    lq: Tensor | None,
    path: str | None,
    source: str,
    metrics: Mapping[str, Any],
    round_gt: bool,
) -> dict[str, float]:
    """Write one image, if a path is given, and return its metrics; nan, and no image, where it is not finite."""
    if not torch.isfinite(image).all():
        get_root_logger().warning(
            f"The network's image of {source} is not finite (NaN or overflow): its metrics are nan; it is not written."
        )
        return dict.fromkeys(metrics, math.nan)
    if path is not None:
        write_png(tensor2img(image) if lq is None else colour_image(image, lq), path)
    return measure(image, gt, metrics, round_gt)


def measure(image: Tensor, gt: Tensor | None, metrics: Mapping[str, Any], round_gt: bool) -> dict[str, float]:
    """Return the metrics of one image, see :func:`validate`.

    Args:
        image: (1, C, H, W), RGB or Y around [0, 1].
        gt: The ground truth in the same format; None for metrics that need none.
        metrics: Name to options, as in `val.metrics`.
        round_gt: Round the luminance of the ground truth to 8 bits too.

    Raises:
        NotFiniteError: the image has values that are not finite.
    """
    given = {'img': tensor2img(check_finite(image, 'the network'))}
    if gt is not None:
        luminance = gt.shape[1] == 1 and not round_gt
        given['img2'] = gt[0, 0].numpy() * np.float32(255) if luminance else tensor2img(gt)
    return {metric: float(calculate_metric(given, opt)) for metric, opt in metrics.items()}


def colour_image(luminance: Tensor, lq: Tensor) -> np.ndarray:
    """Return a colour image: a network's luminance, and the bicubically enlarged chroma of the low-quality image.

    Args:
        luminance: (1, 1, S*h, S*w), Y of BT.601 (16..235, divided by 255).
        lq: (1, 3, h, w), RGB in [0, 1].

    Returns:
        (S*h, S*w, 3), uint8, BGR.
    """
    with torch.no_grad():
        chroma = BicubicUpsample(luminance.shape[-1] // lq.shape[-1])(rgb2ycbcr_pt(lq)[:, 1:])
        ycbcr = torch.cat([luminance.clamp(0, 1), chroma.clamp(0, 1)], dim=1)
    bgr = ycbcr2bgr(np.ascontiguousarray(ycbcr[0].permute(1, 2, 0).numpy()))
    return cv2.convertScaleAbs(np.clip(bgr, 0, 1), alpha=255)


def _image_path(model: Any, set_name: str, lq_path: str, current_iter: int | str) -> str:
    image_name = os.path.splitext(os.path.basename(lq_path))[0]
    folder = model.opt['path']['visualization']
    if model.opt['is_train']:
        return os.path.join(folder, image_name, f'{image_name}_{current_iter}.png')
    suffix = model.opt['val'].get('suffix') or model.opt['name']
    return os.path.join(folder, set_name, f'{image_name}_{suffix}.png')
