"""The two features that a feature loss compares, and the regressor between them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from kdsr.distillation.adapters import ACTIVATIONS, ConvRegressor, helper_key
from kdsr.distillation.precision import at_least_float32
from kdsr.errors import check_choice

RegressorKind = Literal['deep', 'none']
Activation = Literal['prelu', 'relu', 'lrelu', 'none']
SHORTEST = 1e-12


def normalise(feature: Tensor, dims: tuple[int, ...]) -> Tensor:
    """Divide `feature` by its L2 norm over `dims`.

    A vector shorter than 1e-12 has no direction and is returned unchanged. So an all-zero feature gets the gradient of
    the plain difference, which leads it to the teacher's feature. Division by a small constant, as in
    `torch.nn.functional.normalize`, would multiply that gradient by 1e12.

    Args:
        feature: Any shape.
        dims: Dimensions of the norm.

    Returns:
        A tensor of the same shape.
    """
    length = torch.linalg.vector_norm(feature, dim=dims, keepdim=True)
    return feature / length.masked_fill(length <= SHORTEST, 1)


def pair_features(
    loss: str, name: str, student_feature: Tensor, teacher_feature: Tensor, equal_channels: str = ''
) -> tuple[Tensor, Tensor]:
    """Return the student's and the teacher's feature for a comparison.

    Args:
        loss: Name of the loss, for messages.
        name: Name of the feature, for messages.
        student_feature: (N, Cs, H, W); keeps its gradient.
        teacher_feature: (N, Ct, H, W); is detached, because no loss trains a teacher.
        equal_channels: The option that needs Cs = Ct, for the message; empty if the channels may differ.

    Returns:
        Two tensors of at least single precision, also under autocast.

    Raises:
        ValueError: N, H or W differ, or the channels differ and `equal_channels` is given.
    """
    ours, theirs = student_feature.shape, teacher_feature.shape
    shapes = f'feature {name!r} is {tuple(ours)} in the student and {tuple(theirs)} in the teacher'
    if len(ours) != 4 or len(theirs) != 4 or ours[0] != theirs[0] or ours[2:] != theirs[2:]:
        raise ValueError(f'{loss} needs maps (N, C, H, W) of one N, H and W, but {shapes}. Tap another layer.')
    if equal_channels and ours[1] != theirs[1]:
        raise ValueError(
            f'{loss} with {equal_channels} needs equal channels, but {shapes}. Another value of that option takes any.'
        )
    return at_least_float32(student_feature), at_least_float32(teacher_feature.detach())


class FeatureRegressors(nn.ModuleDict):
    """One deep regressor per feature, built from the channels of a dry run.

    Args:
        kind: 'deep', or 'none' to compare the features themselves, which needs equal channels.
        kernel_size: Odd.
        num_layers: Number of convolutions.
        act: Between the convolutions.
        act_last: Add an activation after the last convolution.
        narrow: Keep the student's width up to the last convolution.

    Raises:
        UserError: unknown `kind` or `act`.
    """

    def __init__(
        self,
        kind: RegressorKind,
        kernel_size: int,
        num_layers: int,
        act: Activation,
        act_last: bool,
        narrow: bool,
    ) -> None:
        super().__init__()
        check_choice('regressor', kind, get_args(RegressorKind))
        check_choice('act', act, tuple(ACTIVATIONS))
        self.kind = kind
        self.kernel_size = kernel_size
        self.num_layers = num_layers
        self.act = act
        self.act_last = act_last
        self.narrow = narrow

    def build(self, loss: str, pairs: Iterable[tuple[str, Tensor, Tensor]]) -> None:
        """Create the regressors.

        Args:
            loss: Name of the loss, for messages.
            pairs: Name, student feature (N, Cs, H, W) and teacher feature (N, Ct, H, W).

        Raises:
            UserError: `kernel_size` is even, or `num_layers` is below 1.
            ValueError: see :func:`pair_features`.
        """
        for name, student_feature, teacher_feature in pairs:
            equal_channels = '`regressor: none`' if self.kind == 'none' else ''
            pair_features(loss, name, student_feature, teacher_feature, equal_channels)
            if self.kind == 'deep':
                regressor = self._build_one(student_feature.shape[1], teacher_feature.shape[1])
                self[helper_key(name)] = regressor.to(student_feature.device)

    def _build_one(self, student_channels: int, teacher_channels: int) -> nn.Module:
        def build_layers(out_channels: int, num_layers: int, act_last: bool) -> nn.Module:
            return ConvRegressor(
                in_channels=student_channels,
                out_channels=out_channels,
                kernel_size=self.kernel_size,
                num_layers=num_layers,
                act=self.act,
                act_last=act_last,
            )

        if not self.narrow or self.num_layers <= 1:
            return build_layers(teacher_channels, self.num_layers, self.act_last)
        return nn.Sequential(
            build_layers(student_channels, self.num_layers - 1, act_last=True),
            build_layers(teacher_channels, 1, self.act_last),
        )

    def regress_pair(
        self, loss: str, name: str, student_feature: Tensor, teacher_feature: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return :func:`pair_features` of the regressed student feature and the teacher's feature."""
        if self.kind == 'none':
            return pair_features(loss, name, student_feature, teacher_feature, '`regressor: none`')
        pair_features(loss, name, student_feature, teacher_feature)
        return pair_features(loss, name, self[helper_key(name)](student_feature), teacher_feature)
