"""CSD: the student's image near the teacher's and far from bicubic upsampling, as a feature extractor sees them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from urllib.error import URLError

import torch
from basicsr.utils.registry import LOSS_REGISTRY
from torch import Tensor, nn
from torch.nn import functional as F

from kdsr.distillation.distillation_loss import DistillationLoss
from kdsr.distillation.outputs import Batch, NetworkOutput
from kdsr.distillation.precision import at_least_float32
from kdsr.errors import UserError, check_choice
from kdsr.losses.image_pair import image_pair
from kdsr.losses.loss_range import PUBLISHED_PEAK, check_loss_range, in_loss_range
from kdsr.losses.sample_pairs import pairwise_l1

Extractor = Callable[[Tensor], Mapping[str, Tensor]]
EXTRACTORS = ('vgg19', 'identity')
LAYER_WEIGHTS = {
    'vgg19': {'relu1_1': 1 / 32, 'relu2_1': 1 / 16, 'relu3_1': 1 / 8, 'relu4_1': 1 / 4, 'relu5_1': 1.0},
    'identity': {'image': 1.0},
}
EPS = 1e-7


def contrast_to_negatives(ours: Tensor, theirs: Tensor, negatives: Tensor) -> Tensor:
    """Return one layer's ratio of distances; see :class:`CSDLoss` for the equation.

    Args:
        ours: (N, C, H, W).
        theirs: Same shape, without gradient.
        negatives: (K, C, H, W), without gradient.

    Returns:
        A 0-dim tensor.
    """
    return (ours - theirs).abs().mean() / (pairwise_l1(ours, negatives).sum(1).mean() + EPS)


def bicubic_negatives(batch: Batch, count: int, image: Tensor) -> Tensor:
    """Return the first `count` inputs of the batch, or all where it has fewer, upsampled to the size of `image`."""
    lq = at_least_float32(batch.lq[:count])
    return F.interpolate(lq, size=image.shape[-2:], mode='bicubic', align_corners=False)


def vgg19_extractor(layers: list[str]) -> nn.Module:
    """Return BasicSR's frozen VGG19 without input normalisation; its weights are downloaded unless they are at hand.

    Raises:
        UserError: they are not, and cannot be downloaded.
    """
    from basicsr.archs.vgg_arch import VGG_PRETRAIN_PATH, VGGFeatureExtractor

    try:
        return VGGFeatureExtractor(layers, use_input_norm=False).eval()
    except URLError as error:
        raise UserError(
            f'CSDLoss: VGG19 cannot be downloaded ({error.reason}): put its file in place as {VGG_PRETRAIN_PATH}.'
        ) from None


@LOSS_REGISTRY.register()
class CSDLoss(DistillationLoss):
    """Distance to the teacher's image over the distance to blurred images, both between the features of an extractor V.

        d_l(T, S) = mean | V_l(T) - V_l(S) |
        d_l(S, B) = mean_n sum_k mean | V_l(S_n) - V_l(B_k) |,   B = the batch's first K inputs, upsampled bicubically
        L = sum_l w_l * d_l(T, S) / (d_l(S, B) + 1e-7)                                                          [1]

    V sees images in 0..255 without normalisation, as in the released code. It is frozen, runs in single precision, and
    is no part of the loss's parameters or checkpoints. With several processes each contrasts its own batch.

    Departs from the paper: no, but its student is a part of its teacher, trained together with it; here the teacher is
    a network of its own.   Needs features: none.   Zero when student equals teacher: yes.

    Args:
        extractor: 'vgg19' as in [1] (BasicSR's, downloaded unless its file
            `experiments/pretrained_models/vgg19-dcbb9e9d.pth` exists); 'identity' (the images themselves); in Python
            also any callable from (N, C, H, W) in 0..255 to a mapping of layer names to maps (N, C', H', W').
        layer_weights: Layer to w; 1/32, 1/16, 1/8, 1/4 and 1 for VGG's relu1_1 to relu5_1 when left out, and 1 for the
            only layer of 'identity', 'image'. A callable needs it.
        num_negatives: K. Each is compared with every sample; smaller batches have as many as they have samples.
        loss_range: 255 or 1: beside image losses on 0..255 as in [1], or everything 255 times smaller, see
            `kdsr/losses/loss_range.py`.
        loss_weight: Factor on the result; 200 in [1].
        features: Ignored.

    Shape:
        student.sr, teacher.sr: (N, C, S*h, S*w), in [0, 1]; batch.lq: (N, C, h, w), in [0, 1]; result: ().

    Raises:
        ValueError: an unknown option value; images of different shapes or channels; a layer that the extractor does
            not give.

    References:
        [1] Wang, Lin, Qu, et al. Towards Compact Single Image Super-Resolution via Contrastive Self-distillation.
            IJCAI 2021. https://arxiv.org/abs/2105.11683
    """

    def __init__(
        self,
        extractor: str | Extractor,
        layer_weights: Mapping[str, float] | None = None,
        num_negatives: int = 10,
        loss_range: int = 255,
        loss_weight: float = 1.0,
        features: list[str] | None = None,
    ) -> None:
        super().__init__(loss_weight, features)
        if not callable(extractor):
            check_choice('extractor', extractor, EXTRACTORS)
            layer_weights = layer_weights or LAYER_WEIGHTS[extractor]
        if not layer_weights:
            raise UserError('CSDLoss with an `extractor` of your own needs `layer_weights`: the layers to compare.')
        if num_negatives < 1:
            raise UserError(f'`num_negatives` must be at least 1, not {num_negatives!r}.')
        check_loss_range(loss_range)
        self.layer_weights = dict(layer_weights)
        self.num_negatives = num_negatives
        self.loss_range = loss_range
        self._wanted = extractor
        self._extractor: list[Extractor] = []  # in a list: neither trained nor saved

    def build_helpers(self, student: NetworkOutput, teacher: NetworkOutput) -> None:
        """Load the extractor: VGG19 may be downloaded, for which a check of the options is too early."""
        self._loaded_extractor()

    def _loaded_extractor(self) -> Extractor:
        if not self._extractor:
            self._extractor.append(self._build(self._wanted))
        return self._extractor[0]

    def _build(self, extractor: str | Extractor) -> Extractor:
        if callable(extractor):
            return extractor.eval().requires_grad_(False) if isinstance(extractor, nn.Module) else extractor
        if extractor == 'identity':
            return lambda images: {'image': images}
        return vgg19_extractor(list(self.layer_weights))

    def distance(self, student: NetworkOutput, teacher: NetworkOutput, batch: Batch) -> Tensor:
        """Return the weighted sum over the layers, a 0-dim tensor."""
        image, target = image_pair(student, teacher)
        if batch.lq.shape[1] != image.shape[1]:
            raise ValueError(
                f'CSDLoss needs inputs and images of equal channels, not {tuple(batch.lq.shape)} and '
                f'{tuple(image.shape)}.'
            )
        with torch.autocast(image.device.type, enabled=False):
            ours = self._extract(image)
            with torch.no_grad():
                theirs, blurred = (
                    self._extract(x) for x in (target, bicubic_negatives(batch, self.num_negatives, image))
                )
            total = image.new_zeros(())
            for layer, weight in self.layer_weights.items():
                total = total + weight * contrast_to_negatives(ours[layer], theirs[layer], blurred[layer])
        return in_loss_range(total, self.loss_range, image_term=False)

    def _extract(self, images: Tensor) -> Mapping[str, Tensor]:
        extractor = self._loaded_extractor()
        if isinstance(extractor, nn.Module):
            extractor.to(images.device)
        maps = extractor(PUBLISHED_PEAK * images)
        missing = [layer for layer in self.layer_weights if layer not in maps]
        if missing:
            raise UserError(f'The extractor of CSDLoss gives the layers {list(maps)}, not {missing} of its weights.')
        return maps
