"""One network of an experiment: its options, its role, its input and its weights."""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from basicsr.utils.registry import ARCH_REGISTRY

from kdsr.options import KeyPath, NetworkInput, Role, dotted


@dataclass(frozen=True)
class Network:
    """A network that an option file describes.

    Attributes:
        path: Where its options stand: ``('network_g',)``, ``('distillation', 'teachers', 0, 'network')``, ...
        opt: `type` and arguments, as BasicSR builds it.
        role: 'student', 'privileged' (a teacher in training whose input is the ground truth) and 'aggregator' can be
            `network_g`; 'teacher' and 'aggregator' stand in the `distillation:` block; 'other' are discriminators.
        name: Of the teacher; for the others the role.
        input: Its input, as the attribute of :class:`~kdsr.distillation.outputs.Batch` that holds it.
        magnified: How many times larger than the low-quality image its input is.
        channels: Of its input.
        weights: File that it starts from (`network_g`), or whose weights it keeps.
        param_key: Key of the weights in that file; None to look for `params_ema`, then `params`.
        weights_path: Where `weights` stands.
        precision: What a frozen network computes in: 'fp32', 'bf16' or 'fp16'.
        channels_last: Whether a frozen network keeps its channels innermost in memory.
        device: Where a frozen network stays; None: beside the student.
    """

    path: KeyPath
    opt: Mapping[str, Any]
    role: Role
    name: str
    input: NetworkInput = 'lq'
    magnified: int = 1
    channels: int = 3
    weights: str | None = None
    param_key: str | None = None
    weights_path: KeyPath = ()
    precision: str = 'fp32'
    channels_last: bool = False
    device: str | None = None

    @property
    def where(self) -> str:
        """The key of its options, for messages: ``distillation.teachers[0].network``."""
        return dotted(self.path)

    @property
    def frozen(self) -> bool:
        """Whether it stands in the `distillation:` block, and is not trained."""
        return self.path[0] == 'distillation'

    @property
    def window(self) -> int:
        """Its `window_size`, given or by default; 1 where it has none."""
        return window_of(self.opt)

    @property
    def multiple(self) -> int:
        """The number that both sides of its input must be multiples of, as far as its options show.

        The encoder of a privileged teacher divides the size of its input by the scale. An aggregator pads the teachers'
        images itself.
        """
        if self.role == 'aggregator':
            return 1
        return math.lcm(self.window, self.magnified) if self.role == 'privileged' else self.window

    def files(self) -> Iterator[tuple[KeyPath, str]]:
        """Yield the weight files that it needs, with their keys. A network may name its file among its arguments."""
        own = self.opt.get('path')
        for path, file in ((self.weights_path, self.weights), ((*self.path, 'path'), own)):
            if isinstance(file, str):
                yield path, file


def argument_of(opt: Mapping[str, Any], name: str) -> Any:
    """Return the value of a constructor argument of a network, given or by default.

    Args:
        opt: `type` and arguments of the network.
        name: Of the argument.

    Returns:
        None where the network has no such argument, or is not registered.
    """
    if name in opt:
        return opt[name]
    kind = opt.get('type')
    if not isinstance(kind, str) or kind not in ARCH_REGISTRY:
        return None
    parameter = inspect.signature(ARCH_REGISTRY.get(kind)).parameters.get(name)
    return None if parameter is None or parameter.default is parameter.empty else parameter.default


def window_of(network_opt: Mapping[str, Any]) -> int:
    """Return the multiple that a network's input sides must have: its `window_size`, given or by default, else 1."""
    window = argument_of(network_opt, 'window_size')
    return window if type(window) is int and window > 0 else 1
