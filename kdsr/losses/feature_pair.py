"""The two features that a feature loss compares, and the regressor between them."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from kdsr.distillation.adapters import ACTIVATIONS, ConvRegressor, helper_key
from kdsr.distillation.precision import at_least_float32
from kdsr.errors import check_choice

SHORTEST = 1e-12


def of_unit_length(feature: Tensor, dims: tuple[int, ...]) -> Tensor:
    """Return `feature` divided by its L2 norm over `dims`.

    What is shorter than 1e-12 has no direction and is returned as it is. An all-zero feature so gets the gradient of
    the difference itself, which leads it to the teacher's; to divide by a small number instead, as
    `torch.nn.functional.normalize` does, would multiply that gradient by 1e12.
    """
    length = torch.linalg.vector_norm(feature, dim=dims, keepdim=True)
    return feature / length.masked_fill(length <= SHORTEST, 1)


def feature_pair(loss: str, name: str, ours: Tensor, theirs: Tensor, equal_channels: str = '') -> tuple[Tensor, Tensor]:
    """Return the student's and the teacher's feature, ready to be compared.

    Args:
        loss: Name of the loss, for messages.
        name: Name of the feature, for messages.
        ours: (N, Cs, H, W); keeps its gradient.
        theirs: (N, Ct, H, W); is detached: no loss trains a teacher.
        equal_channels: The option that needs Cs = Ct, as the message names it; empty where they may differ.

    Returns:
        Two tensors of at least single precision, whatever autocast gave.

    Raises:
        ValueError: N, H or W differ, or the channels where `equal_channels` is given.
    """
    shapes = f'feature {name!r} is {tuple(ours.shape)} in the student and {tuple(theirs.shape)} in the teacher'
    if ours.ndim != 4 or theirs.ndim != 4 or len(ours) != len(theirs) or ours.shape[2:] != theirs.shape[2:]:
        raise ValueError(f'{loss} needs maps (N, C, H, W) of one N, H and W, but {shapes}. Tap another layer.')
    if equal_channels and ours.shape[1] != theirs.shape[1]:
        raise ValueError(
            f'{loss} with {equal_channels} needs equal channels, but {shapes}. Another value of that option takes any.'
        )
    return at_least_float32(ours), at_least_float32(theirs.detach())


class FeatureRegressors(nn.ModuleDict):
    """One deep regressor per feature, built from the channels of a dry run.

    Args:
        kind: 'deep', or 'none' to compare the features as they are, which needs equal channels.
        kernel_size: Odd.
        num_layers: Number of convolutions.
        act: 'prelu', 'relu', 'lrelu' or 'none', between the convolutions.
        act_last: Put an activation after the last convolution too.
        narrow: Keep the student's width up to the last convolution.

    Raises:
        ValueError: unknown `kind` or `act`; on `build`, what ConvRegressor refuses.
    """

    def __init__(self, kind: str, kernel_size: int, num_layers: int, act: str, act_last: bool, narrow: bool) -> None:
        super().__init__()
        check_choice('regressor', kind, ('deep', 'none'))
        check_choice('act', act, tuple(ACTIVATIONS))
        self.kind = kind
        self.kernel_size = kernel_size
        self.num_layers = num_layers
        self.act = act
        self.act_last = act_last
        self.narrow = narrow

    def build(self, loss: str, pairs: Iterable[tuple[str, Tensor, Tensor]]) -> None:
        """Create the regressors for (name, student feature, teacher feature)."""
        for name, ours, theirs in pairs:
            feature_pair(loss, name, ours, theirs, '`regressor: none`' if self.kind == 'none' else '')
            if self.kind == 'deep':
                self[helper_key(name)] = self._regressor(ours.shape[1], theirs.shape[1]).to(ours.device)

    def _regressor(self, ours: int, theirs: int) -> nn.Module:
        if not self.narrow or self.num_layers <= 1:
            return ConvRegressor(ours, theirs, self.kernel_size, self.num_layers, self.act, self.act_last)
        return nn.Sequential(
            ConvRegressor(ours, ours, self.kernel_size, self.num_layers - 1, self.act, act_last=True),
            ConvRegressor(ours, theirs, self.kernel_size, 1, self.act, self.act_last),
        )

    def pair(self, loss: str, name: str, ours: Tensor, theirs: Tensor) -> tuple[Tensor, Tensor]:
        """Return :func:`feature_pair` of the regressed student feature and the teacher's."""
        if self.kind == 'none':
            return feature_pair(loss, name, ours, theirs, '`regressor: none`')
        feature_pair(loss, name, ours, theirs)
        return feature_pair(loss, name, self[helper_key(name)](ours), theirs)
