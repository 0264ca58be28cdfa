"""FACD: adaptive contrast of features; samples whose student image beats the teacher's leave the teacher out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, get_args

import torch
from basicsr.utils.registry import LOSS_REGISTRY
from torch import Tensor
from torch.nn import functional as F

from kdsr.distillation.distillation_loss import DistillationLoss
from kdsr.distillation.outputs import Batch, NetworkOutput
from kdsr.distillation.precision import at_least_float32
from kdsr.errors import UserError, check_choice
from kdsr.losses.feature_pair import Activation, FeatureRegressors, RegressorKind, normalise
from kdsr.losses.image_pair import pair_images
from kdsr.losses.loss_range import LossRange, check_loss_range, scale_to_range
from kdsr.losses.sample_pairs import gather_samples, pairwise_l1
from kdsr.wording import counted

Negatives = Literal['global_pairs', 'global_pairs_sym', 'per_anchor', 'all_ordered', 'global_pairs_reversed']
Similarity = Literal['l1_ratio', 'infonce', 'infonce_dot']
Domain = Literal['feature', 'image']
NEGATIVES: tuple[Negatives, ...] = get_args(Negatives)
EPS = 1e-8


@torch.no_grad()
def adaptive_indicator(image: Tensor, target: Tensor, gt: Tensor) -> Tensor:
    """Return alpha, Eq. (1) of FACD: 0 where the student's image is the better one, else 1.

    Args:
        image: The student's, (N, C, H, W).
        target: The teacher's, same shape.
        gt: Ground truth, same shape.

    Returns:
        (N,), without gradient.
    """
    student_error, teacher_error = _sample_l1(image, gt), _sample_l1(target, gt)
    return (student_error >= teacher_error).to(student_error.dtype)


def adaptive_image_loss(image: Tensor, target: Tensor | None, gt: Tensor | None, alpha: Tensor) -> Tensor:
    """Return L_SR, Eq. (2) of FACD; if `target` or `gt` is None, only the other term with the weight 1.

    Args:
        image: (N, C, H, W).
        target: The teacher's, same shape, or None.
        gt: Same shape, or None.
        alpha: (N,).

    Returns:
        A 0-dim tensor; 0 if both are None.
    """
    to_gt = None if gt is None else _sample_l1(image, gt)
    to_teacher = None if target is None else _sample_l1(image, target)
    if to_teacher is None:
        return at_least_float32(image.new_zeros(())) if to_gt is None else to_gt.mean()
    if to_gt is None:
        return (alpha * to_teacher).mean()
    return ((2 - alpha) * to_gt + alpha * to_teacher).mean() / 2


def _sample_l1(image: Tensor, target: Tensor) -> Tensor:
    return (at_least_float32(image) - at_least_float32(target)).abs().flatten(1).mean(1)


def contrastive_ratio(distances: Tensor, alpha: Tensor, negatives: Negatives = 'global_pairs') -> Tensor:
    """Return one feature's part of L_FACD; see :class:`FACDLoss` for the equation.

    Args:
        distances: (N, N), d(a, b) of the student's sample a and the teacher's sample b.
        alpha: (N,).
        negatives: Which pairs are in the denominator.

    Returns:
        A 0-dim tensor; 0, with a gradient of 0, for a batch of one.

    Raises:
        UserError: unknown `negatives`.
    """
    check_choice('negatives', negatives, NEGATIVES)
    if len(distances) == 1:
        return 0 * distances.sum()
    positive = alpha * distances.diagonal()
    if negatives == 'global_pairs':
        return positive.sum() / (distances.triu(1).sum() + EPS)
    if negatives == 'global_pairs_reversed':
        return positive.sum() / (distances.tril(-1).sum() + EPS)
    others = (distances.triu(1) + distances.tril(-1)).sum(1)
    if negatives == 'per_anchor':
        return (positive / (others + EPS)).sum()
    return positive.sum() / (others.sum() * (0.5 if negatives == 'global_pairs_sym' else 1) + EPS)


def info_nce(similarities: Tensor, alpha: Tensor, tau: float = 0.1) -> Tensor:
    """Return mean_i of alpha_i times the cross-entropy of row i of similarities / tau; the target is the diagonal.

    Args:
        similarities: (N, N), of the student's sample a and the teacher's sample b.
        alpha: (N,).
        tau: Temperature.

    Returns:
        A 0-dim tensor.
    """
    target = torch.arange(len(similarities), device=similarities.device)
    return (alpha * F.cross_entropy(similarities / tau, target, reduction='none')).mean()


def _check_options(negatives: str, similarity: str, domain: str, tau: float) -> None:
    check_choice('negatives', negatives, NEGATIVES)
    check_choice('similarity', similarity, get_args(Similarity))
    check_choice('domain', domain, get_args(Domain))
    if isinstance(tau, (str, bool)) or not tau > 0:
        raise UserError(f'`tau` must be above 0, not {tau!r}.')


@LOSS_REGISTRY.register()
class FACDLoss(DistillationLoss):
    """An image loss and a contrastive feature loss; both leave the teacher out where the student is already better.

        alpha_i = 0 if mean|S_i - G_i| < mean|T_i - G_i| else 1, without gradient                   Eq. (1) of [1]
        L_SR = 1/(2N) sum_i [ (2 - alpha_i) mean|S_i - G_i| + alpha_i mean|S_i - T_i| ]             Eq. (2)
        d_f(a, b) = mean | r_f(F_S,f)_a - (F_T,f)_b |
        L_FACD = sum_f w_f * ( sum_i alpha_i d_f(i, i) ) / sum_{a<b} d_f(a, b)                      Eq. (3)
        L = L_SR + contrast_weight * L_FACD
        r_f: five 1x1 convolutions C_S -> C_T -> ... -> C_T with PReLU between them

    The gradient flows through numerator and denominator; a sample with alpha 0 is still a negative of the others. A
    batch of one has no negatives: its L_FACD is 0. This loss includes the image loss: leave `pixel_opt` out.

    The log shows the share of samples with alpha 0 as `rejected_<name of the loss>` (5 to 11 % in [1]; also with
    `adaptive` false, if there is a ground truth), and L_SR and the contrast as `image_<name>` and `contrast_<name>`.

    L_FACD depends on the size of the batch, because more samples give more negatives. `train.accumulate` divides the
    batch, so each part has fewer negatives and a larger L_FACD. Several processes do not: their contrast spans all
    batches, in the order of the ranks. Each process gathers the teacher's features and the rows of the distance matrix
    (not the student's features) and computes the same L_FACD. Gathering sums the gradient over the processes, and
    DistributedDataParallel divides it by their number: 2 + 2 samples give the gradient of 4 without any factor. All
    processes need the same number of samples.

    Departs from the paper: the text does not say which pairs are the negatives and how InfoNCE compares; these are
    options. The framework figure in the authors' repository (github.com/hcmoon0613/FACD, without code) draws the
    negatives of 'per_anchor' and the last features before the long skip.
    Needs features: as many as `layer_weights`; none with `domain` 'image' or without `use_contrast`.
    Zero when student equals teacher: no.

    Args:
        adaptive: true: alpha by Eq. (1); false: alpha = 1 (FCD).
        use_gt_l1: Keep the ground truth's half of L_SR; a single half has the weight 1 instead of 1/2.
        use_teacher_l1: Keep the teacher's half of L_SR.
        use_contrast: Keep L_FACD.
        contrast_weight: lambda.
        layer_weights: w, early to late; [1] also tries [0.33, 0.33, 0.33] and [0.2, 0.3, 0.5].
        negatives: 'global_pairs': as above, the student's sample is the earlier one; 'global_pairs_reversed': the later
            one; 'global_pairs_sym': the mean of both; 'all_ordered': their sum; 'per_anchor': for each i only
            sum_{b != i} d(i, b). The first two depend on the order of the batch.
        similarity: 'l1_ratio': as above; 'infonce': cross-entropy of cosine similarities / `tau`; 'infonce_dot': the
            same with dot products, each divided by the number of elements.
        tau: Temperature of InfoNCE.
        domain: 'feature', or 'image' to contrast the images instead (no regressor, no w).
        regressor: 'deep', or 'none' to compare the features themselves, which needs equal channels.
        kernel_size: Of the regressor, odd.
        num_layers: Of the regressor.
        act: Between the regressor's layers: 'prelu', 'relu', 'lrelu' or 'none'.
        act_last: Add an activation after the regressor's last layer.
        narrow: Keep the student's width up to the last layer, which costs far less if C_T is larger.
        loss_range: 255 (value for images in 0..255) or 1 (255 times smaller), see `kdsr/losses/loss_range.py`.
        loss_weight: Factor on the result.
        features: Names from `distillation.features`; all of them when left out.

    Shape:
        student.features[f]: (N, Cs, h, w), any range; teacher.features[f]: (N, Ct, h, w), same N, h, w;
        student.sr, teacher.sr, batch.gt: (N, C, H, W), in [0, 1]; result: ().

    Raises:
        UserError: unknown option value; the ground truth is needed and missing; not one layer weight per feature; a
            feature is not tapped.
        ValueError: images of different shapes; a feature differs in N, h or w, or in its channels with `regressor`
            'none' (the message names it and both shapes).

    References:
        [1] Moon, Jeong, Kim. Feature-domain Adaptive Contrastive Distillation for Efficient Single Image
            Super-Resolution. 2022. https://arxiv.org/abs/2211.15951

    Example:
        >>> import kdsr, torch
        >>> grey = torch.linspace(0, 1, 4).view(4, 1, 1, 1)
        >>> gt = grey.expand(4, 3, 8, 8)
        >>> student = kdsr.NetworkOutput(sr=gt + 0.2, features={'late': grey.expand(4, 2, 4, 4)})
        >>> teacher = kdsr.NetworkOutput(sr=gt + 0.1, features={'late': grey.expand(4, 2, 4, 4)})
        >>> loss = kdsr.losses.FACDLoss(layer_weights=[1.0], regressor='none', loss_range=1)
        >>> loss(student, teacher, kdsr.Batch(lq=gt[..., ::2, ::2], gt=gt))  # (0.2 + 0.1) / 2 + no distance / distances
        tensor(0.1500)
        >>> loss.measured['rejected']
        tensor(0.)
    """

    needed_samples = 2

    def __init__(
        self,
        adaptive: bool = True,
        use_gt_l1: bool = True,
        use_teacher_l1: bool = True,
        use_contrast: bool = True,
        contrast_weight: float = 4.0,
        layer_weights: Sequence[float] = (0.5, 0.3, 0.2),
        negatives: Negatives = 'global_pairs',
        similarity: Similarity = 'l1_ratio',
        tau: float = 0.1,
        domain: Domain = 'feature',
        regressor: RegressorKind = 'deep',
        kernel_size: int = 1,
        num_layers: int = 5,
        act: Activation = 'prelu',
        act_last: bool = False,
        narrow: bool = False,
        loss_range: LossRange = 255,
        loss_weight: float = 1.0,
        features: list[str] | None = None,
    ) -> None:
        super().__init__(loss_weight, features)
        _check_options(negatives, similarity, domain, tau)
        check_loss_range(loss_range)
        if not (use_gt_l1 or use_teacher_l1 or use_contrast):
            raise UserError('FACDLoss needs one of `use_gt_l1`, `use_teacher_l1` and `use_contrast`.')
        self.adaptive = adaptive
        self.use_gt_l1 = use_gt_l1
        self.use_teacher_l1 = use_teacher_l1
        self.use_contrast = use_contrast
        self.contrast_weight = contrast_weight
        if not isinstance(layer_weights, (list, tuple)):
            raise UserError(f'`layer_weights` must be a list, one number per feature, not {layer_weights!r}.')
        self.layer_weights = layer_weights
        self.negatives = negatives
        self.similarity = similarity
        self.tau = tau
        self.domain = domain
        self.loss_range = loss_range
        self.regressors = FeatureRegressors(
            kind=regressor, kernel_size=kernel_size, num_layers=num_layers, act=act, act_last=act_last, narrow=narrow
        )

    def build_helpers(self, student: NetworkOutput, teacher: NetworkOutput) -> None:
        """Create one regressor per feature from the channels of a dry run."""
        if self.use_contrast and self.domain == 'feature':
            self.regressors.build('FACDLoss', self.pairs(student, teacher))

    def distance(self, student: NetworkOutput, teacher: NetworkOutput, batch: Batch) -> Tensor:
        """Return L_SR + contrast_weight * L_FACD, a 0-dim tensor."""
        image, target = pair_images(student, teacher)
        gt = self._check_gt(batch, image) if self.adaptive or self.use_gt_l1 or batch.gt is not None else None
        alpha = image.new_ones(len(image))
        if gt is not None:
            indicator = adaptive_indicator(image, target, gt)
            self.measured['rejected'] = 1 - indicator.mean()
            alpha = indicator if self.adaptive else alpha
        image_loss = scale_to_range(
            adaptive_image_loss(image, target if self.use_teacher_l1 else None, gt if self.use_gt_l1 else None, alpha),
            self.loss_range,
            image_term=True,
        )
        if not self.use_contrast:
            return image_loss
        alpha, contrast = gather_samples(alpha), at_least_float32(image.new_zeros(()))
        for weight, student_part, teacher_part in self._pair_contrasted(student, teacher):
            term = self.contrast_weight * weight * self._contrast(student_part, teacher_part, alpha)
            contrast = contrast + scale_to_range(term, self.loss_range, image_term=False)
        self.measured['image'] = self.loss_weight * image_loss.detach()
        self.measured['contrast'] = self.loss_weight * contrast.detach()
        return image_loss + contrast

    def _check_gt(self, batch: Batch, image: Tensor) -> Tensor:
        if batch.gt is None:
            raise UserError('FACDLoss needs the ground truth; without one use `adaptive: false`, `use_gt_l1: false`.')
        if batch.gt.shape != image.shape:
            raise ValueError(
                f'FACDLoss needs images of one shape, but the ground truth is {tuple(batch.gt.shape)} and the '
                f"student's image {tuple(image.shape)}."
            )
        return at_least_float32(batch.gt)

    def _pair_contrasted(
        self, student: NetworkOutput, teacher: NetworkOutput
    ) -> Iterator[tuple[float, Tensor, Tensor]]:
        """Yield a weight, and the student's and the teacher's features or images."""
        if self.domain == 'image':
            yield (1.0, *pair_images(student, teacher))
            return
        pairs = self.pairs(student, teacher)
        if len(self.layer_weights) != len(pairs):
            raise UserError(
                f'FACDLoss has {len(self.layer_weights)} `layer_weights` {list(self.layer_weights)} for the '
                f'{counted(len(pairs), "feature")} {[name for name, *_ in pairs]}; give one for each.'
            )
        for weight, pair in zip(self.layer_weights, pairs):
            yield (weight, *self.regressors.regress_pair('FACDLoss', *pair))

    def _contrast(self, student_part: Tensor, teacher_part: Tensor, alpha: Tensor) -> Tensor:
        teacher_part = gather_samples(teacher_part)
        if self.similarity == 'l1_ratio':
            distances = gather_samples(pairwise_l1(student_part, teacher_part))
            return contrastive_ratio(distances, alpha, self.negatives)
        with torch.autocast(student_part.device.type, enabled=False):
            rows, columns = student_part.flatten(1), teacher_part.flatten(1)
            if self.similarity == 'infonce':
                rows, columns = normalise(rows, (1,)), normalise(columns, (1,))
            else:
                rows = rows / rows.shape[1]
            return info_nce(gather_samples(rows @ columns.T), alpha, self.tau)
