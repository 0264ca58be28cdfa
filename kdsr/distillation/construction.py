"""Bounds on networks while they are built: options out of files may ask for any number of layers of any size."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.module import register_module_module_registration_hook
from torch.utils._python_dispatch import TorchDispatchMode

from kdsr.errors import UserError

LARGEST_ARGUMENT = 1_000_000  # a whole number in the options of a network
MOST_MODULES = 30_000  # RCAN has 1,800, HAT-L 1,700
MOST_VALUES = 200_000_000  # of all tensors that are made; EDSR has 43 million


class TooLargeError(UserError):
    """A network that its options make absurdly large."""


@contextlib.contextmanager
def bound_construction(kind: Any) -> Iterator[None]:
    """Stop the construction of a network that has too many modules or values, before they fill the memory.

    Args:
        kind: Name of the network, for messages.

    Raises:
        TooLargeError: from inside, at the module or tensor that is too much.
    """
    bounds = _Bounds(kind)
    hook = register_module_module_registration_hook(bounds.count_module)
    try:
        with bounds:
            yield
    finally:
        hook.remove()


def check_sizes(opt: Mapping[str, Any], where: str) -> None:
    """Refuse whole numbers that no network needs.

    Args:
        opt: Options of a network.
        where: Their key, for the message.

    Raises:
        TooLargeError: names the number.
    """
    for path, value in _list_numbers(opt, where):
        if abs(value) > LARGEST_ARGUMENT:
            raise TooLargeError(f'{path} is larger than {LARGEST_ARGUMENT:,}, which no network needs.')


def _list_numbers(value: Any, path: str) -> Iterator[tuple[str, int]]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _list_numbers(item, f'{path}.{key}')
    elif isinstance(value, (list, tuple)):
        for i, item in enumerate(value):
            yield from _list_numbers(item, f'{path}[{i}]')
    elif isinstance(value, int):
        yield path, value


class _Bounds(TorchDispatchMode):
    """Counts modules, and the values of tensors that are made of nothing; sees sizes before memory is taken."""

    def __init__(self, kind: Any) -> None:
        super().__init__()
        self.kind, self.modules, self.values = kind, 0, 0

    def count_module(self, module: nn.Module, name: str, submodule: nn.Module | None) -> None:
        """Count a module that becomes a part of another."""
        self.modules += 1
        if self.modules > MOST_MODULES:
            raise TooLargeError(f'with these arguments {self.kind} has more than {MOST_MODULES:,} modules.')

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if not any(isinstance(value, Tensor) for value in args):
            self.values += _count_values(args)
        elif func.__name__ == 'unbind.int' and len(args[0]) > MOST_MODULES:  # a loop over a tensor
            self.values += MOST_VALUES + 1
        if self.values > MOST_VALUES:
            raise TooLargeError(f'with these arguments {self.kind} has more than {MOST_VALUES:,} values.')
        return func(*args, **kwargs)


def _count_values(args: tuple[Any, ...]) -> int:
    """Return the number of values that a function makes: of its shape, or of the largest number that it is given."""
    if args and isinstance(args[0], (list, tuple)):
        sizes = [size for size in args[0] if isinstance(size, int)]
        return abs(math.prod(sizes)) if sizes else 0
    numbers = [abs(value) for value in args if isinstance(value, (int, float)) and math.isfinite(value)]
    return int(max(numbers, default=0))
