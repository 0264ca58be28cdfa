"""FitNet: the student's features, through a small regressor, copy the teacher's."""

from __future__ import annotations

from basicsr.utils.registry import LOSS_REGISTRY
from torch import Tensor, nn

from kdsr.distillation.adapters import ConvRegressor, helper_key
from kdsr.distillation.distillation_loss import DistillationLoss
from kdsr.distillation.outputs import Batch, NetworkOutput
from kdsr.distillation.precision import at_least_float32
from kdsr.errors import check_choice
from kdsr.losses.feature_pair import feature_pair
from kdsr.losses.loss_range import check_loss_range, in_loss_range


@LOSS_REGISTRY.register()
class FitNetLoss(DistillationLoss):
    """Distance between the regressed student features and the teacher's, summed over the features.

        L = sum_f mean |r_f(F_S,f) - F_T,f|         norm 'l1'; (.)^2 with norm 'l2', cf. Eq. (3) of [1]
        r_f = ReLU(conv1x1(.)): C_S -> C_T          as [2] describes the regressor

    Departs from the paper: [1] regresses one layer with the L2 norm; L1 over several layers is its use in
    super-resolution [2].   Needs features: any.
    Zero when student equals teacher: only with `regressor` 'none'.

    Args:
        regressor: 'conv1x1', or 'none' to compare the features as they are, which needs equal channels [3].
        act: After the regressor: 'relu', or 'none' where the teacher's features have negative values worth copying.
        norm: 'l1' or 'l2'.
        loss_range: 255 or 1: beside image losses on 0..255, or everything 255 times smaller, see
            `kdsr/losses/loss_range.py`.
        loss_weight: Factor on the result.
        features: Names from `distillation.features`; all of them when left out.

    Shape:
        student.features[f]: (N, Cs, H, W), any range; teacher.features[f]: (N, Ct, H, W), same N, H, W; result: ().

    Raises:
        ValueError: an unknown option value; a feature's sizes differ, or its channels with `regressor` 'none' (the
            message names the feature and both shapes).

    References:
        [1] Romero, Ballas, Kahou, Chassang, Gatta, Bengio. FitNets: Hints for Thin Deep Nets. ICLR 2015.
            https://arxiv.org/abs/1412.6550
        [2] Park, Kwak. Local-Selective Feature Distillation for Single Image Super-Resolution. 2021.
            https://arxiv.org/abs/2111.10988
        [3] He, Dai, Lu, Jiang, Xia. FAKD: Feature-Affinity Based Knowledge Distillation for Efficient Image
            Super-Resolution. ICIP 2020.
    """

    needs_teacher_image = False

    def __init__(
        self,
        regressor: str = 'conv1x1',
        act: str = 'relu',
        norm: str = 'l1',
        loss_range: int = 255,
        loss_weight: float = 1.0,
        features: list[str] | None = None,
    ) -> None:
        super().__init__(loss_weight, features)
        check_choice('regressor', regressor, ('conv1x1', 'none'))
        check_choice('act', act, ('relu', 'none'))
        check_choice('norm', norm, ('l1', 'l2'))
        check_loss_range(loss_range)
        self.regressor = regressor
        self.act = act
        self.norm = norm
        self.loss_range = loss_range
        self.regressors = nn.ModuleDict()
        self._equal_channels = '`regressor: none`' if regressor == 'none' else ''

    def build_helpers(self, student: NetworkOutput, teacher: NetworkOutput) -> None:
        """Create one regressor per feature from the channels of a dry run."""
        for name, ours, theirs in self.pairs(student, teacher):
            feature_pair('FitNetLoss', name, ours, theirs, self._equal_channels)
            if self.regressor == 'conv1x1':
                layer = ConvRegressor(ours.shape[1], theirs.shape[1], act=self.act, act_last=True)
                self.regressors[helper_key(name)] = layer.to(ours.device)

    def distance(self, student: NetworkOutput, teacher: NetworkOutput, batch: Batch) -> Tensor:
        """Return the sum over the features, a 0-dim tensor."""
        total = at_least_float32(student.image.new_zeros(()))
        for name, ours, theirs in self.pairs(student, teacher):
            if self.regressor == 'conv1x1':
                ours = self.regressors[helper_key(name)](ours)
            regressed, target = feature_pair('FitNetLoss', name, ours, theirs, self._equal_channels)
            difference = regressed - target
            total = total + (difference.abs().mean() if self.norm == 'l1' else difference.square().mean())
        return in_loss_range(total, self.loss_range, image_term=False)
