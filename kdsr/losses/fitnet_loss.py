"""FitNet: a small regressor maps the student's features to the teacher's."""

from __future__ import annotations

from typing import Literal, get_args

from basicsr.utils.registry import LOSS_REGISTRY
from torch import Tensor, nn

from kdsr.distillation.adapters import ConvRegressor, helper_key
from kdsr.distillation.distillation_loss import DistillationLoss
from kdsr.distillation.outputs import Batch, NetworkOutput
from kdsr.distillation.precision import at_least_float32
from kdsr.errors import check_choice
from kdsr.losses.feature_pair import pair_features
from kdsr.losses.loss_range import LossRange, check_loss_range, scale_to_range

Regressor = Literal['conv1x1', 'none']
Act = Literal['relu', 'none']
FitNetNorm = Literal['l1', 'l2']


@LOSS_REGISTRY.register()
class FitNetLoss(DistillationLoss):
    """Distance between the regressed student features and the teacher's, summed over the features.

        L = sum_f mean |r_f(F_S,f) - F_T,f|         norm 'l1'; (.)^2 with norm 'l2', cf. Eq. (3) of [1]
        r_f = ReLU(conv1x1(.)): C_S -> C_T          as [2] describes the regressor

    LSFD [2] compares FitNet with its own LFD, which normalises the features and differs by its deeper regressor. If
    the regressor is read as the only difference, FitNet is `LSFDLoss` with `selective: false`, `kernel_size: 1`,
    `num_layers: 1`, `act: relu` and `act_last: true` (options/ablations/lsfd/fitnet_as_lfd_*.yml).

    Departs from the paper: [1] regresses one layer with the L2 norm; super-resolution [2] uses L1 over several layers.
    Needs features: any.   Zero when student equals teacher: only with `regressor` 'none'.

    Args:
        regressor: 'conv1x1', or 'none' to compare the features as they are, which needs equal channels [3].
        act: After the regressor: 'relu', or 'none' to reach the negative values of the teacher's features too.
        norm: 'l1' or 'l2'.
        loss_range: 255 (weight for image losses on 0..255) or 1 (255 times smaller), see `kdsr/losses/loss_range.py`.
        loss_weight: Factor on the result.
        features: Names from `distillation.features`; all of them when left out.

    Shape:
        student.features[f]: (N, Cs, H, W), any range; teacher.features[f]: (N, Ct, H, W), same N, H, W; result: ().

    Raises:
        UserError: unknown option value; a feature is not tapped.
        ValueError: a feature differs in N, H or W, or in its channels with `regressor` 'none'; the message names it
            and both shapes.

    References:
        [1] Romero, Ballas, Kahou, Chassang, Gatta, Bengio. FitNets: Hints for Thin Deep Nets. ICLR 2015.
            https://arxiv.org/abs/1412.6550
        [2] Park, Kwak. Local-Selective Feature Distillation for Single Image Super-Resolution. 2021.
            https://arxiv.org/abs/2111.10988
        [3] He, Dai, Lu, Jiang, Xia. FAKD: Feature-Affinity Based Knowledge Distillation for Efficient Image
            Super-Resolution. ICIP 2020.

    Example:
        >>> import kdsr, torch
        >>> image = torch.zeros(1, 3, 8, 8)
        >>> student = kdsr.NetworkOutput(sr=image, features={'late': torch.zeros(1, 8, 4, 4)})
        >>> teacher = kdsr.NetworkOutput(sr=image, features={'late': torch.ones(1, 16, 4, 4)})
        >>> loss = kdsr.losses.FitNetLoss(loss_weight=0.1)
        >>> loss.build_helpers(student, teacher)  # one convolution 8 -> 16
        >>> sum(p.numel() for p in loss.parameters())
        144
        >>> loss(student, teacher, kdsr.Batch(lq=torch.zeros(1, 3, 4, 4))).shape
        torch.Size([])
    """

    needs_teacher_image = False

    def __init__(
        self,
        regressor: Regressor = 'conv1x1',
        act: Act = 'relu',
        norm: FitNetNorm = 'l1',
        loss_range: LossRange = 255,
        loss_weight: float = 1.0,
        features: list[str] | None = None,
    ) -> None:
        super().__init__(loss_weight, features)
        check_choice('regressor', regressor, get_args(Regressor))
        check_choice('act', act, get_args(Act))
        check_choice('norm', norm, get_args(FitNetNorm))
        check_loss_range(loss_range)
        self.regressor = regressor
        self.act = act
        self.norm = norm
        self.loss_range = loss_range
        self.regressors = nn.ModuleDict()
        self._equal_channels = '`regressor: none`' if regressor == 'none' else ''

    def build_helpers(self, student: NetworkOutput, teacher: NetworkOutput) -> None:
        """Create one regressor per feature from the channels of a dry run."""
        for name, student_feature, teacher_feature in self.pairs(student, teacher):
            pair_features('FitNetLoss', name, student_feature, teacher_feature, self._equal_channels)
            if self.regressor == 'conv1x1':
                channels = student_feature.shape[1], teacher_feature.shape[1]
                layer = ConvRegressor(*channels, act=self.act, act_last=True)
                self.regressors[helper_key(name)] = layer.to(student_feature.device)

    def distance(self, student: NetworkOutput, teacher: NetworkOutput, batch: Batch) -> Tensor:
        """Return the sum over the features, a 0-dim tensor."""
        total = at_least_float32(student.image.new_zeros(()))
        for name, feature, target in self.pairs(student, teacher):
            if self.regressor == 'conv1x1':
                feature = self.regressors[helper_key(name)](feature)
            regressed, target = pair_features('FitNetLoss', name, feature, target, self._equal_channels)
            difference = regressed - target
            total = total + (difference.abs().mean() if self.norm == 'l1' else difference.square().mean())
        return scale_to_range(total, self.loss_range, image_term=False)
