"""Capture features by module path, without editing a network."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from kdsr.distillation.padding import crop_padding
from kdsr.distillation.precision import at_least_float32
from kdsr.errors import UserError, did_you_mean
from kdsr.wording import with_article

INPUT = ':input'


class _LastCaptured(Exception):  # noqa: N818 - no error: it ends a forward pass of which no more is needed
    """Raised inside a network when the last tapped module has run."""


class FeatureTap:
    """Captures the outputs of chosen modules while the network runs inside ``with tap as features:``.

    A point is a module path (``body.2``: the module's output) or a path with ``:input`` (``upsample:input``: what goes
    into it). The hooks live only inside the ``with`` and never change what the network computes. Tokens (N, h*w, C)
    become maps (N, C, h, w); what autocast made half precision is given in single precision. Maps of networks that pad
    their image are cut to its size. A module that runs several times keeps its last value.

    Some networks change a captured tensor in place later (``res += x`` after ``conv_after_body`` in EDSR and RCAN): the
    captured value would silently become another one. :meth:`calibrate` finds these points, and from then on they are
    copied at the moment of capture. So ``conv_after_body`` is always the value before the long skip, and
    ``upsample:input`` (``conv_before_upsample:input`` in SwinIR) the value after it.

    Args:
        network: The bare network (not its DistributedDataParallel wrapper; calling the wrapper is fine).
        points: Feature name to point.

    Raises:
        UserError: a path does not exist; the message names the close ones.

    Example:
        >>> import kdsr, torch
        >>> network = kdsr.load_network('rfdn_tiny_x2')
        >>> tap = kdsr.FeatureTap(network, {'early': 'body.0', 'late': 'upsample:input'})
        >>> image = torch.rand(1, 3, 12, 10)
        >>> tap.calibrate(lambda: network(image))
        >>> with tap as features:
        ...     enlarged = network(image)
        >>> {name: tuple(feature.shape[2:]) for name, feature in features.items()}
        {'early': (12, 10), 'late': (12, 10)}
    """

    def __init__(self, network: nn.Module, points: Mapping[str, str]) -> None:
        self.network = network
        self.points = dict(points)
        self._modules = {name: _find(network, name, point) for name, point in self.points.items()}
        self._copied: set[str] = set()
        self._handles: list[RemovableHandle] = []
        self._captured: dict[str, Any] = {}
        self._versions: dict[str, tuple[Tensor, int]] = {}
        self._input_size: tuple[int, int] = (0, 0)
        self._captures = 0
        self._all_captures: dict[tuple[int, int], int] = {}  # in a whole run, by size of the input
        self._stops = False

    @property
    def modules(self) -> frozenset[nn.Module]:
        """The modules that are tapped."""
        return frozenset(module for module, _ in self._modules.values())

    @torch.no_grad()
    def calibrate(self, run: Callable[[], Any]) -> None:
        """Let `run` call the network once to learn which points it changes in place later, and which one is the last.

        The former holds for any input, the latter for inputs of the same size.
        """
        if not self.points:
            return
        self._open()
        try:
            run()
            self._copied |= self._changed()
            self._all_captures[self._input_size] = self._captures
        finally:
            self._close()

    def features_only(self, run: Callable[[], Any]) -> dict[str, Tensor]:
        """Let `run` call the network as far as its last tapped module, and return the features.

        For inputs of a size that no calibration has seen the network runs to its end.
        """
        self._stops = True
        try:
            with self as features:
                run()
        except _LastCaptured:
            pass
        finally:
            self._stops = False
        return features

    @property
    def copied(self) -> frozenset[str]:
        """Features that are copied because the network changes them in place later."""
        return frozenset(self._copied)

    def __enter__(self) -> dict[str, Tensor]:
        self._open()
        return self._captured

    def __exit__(self, error: type[BaseException] | None, *rest: object) -> None:
        changed = self._changed()
        self._close()
        if error is not None and error is not _LastCaptured:
            return
        for name, feature in self._captured.items():
            if feature is None:
                raise UserError(f'feature {name!r}: {self.points[name]!r} did not run in this forward pass.')
        if changed:
            names = ', '.join(f'{n} ({self.points[n]})' for n in sorted(changed))
            raise RuntimeError(f'changed in place after the capture: {names}. Call `calibrate` before the first use.')

    def _open(self) -> None:
        if self._handles:
            raise RuntimeError('this tap is already open.')
        self._captured, self._versions = dict.fromkeys(self.points), {}  # in the order of the points
        self._captures = 0
        self._handles.append(self.network.register_forward_pre_hook(self._note_input_size))
        for name, (module, is_input) in self._modules.items():
            if is_input:
                self._handles.append(module.register_forward_pre_hook(self._input_hook(name)))
            else:
                self._handles.append(module.register_forward_hook(self._output_hook(name)))

    def _close(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self._versions = {}

    def _changed(self) -> set[str]:
        return {name for name, (tensor, version) in self._versions.items() if tensor._version != version}

    def _note_input_size(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        self._input_size = (int(args[0].shape[-2]), int(args[0].shape[-1]))

    def _output_hook(self, name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            self._capture(name, output, args)

        return hook

    def _input_hook(self, name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Any, ...]) -> None:
            self._capture(name, args[0] if args else None, args)

        return hook

    def _capture(self, name: str, value: Any, args: Iterable[Any]) -> None:
        point = self.points[name]
        if not isinstance(value, Tensor):
            kind = with_article(type(value).__name__)
            raise UserError(f'feature {name!r}: {point!r} returns {kind}, not a tensor; tap inside it.')
        if name in self._copied or value.is_inference():  # inference tensors do not count their changes
            value = value.clone()
        else:
            self._versions[name] = (value, value._version)
        feature = crop_padding(self._as_map(name, value, args), self._input_size)
        self._captured[name] = at_least_float32(feature)
        self._captures += 1
        if self._stops and self._captures == self._all_captures.get(self._input_size):
            raise _LastCaptured

    def _as_map(self, name: str, value: Tensor, args: Iterable[Any]) -> Tensor:
        if value.ndim == 4:
            return value
        if value.ndim == 3:
            count = value.shape[1]
            for size in (
                *filter(_is_size, args),
                self._input_size,
            ):  # Swin layers are called with the size: (x, x_size)
                if size[0] * size[1] == count:
                    return value.transpose(1, 2).unflatten(2, (int(size[0]), int(size[1])))
        raise UserError(
            f'feature {name!r}: {self.points[name]!r} has the shape {tuple(value.shape)}, which is neither a map '
            f'(N, C, h, w) nor tokens (N, h*w, C) of the {self._input_size} input. Tap the block around it.'
        )


def _is_size(value: Any) -> bool:
    return isinstance(value, (tuple, list)) and len(value) == 2 and all(isinstance(v, int) for v in value)


def _find(network: nn.Module, name: str, point: str) -> tuple[nn.Module, bool]:
    text = missing_module(network, point)
    if text is not None:
        raise UserError(f'feature {name!r}: {text}')
    return network.get_submodule(point.removesuffix(INPUT)), point.endswith(INPUT)


def missing_module(network: nn.Module, point: str) -> str | None:
    """Say that a network has no such module, with the close names; return None where it has it.

    Args:
        network: Any module.
        point: Module path, with or without `:input`.
    """
    path, modules = point.removesuffix(INPUT), dict(network.named_modules())
    if not path:
        return f'{point!r} names no module.'
    if path in modules:
        return None
    children = ', '.join(n for n, _ in network.named_children())
    hint = did_you_mean(path, modules) or f' Its parts are {children}.'
    return f'{type(network).__name__} has no module {path!r}.{hint}'


def module_at(network: nn.Module, path: str, where: str) -> nn.Module:
    """Return the part of `network` at a module path; the network itself for an empty one.

    Raises:
        UserError: there is none; the message names `where` it was asked for, and the close ones.
    """
    text = missing_module(network, path) if path else None
    if text is not None:
        raise UserError(f'{where}: {text}')
    return network.get_submodule(path)
