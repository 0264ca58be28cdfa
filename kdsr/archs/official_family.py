"""What describes a family of official checkpoints, and how settings are read from the shapes of tensors."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from kdsr.archs.official_names import Rule, Weights
from kdsr.errors import UserError

AUTHORS_CODE = (
    "Use its authors' code: put the file of the network into the current folder as NAME_arch.py, with "
    '`@ARCH_REGISTRY.register()` above its class (`from basicsr.utils.registry import ARCH_REGISTRY`) unless it is '
    'there already. Write an option file with `import_modules: [NAME_arch]` and the class as the `type:` of '
    '`network_g:`; then `kdsr benchmark FILE --network OPTIONS.yml`, or `path.pretrain_network_g: FILE`.'
)


@dataclass(frozen=True)
class Family:
    """Checkpoints that the same rules convert; a new architecture is one more entry of `FAMILIES`.

    Attributes:
        name: Common name of the network.
        origin: Whose files these are and how their names look, for the message that lists all families.
        markers: Patterns; a file belongs to the family if each of them matches a key.
        rules: (pattern of a whole key, its new name). The first match counts; None drops the tensor; a key without a
            match keeps its name.
        describe: Returns the options of the network, with `type`, from the weights.
        note: Facts for the user that the options do not show.
    """

    name: str
    origin: str
    markers: tuple[str, ...]
    rules: Sequence[Rule]
    describe: Callable[[Weights], dict[str, Any]]
    note: str = ''

    def recognises(self, weights: Weights) -> bool:
        """Return whether the names in `weights` belong to this family."""
        return all(any(re.fullmatch(marker, key) for key in weights) for marker in self.markers)


def read_size(weights: Weights, key: str, dim: int = 0) -> int:
    """Return the length of a dimension of a tensor.

    Raises:
        UserError: there is no such tensor or dimension.
    """
    if key not in weights or weights[key].dim() <= dim:
        raise UserError(f'the tensor {key!r} is missing or has too few dimensions.')
    return weights[key].shape[dim]


def count_numbers(weights: Weights, pattern: str) -> int:
    """Return how many different numbers the group of `pattern` matches."""
    return len({match[1] for match in (re.match(pattern, key) for key in weights) if match})


def read_shuffled_scale(weights: Weights, key: str, channels: int) -> int:
    """Return S of the convolution `key`, which computes S^2 maps for each of `channels`."""
    return round((read_size(weights, key) / channels) ** 0.5)


def read_stepped_scale(weights: Weights, prefix: str, num_feat: int) -> int:
    """Return the product of the steps of a sub-pixel upsampler: 2, 2*2, ... or 3."""
    keys = [key for key in weights if re.fullmatch(re.escape(prefix) + r'\d+\.weight', key)]
    scale = 1
    for key in keys:
        scale *= read_shuffled_scale(weights, key, num_feat)
    return scale
