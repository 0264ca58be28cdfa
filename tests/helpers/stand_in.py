"""A second device that needs no hardware: `standin`, whose tensors are CPU tensors behind a curtain.

It is PyTorch's PrivateUse1 backend written in Python, with the rules of a GPU:

* an operation whose tensors are on different devices raises, except for 0-dim CPU tensors;
* a CPU random generator for a tensor of the device raises;
* what a GPU would wait for (`item()`, `bool(tensor)`, `.cpu()`, a boolean mask as index, ...) and what is copied from
  the CPU is written down in :data:`WAITS` and :data:`UPLOADS`, with the place in the code.

Values are those of the CPU, so results can be compared. One process holds one such backend for good, and it must be
there before the first backward pass: import this module in a process of its own.
"""

from __future__ import annotations

import contextlib
import functools
import traceback
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.backend_registration import _DummyBackendModule, _setup_privateuseone_for_python_backend

NAME = 'standin'
ROOT = str(Path(__file__).parents[2])
WAITS: list[str] = []  # each: the operation and the innermost places in the code that called it
UPLOADS: list[str] = []

# A GPU's host waits for these, since it needs a value to go on.
_READ = {
    'aten::_local_scalar_dense', 'aten::equal', 'aten::nonzero', 'aten::nonzero_numpy', 'aten::masked_select',
    'aten::_unique2', 'aten::unique_dim', 'aten::unique_consecutive', 'aten::linalg_inv', 'aten::linalg_cholesky',
    'aten::linalg_solve', 'aten::bincount', 'aten::repeat_interleave.Tensor',
}  # fmt: skip
_COPIES = {'aten::copy_', 'aten::_to_copy', 'aten::_copy_from', 'aten::_copy_from_and_resize'}
# torch.tensor(values, device=...) calls these where no subclass can see them.
_PAST_THE_SUBCLASS = ('_copy_from', '_copy_from_and_resize', 'copy_', '_to_copy')
# PyTorch makes these by resizing an empty tensor, of which a subclass does not learn.
_MADE_BY_RESIZING = ('arange', 'linspace', 'logspace', 'randperm', 'eye', 'tril_indices', 'triu_indices')
_LOW_PRECISION = (
    'conv1d', 'conv2d', 'conv3d', 'conv_transpose2d', 'linear', 'matmul', 'bmm', 'mm', 'addmm', 'baddbmm',
)  # fmt: skip
_INDEXES = {'aten::index', 'aten::index_put_', 'aten::index_put', 'aten::_index_put_impl_'}


class _Module(_DummyBackendModule):
    """What `torch.standin` is."""

    class Event:
        """An event that has always happened: the CPU behind the device has done its work."""

        def record(self) -> None:
            """Do nothing."""

        def query(self) -> bool:
            """Return that what was recorded is done."""
            return True

    @staticmethod
    def get_amp_supported_dtype() -> list[torch.dtype]:
        return [torch.bfloat16, torch.float16]

    @staticmethod
    def _is_in_bad_fork() -> bool:
        return False

    @staticmethod
    def manual_seed_all(seed: int) -> None:
        """Do nothing: the CPU's generator makes the numbers."""


class StandIn(torch.Tensor):
    """A tensor on the stand-in device; `hidden` has its values."""

    hidden: torch.Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, hidden: torch.Tensor) -> StandIn:
        return torch.Tensor._make_wrapper_subclass(
            cls, hidden.shape, strides=hidden.stride(), storage_offset=hidden.storage_offset(), dtype=hidden.dtype,
            device=f'{NAME}:0',
        )  # fmt: skip

    def __init__(self, hidden: torch.Tensor) -> None:
        self.hidden = hidden

    def tolist(self) -> Any:
        """Return the values, for which a GPU's host waits."""
        WAITS.append(f'tolist: {_place()}')
        return self.hidden.tolist()

    def __repr__(self) -> str:
        return f'StandIn({self.hidden})'

    @classmethod
    def __torch_dispatch__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(function, args, kwargs or {})


def _place() -> str:
    """Return the three innermost lines of the project, or of BasicSR, that led here."""
    stack = [frame for frame in traceback.extract_stack() if frame.filename != __file__]
    ours = [f for f in stack if 'basicsr' in f.filename or ('.venv' not in f.filename and f.filename.startswith(ROOT))]
    return ' <- '.join(f'{Path(f.filename).name}:{f.lineno} {f.line}' for f in reversed(ours[-3:]))


def _check(function: Any, leaves: list[Any]) -> None:
    """Raise where a GPU would; write down what it would wait for."""
    name = function._schema.name
    strangers = [x for x in leaves if isinstance(x, torch.Tensor) and not isinstance(x, StandIn) and x.dim() > 0]
    if strangers and name in _INDEXES:
        UPLOADS.append(f'{name}: {_place()}')
    elif strangers and name not in _COPIES:
        raise RuntimeError(f'Expected all tensors to be on the same device: {function} got {NAME} and cpu tensors')
    if any(isinstance(x, torch.Generator) and x.device.type == 'cpu' for x in leaves):
        raise RuntimeError(f'Expected a {NAME} device type for generator but found cpu')
    masks = name in _INDEXES and any(
        isinstance(x, StandIn) and x.dtype in (torch.bool, torch.uint8) for x in leaves[1:]
    )
    if name in _READ or masks:
        WAITS.append(f'{name}: {_place()}')


def _note_copy(function: Any, args: Any, kwargs: dict[str, Any], wanted: str) -> None:
    """Write down a copy from one device to the other, unless the host goes on meanwhile (`non_blocking`)."""
    name = function._schema.name
    if name == 'aten::_to_copy':
        source, to_device = args[0], wanted == NAME
    else:
        to, source = (args[0], args[1]) if name == 'aten::copy_' else (args[1], args[0])
        to_device = isinstance(to, StandIn)
    if isinstance(source, StandIn) is to_device or True in (*args[2:], kwargs.get('non_blocking')):
        return
    (UPLOADS if to_device else WAITS).append(f'{name} to {NAME if to_device else "cpu"}: {_place()}')


def _run(function: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """Run an operation on the values behind the curtain."""
    leaves = tree_leaves((args, kwargs))
    _check(function, leaves)
    device = kwargs.get('device')
    wanted = torch.device(device).type if device is not None else NAME
    if function._schema.name in _COPIES:
        _note_copy(function, args, kwargs, wanted)
    wrappers = {id(x.hidden): x for x in leaves if isinstance(x, StandIn)}
    args, kwargs = tree_map(lambda x: x.hidden if isinstance(x, StandIn) else x, (args, kwargs))
    if device is not None:
        kwargs['device'] = 'cpu'
    kwargs.pop('pin_memory', None)
    result = function(*args, **kwargs)
    assert all(x.shape == x.hidden.shape for x in leaves if isinstance(x, StandIn)), f'{function} resized a tensor'
    if wanted == 'cpu':
        return result

    def hide(x: Any) -> Any:
        if not isinstance(x, torch.Tensor):
            return x
        return wrappers.get(id(x)) if id(x) in wrappers else (x if x is to_cpu else StandIn(x))

    copied = function._schema.name == 'aten::copy_'
    to_cpu = args[0] if copied and id(args[0]) not in wrappers else None
    return tree_map(hide, result)


def _in_low_precision(function: Any, *args: Any, **kwargs: Any) -> Any:
    """Run an operation under autocast: floating-point tensors of the device become short ones."""
    key = torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastPrivateUse1)
    dtype = torch.get_autocast_dtype(NAME)

    def shorten(x: Any) -> Any:
        return x.to(dtype) if isinstance(x, torch.Tensor) and x.is_floating_point() else x

    with torch._C._ExcludeDispatchKeyGuard(key):
        return function(*tree_map(shorten, args), **tree_map(shorten, kwargs))


def _implement(library: torch.library.Library, names: Iterable[str], run: Callable[..., Any], key: str) -> None:
    """Let `run(operation, ...)` be what all variants of the named operations do."""
    for name in names:
        packet = getattr(torch.ops.aten, name)
        for overload in packet.overloads():
            if 'out' not in overload and 'names' not in overload:
                function = getattr(packet, overload)
                library.impl(function, functools.partial(run, function), key)


def register() -> torch.device:
    """Make the device known to PyTorch; return it."""
    _setup_privateuseone_for_python_backend(NAME, backend_module=_Module())
    everything, some = torch.library.Library('_', 'IMPL'), torch.library.Library('aten', 'IMPL')
    everything.fallback(_run_with, 'PrivateUse1')
    everything.fallback(torch.library.fallthrough_kernel, 'AutocastPrivateUse1')
    _implement(some, _PAST_THE_SUBCLASS + _MADE_BY_RESIZING, _run_with, 'PrivateUse1')
    _implement(some, _LOW_PRECISION, _in_low_precision, 'AutocastPrivateUse1')
    torch.inference_mode = _without_gradients
    register.libraries = everything, some  # type: ignore[attr-defined]  # they undo all when they are collected
    return torch.device(NAME, 0)


def _without_gradients(mode: bool = True) -> contextlib.AbstractContextManager[object]:
    """Stand for `torch.inference_mode`, in which PyTorch cannot make views of such tensors."""
    return torch.no_grad() if mode else contextlib.nullcontext()


def _run_with(function: Any, *args: Any, **kwargs: Any) -> Any:
    return _run(function, args, kwargs)


@contextlib.contextmanager
def recorded() -> Iterator[tuple[list[str], list[str]]]:
    """Collect what is waited for and uploaded inside."""
    WAITS.clear()
    UPLOADS.clear()
    yield WAITS, UPLOADS
