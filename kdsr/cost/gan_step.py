"""What a GAN's or Real-ESRGAN's training step has besides SRModel's: discriminator, VGG features, degradation."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import torchvision
from basicsr.archs.vgg_arch import NAMES, insert_bn
from basicsr.models.realesrgan_model import RealESRGANModel
from basicsr.models.realesrnet_model import RealESRNetModel
from basicsr.utils import DiffJPEG, USMSharp
from basicsr.utils.registry import MODEL_REGISTRY
from torch import Tensor, nn

from kdsr.cost.on_meta import copy_to_meta
from kdsr.cost.operation_counter import Operation, OperationCounter
from kdsr.distillation.building import build_network_at
from kdsr.experiment import Experiment
from kdsr.options import model_class_of

DISCRIMINATOR, DEGRADATION = 'discriminator', 'degradation'
_READ_SIDE = 400  # RealESRGANDataset crops or pads to this side; the model degrades that and crops `gt_size`


class Adversary:
    """The discriminator of a GAN training on the meta device, and what its step runs of it.

    Args:
        opt: All options, with `network_d`.

    Attributes:
        network: On the meta device.
        relativistic: The loss compares real and fake images with each other (ESRGAN).
    """

    def __init__(self, opt: Mapping[str, Any]) -> None:
        self.network = copy_to_meta(build_network_at('network_d', opt['network_d']))
        self.relativistic = model_class_of(opt['model_type']).relativistic

    def judge_output(self, sr: Tensor, gt: Tensor) -> None:
        """Run what the student's loss runs: forward, and backward to the image."""
        self.network.requires_grad_(False)
        if self.relativistic:
            self.network(gt)
        self.network(sr).mean().backward()

    def learn(self, sr: Tensor, gt: Tensor) -> None:
        """Run the discriminator's own step: a forward and a backward pass for the real and for the fake images."""
        self.network.requires_grad_(True)
        sr = sr.detach()
        if self.relativistic:
            with torch.no_grad():
                self.network(sr)
        for image in (gt, sr):
            self.network(image).mean().backward()


class VggFeatures(nn.Module):
    """The layers of VGG that `perceptual_opt` runs, on the meta device: no weights are loaded.

    Args:
        layer_weights: Of BasicSR's PerceptualLoss; the deepest layer counts.
        vgg_type: Of BasicSR's PerceptualLoss.
    """

    def __init__(self, layer_weights: Mapping[str, float], vgg_type: str = 'vgg19') -> None:
        super().__init__()
        names = NAMES[vgg_type.replace('_bn', '')]
        names = insert_bn(names) if 'bn' in vgg_type else names
        depth = max(names.index(layer) for layer in layer_weights) + 1
        with torch.device('meta'):
            layers = getattr(torchvision.models, vgg_type)(weights=None).features[:depth]
        self.layers = layers.requires_grad_(False)

    def compare(self, sr: Tensor, gt: Tensor) -> Tensor:
        """Return a loss of the same cost as the perceptual loss of two images."""
        with torch.no_grad():
            of_gt = self.layers(gt)
        difference: Tensor = (self.layers(sr) - of_gt).abs().mean()
        return difference


def count_degradation(opt: Mapping[str, Any], experiment: Experiment) -> tuple[Counter[Operation], int]:
    """Run one random degradation of Real-ESRGAN on one image, and count it for a batch.

    Args:
        opt: All options.
        experiment: Read from them.

    Returns:
        The operations of a batch, and the most bytes that are alive, with the pool of training pairs.
    """
    kind = MODEL_REGISTRY.get(experiment.model.name)
    model: Any = object.__new__(kind)  # without networks
    model.opt, model.device, model.is_train = {**opt, 'is_train': True}, torch.device('cpu'), True
    model.jpeger, model.usm_sharpener, model.queue_size = DiffJPEG(differentiable=False), USMSharp(), 1
    kernel = torch.ones(1, 21, 21) / 441
    ramp = torch.linspace(0, 1, _READ_SIDE).expand(1, 3, _READ_SIDE, -1).contiguous()
    image = {'gt': ramp, 'kernel1': kernel, 'kernel2': kernel, 'sinc_kernel': kernel}
    counter, before = OperationCounter(), (random.getstate(), np.random.get_state())
    random.seed(0)
    np.random.seed(0)
    try:
        with torch.random.fork_rng(devices=[]), counter, counter.counted_as(DEGRADATION):
            torch.manual_seed(0)
            model.feed_data(image)
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])
    count, crop, scale = experiment.training.batch_size, experiment.training.crop, experiment.scale
    pool = int(opt.get('queue_size', 180)) * 3 * 4 * (crop**2 + (crop // scale) ** 2)
    counted: Counter[Operation] = Counter()
    for operation, times in counter.operations[DEGRADATION].items():
        counted[Operation(operation.kind, count * operation.flop, count * operation.moved)] += times
    return counted, count * counter.peak + pool


def degrades(opt: Mapping[str, Any]) -> bool:
    """Return whether the model of a training degrades its images in the step, as BasicSR's classes do."""
    kind = MODEL_REGISTRY.get(str(opt['model_type']))
    ours = isinstance(kind, type) and issubclass(kind, (RealESRNetModel, RealESRGANModel))
    return ours and opt.get('high_order_degradation', True) is not False
