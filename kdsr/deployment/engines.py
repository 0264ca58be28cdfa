"""What runs a network on pixels: PyTorch, onnxruntime or OpenVINO, chosen by what is installed."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from kdsr.cost.latency import Precision
from kdsr.deployment.exportable import exportable, traceable_windows
from kdsr.deployment.pixel_network import PixelNetwork, find_tail
from kdsr.distillation.precision import autocast, find_slow_precision
from kdsr.errors import UserError
from kdsr.networks.onnx_network import compile_openvino, get_first_line, open_onnx_session
from kdsr.optional_packages import import_optional, is_installed

Engine = Literal['auto', 'torch', 'onnx', 'openvino']
InstalledEngine = Literal['torch', 'onnx', 'openvino']
ENGINES = ('auto', 'torch', 'onnx', 'openvino')
PixelRun = Callable[
    [Tensor], tuple[Tensor, float]
]  # pixels (N, h, w, C) to larger ones, and the mean of the raw values
_OPSET = 20
_PACKAGES = {'torch': (), 'onnx': ('onnx', 'onnxruntime'), 'openvino': ('onnx', 'openvino')}
_CHECKED = ((1, 24, 32), (2, 40, 24))  # (N, h, w) of the noise that an exported network is checked with
_TOLERANCE = {'fp32': 1, 'bf16': 24}  # levels of 255


def installed_engine(engine: Engine, precision: Precision, device: torch.device) -> InstalledEngine:
    """Return the engine to use: the one that is asked for, or with 'auto' the fastest that is installed.

    Raises:
        UserError: the engine does not serve this device or precision, or is not installed.
    """
    if engine == 'auto':
        if device.type != 'cpu' or precision == 'fp16' or not is_installed('onnx'):
            return 'torch'
        if is_installed('openvino'):
            return 'openvino'
        return 'onnx' if precision == 'fp32' and is_installed('onnxruntime') else 'torch'
    if engine != 'torch' and device.type != 'cpu':
        raise UserError(f'--engine {engine} runs on the CPU; on {device} use --engine torch.')
    if (engine == 'onnx' and precision != 'fp32') or (engine == 'openvino' and precision == 'fp16'):
        raise UserError(f'--engine {engine} does not compute in {precision}: leave out --engine.')
    for package in _PACKAGES[engine]:  # before any image is read, and once for all of them
        import_optional(package, f'--engine {engine}')
    return engine


class PixelRunner:
    """Runs one network on pixels of any layout, in the engine that was chosen.

    Args:
        network: Maps (N, C, h, w) in [0, 1] to (N, C, S*h, S*w); in eval mode, without gradients.
        scale: S.
        luminance: C is 1, Y of BT.601; otherwise 3, RGB.
        multiple: What the sides of its input must be multiples of.
        engine: What :func:`installed_engine` returned.
        fall_back: Use PyTorch, and say so with `notice`, where the network cannot be exported to the engine.
        device: Of PyTorch.
        precision: Of the computation.
        notice: Called with a sentence.

    Attributes:
        engine: What computes; it changes where it falls back.
        edges_are_cut: See :class:`PixelNetwork`; False until somebody who knows says so.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        scale: int,
        luminance: bool,
        multiple: int,
        engine: InstalledEngine,
        fall_back: bool,
        device: torch.device,
        precision: Precision,
        notice: Callable[[str], object],
    ) -> None:
        self.engine = engine
        self._network, self._scale, self._multiple = network, scale, multiple
        self._luminance, self.edges_are_cut = luminance, False
        warning = find_slow_precision(device, precision) if engine == 'torch' else None
        if warning:
            notice(warning)
        self._fall_back, self._device, self._precision, self._notice = fall_back, device, precision, notice
        self._runs: dict[tuple[int, bool], PixelRun] = {}

    def run(self, pixels: Tensor) -> Tensor:
        """Enlarge pixels.

        Args:
            pixels: (N, h, w, 1 or 3), uint8 or float32 in [0, 1], on the CPU; the sides are multiples of `multiple`.

        Returns:
            (N, S*h, S*w, 1 or 3) of the same type, on the CPU.

        Raises:
            UserError: the network gives values that are not finite.
        """
        key = (pixels.shape[3], pixels.dtype == torch.uint8)
        if key not in self._runs:
            self._runs[key] = self._build(*key)
        large, mean = self._runs[key](pixels)
        if not np.isfinite(mean):
            cure = ': compute in fp32' if self._precision == 'fp16' else '; are its weights damaged?'
            raise UserError(f'the network gives values that are not finite (NaN or overflow){cure}')
        return large

    def _build(self, channels: int, eight_bit: bool) -> PixelRun:
        whole = PixelNetwork(
            self._network,
            self._scale,
            luminance=self._luminance,
            channels=channels,
            eight_bit=eight_bit,
            edges_are_cut=self.edges_are_cut,
        ).eval()
        if self.engine == 'torch':
            return _torch_run(whole.to(self._device), self._device, self._precision)
        try:
            run = self._exported(whole, channels, eight_bit)
        except UserError as error:
            if not self._fall_back:
                raise
            self._notice(f'{self.engine} cannot run this network; PyTorch does. ({error})')
            self.engine = 'torch'
            return self._build(channels, eight_bit)
        return run

    def _exported(self, whole: PixelNetwork, channels: int, eight_bit: bool) -> PixelRun:
        generator = torch.Generator().manual_seed(0)
        images = []
        for n, height, width in _CHECKED:
            sides = (-(-side // self._multiple) * self._multiple for side in (height, width))
            noise = torch.rand((n, *sides, channels), generator=generator)
            images.append((255 * noise).to(torch.uint8) if eight_bit else noise)
        model = pixel_network_to_onnx(whole, images[0])
        if self.engine == 'onnx':
            run = _session_run(open_onnx_session(model, 'cpu', 'the network'))
        else:
            run = _openvino_run(compile_openvino(model, 'bf16' if self._precision == 'bf16' else 'f32'))
        reference = _torch_run(whole, torch.device('cpu'), 'fp32')
        for image in images:
            try:
                given, (expected, mean) = run(image)[0], reference(image)
            except Exception as error:  # of the runtimes, each of which has its own
                raise UserError(f'it fails on {tuple(image.shape)}: {get_first_line(error)}') from None
            if not np.isfinite(mean):  # `run` tells it, whatever computes
                continue
            if given.shape != expected.shape:
                raise UserError(
                    f'it makes {tuple(given.shape)} of {tuple(image.shape)}, PyTorch {tuple(expected.shape)}.'
                )
            difference = float((given.float() - expected.float()).abs().max()) * (1 if eight_bit else 255)
            if not difference <= _TOLERANCE[self._precision]:
                raise UserError(f'it differs from PyTorch by {difference:.1f} of 255.')
        return run


def pixel_network_to_onnx(network: PixelNetwork, image: Tensor) -> bytes:
    """Export a network from pixels to pixels to ONNX; batch, height and width are free.

    Args:
        network: In eval mode, on the CPU.
        image: What to trace with, (N, h, w, C).

    Raises:
        UserError: onnx is missing, or the network cannot be exported.
    """
    import_optional('onnx', 'an engine other than PyTorch')
    file = io.BytesIO()
    inner = exportable(network.network, 1, network.scale)
    noise = torch.rand(
        (1, 1 if network.luminance else 3, *image.shape[1:3]), generator=torch.Generator().manual_seed(0)
    )
    traced = PixelNetwork(
        inner,
        network.scale,
        luminance=network.luminance,
        channels=network.channels,
        eight_bit=network.eight_bit,
        edges_are_cut=network.edges_are_cut,
        tail=find_tail(inner, noise),
    ).eval()
    free = {0: 'n', 1: 'h', 2: 'w'}
    try:
        with warnings.catch_warnings(), torch.no_grad(), traceable_windows():
            warnings.simplefilter('ignore')
            torch.onnx.export(
                traced,
                (image,),
                file,  # type: ignore[arg-type]
                dynamo=False,
                opset_version=_OPSET,
                input_names=['pixels'],
                output_names=['large', 'mean'],
                dynamic_axes={'pixels': free, 'large': free},
            )
    except Exception as error:  # exporters end in one of dozens of errors
        raise UserError(f'it cannot be exported to ONNX ({type(error).__name__}: {get_first_line(error)}).') from error
    return file.getvalue()


def is_out_of_memory(error: BaseException) -> bool:
    """Say whether an exception of any runtime means that memory is short."""
    if isinstance(error, (MemoryError, torch.cuda.OutOfMemoryError)):
        return True
    text = str(error).lower()
    return any(sign in text for sign in ('out of memory', "can't allocate memory", 'bad_alloc', 'failed to allocate'))


def _torch_run(network: PixelNetwork, device: torch.device, precision: Precision) -> PixelRun:
    def run(pixels: Tensor) -> tuple[Tensor, float]:
        with torch.inference_mode(), autocast(device, precision):
            large, mean = network(pixels.to(device))
        return large.cpu(), float(mean)

    return run


def _session_run(session: object) -> PixelRun:
    def run(pixels: Tensor) -> tuple[Tensor, float]:
        large, mean = session.run(None, {'pixels': pixels.numpy()})  # type: ignore[attr-defined]
        return torch.from_numpy(large), float(mean)

    return run


def _openvino_run(request: object) -> PixelRun:
    def run(pixels: Tensor) -> tuple[Tensor, float]:
        request.infer([pixels.numpy()], share_inputs=True)  # type: ignore[attr-defined]
        large, mean = (request.get_output_tensor(i).data for i in (0, 1))  # type: ignore[attr-defined]
        return torch.from_numpy(large.copy()), float(mean)

    return run
