"""CSD: the student's image near the teacher's and far from bicubic images, in the features of an extractor."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, Union, get_args

import torch
from basicsr.utils.registry import LOSS_REGISTRY
from torch import Tensor, nn
from torch.nn import functional as F

from kdsr.distillation.distillation_loss import DistillationLoss
from kdsr.distillation.outputs import Batch, NetworkOutput
from kdsr.distillation.precision import at_least_float32
from kdsr.errors import UserError, check_choice
from kdsr.losses.image_pair import pair_images
from kdsr.losses.loss_range import PUBLISHED_PEAK, LossRange, check_loss_range, scale_to_range
from kdsr.losses.sample_pairs import pairwise_l1

Extractor = Callable[[Tensor], Mapping[str, Tensor]]
ExtractorName = Literal['vgg19', 'identity']
LAYER_WEIGHTS = {
    'vgg19': {'relu1_1': 1 / 32, 'relu2_1': 1 / 16, 'relu3_1': 1 / 8, 'relu4_1': 1 / 4, 'relu5_1': 1.0},
    'identity': {'image': 1.0},
}
EPS = 1e-7


def contrast_to_negatives(student: Tensor, teacher: Tensor, negatives: Tensor) -> Tensor:
    """Return one layer's ratio of distances; see :class:`CSDLoss` for the equation.

    Args:
        student: (N, C, H, W).
        teacher: Same shape, without gradient.
        negatives: (K, C, H, W), without gradient.

    Returns:
        A 0-dim tensor.
    """
    return (student - teacher).abs().mean() / (pairwise_l1(student, negatives).sum(1).mean() + EPS)


def make_negatives(batch: Batch, count: int, image: Tensor) -> Tensor:
    """Upsample the first `count` inputs of the batch (all, if it has fewer) to the size of `image`."""
    lq = at_least_float32(batch.lq[:count])
    return F.interpolate(lq, size=image.shape[-2:], mode='bicubic', align_corners=False)


def load_vgg19(layers: list[str]) -> nn.Module:
    """Return BasicSR's frozen VGG19 without input normalisation; download its weights if they are missing.

    Args:
        layers: Names of layers, such as 'relu1_1'.

    Raises:
        UserError: the weights are missing and cannot be downloaded.
    """
    from basicsr.archs.vgg_arch import VGGFeatureExtractor

    return VGGFeatureExtractor(layers, use_input_norm=False).eval()


@LOSS_REGISTRY.register()
class CSDLoss(DistillationLoss):
    """Distance to the teacher's image over the distance to blurred images, both between the features of an extractor V.

        d_l(T, S) = mean | V_l(T) - V_l(S) |
        d_l(S, B) = mean_n sum_k mean | V_l(S_n) - V_l(B_k) |,   B = the batch's first K inputs, upsampled bicubically
        L = sum_l w_l * d_l(T, S) / (d_l(S, B) + 1e-7)                                                          [1]

    V gets images in 0..255 without normalisation, as in the released code. It is frozen and runs in single precision;
    its weights are not parameters of the loss and not in its checkpoints. Each process contrasts its own batch.

    Departs from the paper: no, but the paper's student is a part of its teacher, and both are trained together; here
    the teacher is a separate, frozen network.   Needs features: none.   Zero when student equals teacher: yes.

    Args:
        extractor: 'vgg19' as in [1] (BasicSR's, downloaded unless its file
            `experiments/pretrained_models/vgg19-dcbb9e9d.pth` exists); 'identity' (the images themselves); in Python
            also any callable from (N, C, H, W) in 0..255 to a mapping of layer names to maps (N, C', H', W').
        layer_weights: Layer to w. Default: 1/32, 1/16, 1/8, 1/4 and 1 for VGG's relu1_1 to relu5_1; 1 for 'image', the
            only layer of 'identity'. A callable needs this argument.
        num_negatives: K. Each is compared with every sample; a batch of fewer samples has fewer negatives.
        loss_range: 255 (weight for image losses on 0..255) or 1 (255 times smaller), see `kdsr/losses/loss_range.py`.
        loss_weight: Factor on the result; 200 in [1].
        features: Ignored.

    Shape:
        student.sr, teacher.sr: (N, C, S*h, S*w), in [0, 1]; batch.lq: (N, C, h, w), in [0, 1]; result: ().

    Raises:
        UserError: unknown option value; a layer that the extractor does not give; VGG19 cannot be downloaded.
        ValueError: images of different shapes, or inputs with other channels than the images.

    References:
        [1] Wang, Lin, Qu, et al. Towards Compact Single Image Super-Resolution via Contrastive Self-distillation.
            IJCAI 2021. https://arxiv.org/abs/2105.11683

    Example:
        >>> import kdsr, torch
        >>> student, teacher = (kdsr.NetworkOutput(sr=torch.full((1, 3, 8, 8), grey)) for grey in (0.5, 0.75))
        >>> loss = kdsr.losses.CSDLoss('identity')
        >>> loss(student, teacher, kdsr.Batch(lq=torch.zeros(1, 3, 4, 4)))  # 0.25 to the teacher, 0.5 to the negative
        tensor(0.5000)
    """

    wanted_samples = 2

    def __init__(
        self,
        extractor: Union[ExtractorName, Extractor],
        layer_weights: Mapping[str, float] | None = None,
        num_negatives: int = 10,
        loss_range: LossRange = 255,
        loss_weight: float = 1.0,
        features: list[str] | None = None,
    ) -> None:
        super().__init__(loss_weight, features)
        if not callable(extractor):
            check_choice('extractor', extractor, get_args(ExtractorName))
            layer_weights = layer_weights or LAYER_WEIGHTS[extractor]
        if not layer_weights:
            raise UserError('CSDLoss with an `extractor` of your own needs `layer_weights`: which layers to compare.')
        if num_negatives < 1:
            raise UserError(f'`num_negatives` must be at least 1, not {num_negatives!r}.')
        check_loss_range(loss_range)
        self.layer_weights = dict(layer_weights)
        self.num_negatives = num_negatives
        self.loss_range = loss_range
        self._wanted = extractor
        self._extractor: list[Extractor] = []  # in a list, so that it is neither trained nor saved

    def build_helpers(self, student: NetworkOutput, teacher: NetworkOutput) -> None:
        """Load the extractor. Not earlier: VGG19 may be downloaded, which a check of the options must not do."""
        self._load_extractor()

    def _load_extractor(self) -> Extractor:
        if not self._extractor:
            self._extractor.append(self._build_extractor(self._wanted))
        return self._extractor[0]

    def _build_extractor(self, extractor: str | Extractor) -> Extractor:
        if callable(extractor):
            return extractor.eval().requires_grad_(False) if isinstance(extractor, nn.Module) else extractor
        if extractor == 'identity':
            return lambda images: {'image': images}
        return load_vgg19(list(self.layer_weights))

    def distance(self, student: NetworkOutput, teacher: NetworkOutput, batch: Batch) -> Tensor:
        """Return the weighted sum over the layers, a 0-dim tensor."""
        image, target = pair_images(student, teacher)
        if batch.lq.shape[1] != image.shape[1]:
            raise ValueError(
                f'CSDLoss needs inputs and images of equal channels, not {tuple(batch.lq.shape)} and '
                f'{tuple(image.shape)}.'
            )
        with torch.autocast(image.device.type, enabled=False):
            student_maps = self._extract(image)
            with torch.no_grad():
                teacher_maps = self._extract(target)
                negative_maps = self._extract(make_negatives(batch, self.num_negatives, image))
            total = image.new_zeros(())
            for layer, weight in self.layer_weights.items():
                maps = student_maps[layer], teacher_maps[layer], negative_maps[layer]
                total = total + weight * contrast_to_negatives(*maps)
        return scale_to_range(total, self.loss_range, image_term=False)

    def _extract(self, images: Tensor) -> Mapping[str, Tensor]:
        extractor = self._load_extractor()
        if isinstance(extractor, nn.Module):
            extractor.to(images.device)
        maps = extractor(PUBLISHED_PEAK * images)
        missing = [layer for layer in self.layer_weights if layer not in maps]
        if missing:
            raise UserError(
                f'The extractor of CSDLoss gives the layers {list(maps)}, but `layer_weights` names {missing}.'
            )
        return maps
