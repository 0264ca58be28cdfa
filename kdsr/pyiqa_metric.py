"""Metrics of pyiqa (LPIPS, DISTS, MUSIQ, ...) for `val.metrics`. Weights are downloaded only where the user says so."""

from __future__ import annotations

import contextlib
import os
import random
import threading
import urllib.request
import warnings
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from basicsr.metrics.metric_util import reorder_image
from basicsr.utils.registry import METRIC_REGISTRY
from torch import Tensor

from kdsr.errors import UserError, did_you_mean
from kdsr.optional_packages import import_optional
from kdsr.pyiqa_facts import PYIQA, read_pyiqa_facts

_SEED = 0  # some metrics look at random crops: equal images have equal values
_LOCK = threading.RLock()  # validation measures in threads; random numbers and pyiqa's networks are shared


@METRIC_REGISTRY.register()
def calculate_pyiqa(
    img: np.ndarray,
    metric: str,
    img2: np.ndarray | None = None,
    weights: str | None = None,
    crop_border: int = 0,
    download: bool = False,
    device: str | None = None,
    settings: dict[str, Any] | None = None,
    better: str | None = None,
) -> float:
    """Return the value of a metric of pyiqa (Chen and Mo, IQA-PyTorch).

    The metric is built when it is first used, and kept. It draws its random numbers apart from those of a training.

    Args:
        img: (H, W, 3), uint8, BGR, or (H, W), luminance in 0..255.
        metric: pyiqa's name: lpips, dists, musiq, niqe, ... `kdsr check` lists names that are close to a wrong one.
        img2: The ground truth in the same format; metrics without reference ignore it.
        weights: File of the metric's own weights, instead of the one in pyiqa's folder.
        crop_border: Pixels that are cut from each border.
        download: Let pyiqa download files that are missing. Otherwise a message names each file, where it comes from
            and where to place it.
        device: Of the metric's network: cpu, cuda, ...; a GPU if there is one when None.
        settings: More arguments of the metric in pyiqa, for example {net: vgg} of lpips.
        better: Read by BasicSR: higher or lower. kdsr takes it from pyiqa.

    Raises:
        UserError: pyiqa or a file of weights is missing, or the metric cannot be built or needs a ground truth.

    Example::

        val:
          metrics:
            lpips: {type: calculate_pyiqa, metric: lpips, crop_border: 4}
    """
    options = {'metric': metric, 'weights': weights, 'download': download, 'device': device, 'settings': settings}
    with _LOCK:
        network = load_metric(options)
        images = [_to_tensor(img, crop_border)]
        if network.metric_mode == 'FR':
            if img2 is None:
                raise UserError(f'{metric} compares with a ground truth, and this set has none.')
            images.append(_to_tensor(img2, crop_border))
        with _own_random_numbers(), torch.no_grad():
            return float(network(*images))


def load_metric(options: Mapping[str, Any]) -> Any:
    """Return the network of a metric of pyiqa, built once.

    Args:
        options: Arguments of :func:`calculate_pyiqa`; others are ignored.

    Raises:
        UserError: as :func:`calculate_pyiqa`.
    """
    settings = tuple(sorted((options.get('settings') or {}).items()))
    with _LOCK:
        return _build(
            options['metric'],
            options.get('weights'),
            bool(options.get('download')),
            options.get('device'),
            settings,
        )


def read_pyiqa_version() -> str:
    """Return the version of the installed pyiqa, which its values depend on.

    Raises:
        UserError: it is not installed.
    """
    return str(import_optional('pyiqa', 'a metric').__version__)


def prepare_metrics(metrics: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    """Build the metrics of pyiqa among those of a validation; what is missing shows before anything is computed.

    Args:
        metrics: Name to options, as in `val.metrics`.

    Yields:
        The name of a metric that cannot be built, and why.
    """
    for name, metric in metrics.items():
        if metric.get('type') == PYIQA and isinstance(metric.get('metric'), str):
            try:
                load_metric(metric)
            except UserError as error:
                yield name, str(error)


@lru_cache(maxsize=8)
def _build(
    metric: str, weights: str | None, download: bool, device: str | None, settings: tuple[tuple[str, Any], ...]
) -> Any:
    facts = read_pyiqa_facts()
    pyiqa = import_optional('pyiqa', f'the metric {metric!r}')
    if facts is not None and metric not in facts:
        raise UserError(f'pyiqa has no metric {metric!r}.{did_you_mean(metric, facts)}')
    given = dict(settings)
    if weights is not None:
        if not os.path.isfile(os.path.expanduser(weights)):
            raise UserError(f'the weights of {metric}, {weights}, are missing.')
        given['pretrained_model_path'] = os.path.expanduser(weights)
    with _own_random_numbers(), _tensors_only(), _watch_downloads(metric, download), warnings.catch_warnings():
        warnings.simplefilter('ignore')  # of what pyiqa calls in other packages
        try:
            network = pyiqa.create_metric(metric, device=None if device is None else torch.device(device), **given)
        except UserError:
            raise
        except Exception as error:  # whatever pyiqa and what it imports raise
            raise UserError(f'pyiqa cannot build {metric!r}: {type(error).__name__}: {error}') from error
    return network.eval().requires_grad_(False)


@contextlib.contextmanager
def _own_random_numbers() -> Iterator[None]:
    """Leave the random numbers of the training as they are."""
    before = random.getstate(), np.random.get_state()
    with torch.random.fork_rng():
        torch.manual_seed(_SEED)
        random.seed(_SEED)
        np.random.seed(_SEED)
        try:
            yield
        finally:
            random.setstate(before[0])
            np.random.set_state(before[1])


@contextlib.contextmanager
def _tensors_only() -> Iterator[None]:
    """Let torch.load read tensors, and run no code that a file of weights may hold; pyiqa asks for the opposite."""
    with mock.patch.dict(os.environ, {'TORCH_FORCE_WEIGHTS_ONLY_LOAD': '1'}):
        yield


@contextlib.contextmanager
def _watch_downloads(metric: str, allowed: bool) -> Iterator[None]:
    """Refuse downloads, or name the file and its place where an allowed one fails."""
    from pyiqa.utils import download_util

    fetch = torch.hub.download_url_to_file

    def fetch_file(url: str, dst: str, *args: Any, **kwargs: Any) -> None:
        if not allowed:
            raise UserError(_describe_missing(metric, url, dst))
        try:
            fetch(url, dst, *args, **kwargs)
        except OSError as error:
            raise UserError(f'{_describe_missing(metric, url, dst)} The download failed: {error}') from error

    def refuse(request: Any, *args: Any, **kwargs: Any) -> None:
        url = getattr(request, 'full_url', request)
        raise UserError(f'pyiqa would download {url} for {metric!r}: `download: true` in the metric allows it.')

    with contextlib.ExitStack() as stack:
        for module in (torch.hub, download_util):
            stack.enter_context(mock.patch.object(module, 'download_url_to_file', fetch_file))
        if not allowed:
            silence = stack.enter_context(open(os.devnull, 'w', encoding='utf-8'))
            stack.enter_context(contextlib.redirect_stdout(silence))  # "Downloading ...", where nothing is
            stack.enter_context(contextlib.redirect_stderr(silence))
            stack.enter_context(mock.patch.object(urllib.request, 'urlopen', refuse))
            stack.enter_context(_hub_offline())
        yield


@contextlib.contextmanager
def _hub_offline() -> Iterator[None]:
    """Let the Hugging Face client, if it is installed, look at its files alone."""
    try:
        from huggingface_hub import constants
    except ImportError:
        yield
        return
    with mock.patch.object(constants, 'HF_HUB_OFFLINE', True):
        yield


def _describe_missing(metric: str, url: str, path: str) -> str:
    return (
        f'{metric!r} of pyiqa needs {Path(path).name}, which is not on this machine. Place it as {path} (TORCH_HOME '
        f'moves this folder). It comes from {url}; with `download: true` in the metric, pyiqa fetches it.'
    )


def _to_tensor(image: np.ndarray, crop_border: int) -> Tensor:
    """Return (1, 3, H, W), RGB in [0, 1]; a luminance image is repeated for the three colours."""
    inside = slice(crop_border, -crop_border if crop_border else None)
    pixels = reorder_image(image)[inside, inside].astype(np.float32) / 255
    colours = pixels[..., ::-1] if pixels.shape[2] == 3 else np.repeat(pixels, 3, axis=2)
    return torch.from_numpy(np.ascontiguousarray(colours.transpose(2, 0, 1)))[None].clamp(0, 1)
