"""Training pairs whose low-resolution crops are degraded like everyday photos: blurred, noisy, JPEG-compressed."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np
from basicsr.utils.registry import DATASET_REGISTRY

from kdsr.data.raw_paired_image_dataset import RawPairedImageDataset
from kdsr.errors import UserError, did_you_mean

DEGRADATIONS = ('blur', 'noise', 'jpeg')


@DATASET_REGISTRY.register()
class RawDegradedImageDataset(RawPairedImageDataset):
    """RawPairedImageDataset that degrades the LQ crop of each training sample; GT stays clean.

    A sample is left clean with probability `clean_share`. Otherwise each degradation is applied, in the order blur,
    noise, JPEG, with a strength drawn uniformly from its range. Validation samples are never degraded.

    Args:
        opt: Options of RawPairedImageDataset, and `degradation`, a mapping with
            `blur`: range of the standard deviation of a Gaussian kernel, in LQ pixels, for example [0, 0.8];
            `noise`: range of the standard deviation of Gaussian noise, in levels of 255, for example [0, 6];
            `jpeg`: range of the JPEG quality, 1 to 100, for example [50, 95];
            `clean_share`: probability of a clean sample, in [0, 1]; 0.25 when left out.
            A degradation that is left out is not applied.

    Raises:
        UserError: a key or a range of `degradation` is wrong.

    Example::

        datasets:
          train:
            type: RawDegradedImageDataset
            degradation: {blur: [0, 0.8], noise: [0, 6], jpeg: [50, 95]}
    """

    def __init__(self, opt: Mapping[str, Any]) -> None:
        super().__init__(opt)
        self.degradation = _check_degradation(opt)

    def _crop(self, views: Mapping[str, np.ndarray], key: str) -> dict[str, np.ndarray]:
        images = super()._crop(views, key)
        images['lq'] = degrade_lightly(images['lq'], **self.degradation)
        return images


def degrade_lightly(
    image: np.ndarray,
    blur: tuple[float, float] = (0.0, 0.0),
    noise: tuple[float, float] = (0.0, 0.0),
    jpeg: tuple[int, int] | None = None,
    clean_share: float = 0.25,
) -> np.ndarray:
    """Return a degraded copy of an image; all random numbers come from `random` and `numpy.random`.

    Args:
        image: (3, h, w), uint8, RGB.
        blur: Range of the standard deviation of the Gaussian kernel, in pixels.
        noise: Range of the standard deviation of the noise, in levels of 255; one in four draws is grey noise.
        jpeg: Range of the JPEG quality; None for no compression.
        clean_share: Probability that the image is returned as it is.

    Returns:
        (3, h, w), uint8, RGB.
    """
    if random.random() < clean_share:
        return image
    pixels = np.ascontiguousarray(image.transpose(1, 2, 0)[..., ::-1])  # OpenCV expects (h, w, 3), BGR
    sigma = random.uniform(*blur)
    if sigma > 0.1:  # a narrower kernel is the identity
        pixels = np.asarray(cv2.GaussianBlur(pixels, (0, 0), sigma))
    level = random.uniform(*noise)
    if level > 0:
        channels = 1 if random.random() < 0.25 else 3
        added = np.random.standard_normal((*pixels.shape[:2], channels)).astype(np.float32) * level
        pixels = np.clip(np.rint(pixels + added), 0, 255).astype(np.uint8)
    if jpeg is not None:
        quality = random.randint(*jpeg)
        encoded = cv2.imencode('.jpg', pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
        pixels = np.asarray(cv2.imdecode(encoded, cv2.IMREAD_COLOR))
    return np.ascontiguousarray(pixels[..., ::-1].transpose(2, 0, 1))


def _check_degradation(opt: Mapping[str, Any]) -> dict[str, Any]:
    where = f'{opt["name"]}: `degradation`'
    given = opt.get('degradation')
    if not isinstance(given, Mapping):
        raise UserError(f'{where} must be a mapping, for example {{blur: [0, 0.8], noise: [0, 6], jpeg: [50, 95]}}.')
    known = (*DEGRADATIONS, 'clean_share')
    for key in given:
        if key not in known:
            raise UserError(f'{where} has no key {key!r}.{did_you_mean(str(key), known)}')
    for key, limits in (('blur', (0, 20)), ('noise', (0, 255)), ('jpeg', (1, 100))):
        if key in given:
            _check_range(f'{where}.{key}', given[key], *limits, whole=key == 'jpeg')
    share = given.get('clean_share', 0.25)
    if not isinstance(share, (int, float)) or not 0 <= share <= 1:
        raise UserError(f'{where}.clean_share must be a number from 0 to 1; got {share!r}.')
    return dict(given)


def _check_range(where: str, given: Any, least: int, most: int, whole: bool) -> None:
    kinds = (int,) if whole else (int, float)
    pair = isinstance(given, (list, tuple)) and len(given) == 2 and all(type(v) in kinds for v in given)
    if not pair or not least <= given[0] <= given[1] <= most:
        number = 'whole numbers' if whole else 'numbers'
        raise UserError(f'{where} must be two {number}, [lowest, highest], from {least} to {most}; got {given!r}.')
