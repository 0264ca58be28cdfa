"""An image of each validation set in TensorBoard: low quality, the network's image, and the ground truth."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from basicsr.utils import tensor2img
from torch import Tensor
from torch.utils.data import default_collate

SIDE = 512  # largest side of an image in TensorBoard, in pixels; larger ones are cut around their centre


def show_sample(model: Any, samples: Any, iteration: int, tb_logger: Any) -> None:
    """Write the first image of a validation set to TensorBoard, as the network restores it now.

    The network runs once more, on this image alone. Models without an image, such as video models, are left out.

    Args:
        model: A model of BasicSR, in training.
        samples: The validation set.
        iteration: The last finished one.
        tb_logger: TensorBoard's writer, or None.
    """
    if tb_logger is None or len(samples) == 0 or not hasattr(model, 'get_current_visuals'):
        return
    sample = samples[0]
    if getattr(sample.get('lq'), 'ndim', 0) != 3:  # (C, h, w)
        return
    model.feed_data(default_collate([sample]))
    with torch.no_grad():
        model.test()
    visuals = model.get_current_visuals()
    shown = {'result': visuals['result']}
    if not getattr(model, 'sample_shown', {}).get(samples.opt['name']):
        shown.update({name: visuals[name] for name in ('lq', 'gt') if name in visuals})
        model.sample_shown = {**getattr(model, 'sample_shown', {}), samples.opt['name']: True}
    for name, image in shown.items():
        if bool(torch.isfinite(image).all()):
            tag = f'{samples.opt["name"]}/{name}'
            tb_logger.add_image(tag, crop_for_display(image), iteration, dataformats='HWC')


def crop_for_display(image: Tensor) -> np.ndarray:
    """Return the centre of an image, at most 512x512, as (H, W, 3) uint8 RGB.

    Args:
        image: (1, C, H, W), RGB or Y around [0, 1].
    """
    height, width = image.shape[-2:]
    top, left = max(0, height - SIDE) // 2, max(0, width - SIDE) // 2
    shown = tensor2img(image[..., top : top + SIDE, left : left + SIDE], rgb2bgr=False)
    return shown if shown.ndim == 3 else np.repeat(shown[..., None], 3, axis=2)
