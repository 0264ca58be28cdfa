"""One function for each target: from a network to the content of its files, and what runs them again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from kdsr.archs.spandrel_arch import Spandrel
from kdsr.deployment import formats
from kdsr.deployment.card import ModelCard
from kdsr.deployment.exportable import exportable
from kdsr.deployment.formats import ExportedRun
from kdsr.deployment.pixel_network import PixelNetwork
from kdsr.deployment.verification import TOLERANCE
from kdsr.distillation.padding import run_padded
from kdsr.errors import UserError
from kdsr.export_targets.coreml_files import to_coreml
from kdsr.export_targets.ncnn_files import ncnn_name, ncnn_runner, to_ncnn
from kdsr.export_targets.openvino_files import openvino_runner, to_openvino
from kdsr.export_targets.plain import plain_network
from kdsr.export_targets.spandrel_files import spandrel_runner, to_spandrel
from kdsr.export_targets.web_page import web_files
from kdsr.networks.candidates import Candidate

HALF_TOLERANCE = 8e-3  # of weights in 16 bits: two steps of 8 bits
SPANDREL_FILE = 'A network of spandrel stays in its own file, which kdsr reads as it is.'


@dataclass(frozen=True)
class Made:
    """The files of one export.

    Attributes:
        files: Name below the folder of the results to content; the first is what messages name.
        run: What runs them: (N, C, h, w) to (N, C, S*h, S*w); None for weights alone.
        tolerance: The largest difference to PyTorch that is accepted, images in [0, 1].
        timed: Name in the table of latencies; '' to leave it out.
        default_run: As users run it without settings, in less than single precision; None where `run` is that.
    """

    files: Mapping[str, bytes]
    run: ExportedRun | None = None
    tolerance: float = TOLERANCE
    timed: str = ''
    default_run: ExportedRun | None = None


class Maker:
    """Makes the files of one network.

    Args:
        one: The network.
        card: What the files say of themselves.
        size: (h, w) for images of one size; None for any.

    Attributes:
        channels: C of the network, 1 or 3.
        onnx: Content of the ONNX file, without card.
    """

    def __init__(self, one: Candidate, card: ModelCard, size: tuple[int, int] | None) -> None:
        assert one.network is not None
        self.card, self.size = card, size
        self.network: nn.Module = one.network
        self.channels = 1 if one.luminance else 3
        self._one = one
        self._example = formats.example(self.channels, size)
        self._exportable = exportable(one.network, one.multiple, one.scale)
        self._onnx = b''

    @property
    def onnx(self) -> bytes:
        """Content of the ONNX file, without card; made once."""
        if not self._onnx:
            self._onnx = formats.onnx_bytes(self._exportable, self._example, self.size is not None)
        return self._onnx

    def original(self, rgb: bool) -> ExportedRun:
        """Return the network in PyTorch: with its own channels, or, with `rgb`, from RGB to RGB in [0, 1]."""
        run = partial(run_padded, self.network, multiple=self._one.multiple)
        return self.in_rgb(run) if rgb else run

    def in_rgb(self, run: ExportedRun) -> ExportedRun:
        """Return what maps RGB to RGB in [0, 1], of what maps images with the network's own channels."""
        if self.channels == 3:
            return run
        pixels = PixelNetwork(_Called(run), self.card.scale, luminance=True, channels=3, eight_bit=False)
        return lambda image: pixels(image.permute(0, 2, 3, 1))[0].permute(0, 3, 1, 2)

    def plain(self) -> nn.Module:
        """Return the network from RGB to RGB in the operations that every converter knows."""
        one = self._one
        return plain_network(self.network, one.multiple, one.scale, one.luminance)

    def make(self, target: str) -> list[Made]:
        """Return the files of a target.

        Raises:
            UserError: the network cannot be converted, or a package is missing.
        """
        made: list[Made] = getattr(self, f'_make_{target}')()
        return made

    def _make_onnx(self) -> list[Made]:
        content = formats.with_card(self.onnx, self.card)
        return [Made({f'{self.card.name}.onnx': content}, formats.onnx_runner(content), timed='onnxruntime')]

    def _make_safetensors(self) -> list[Made]:
        if isinstance(self.network, Spandrel):  # its own file is the only one from which spandrel builds it again
            raise UserError(SPANDREL_FILE)
        return [
            Made({f'{self.card.name}.safetensors': formats.safetensors_bytes(self.network.state_dict(), self.card)})
        ]

    def _make_torchscript(self) -> list[Made]:
        content = formats.torchscript_bytes(self._exportable, self._example, self.card)
        name = f'{self.card.name}{formats.SUFFIXES["torchscript"]}'
        return [Made({name: content}, formats.torchscript_runner(content))]

    def _make_pt2(self) -> list[Made]:
        content = formats.pt2_bytes(self._exportable, self._example, self.size is not None, self.card)
        return [Made({f'{self.card.name}.pt2': content}, formats.pt2_runner(content))]

    def _make_openvino(self) -> list[Made]:
        structure, weights = to_openvino(self.onnx, self.card.metadata())
        files = {f'{self.card.name}.xml': structure, f'{self.card.name}.bin': weights}
        exact, default = (openvino_runner(structure, weights, precision) for precision in ('f32', None))
        return [Made(files, exact, timed='OpenVINO f32', default_run=default)]

    def _make_ncnn(self) -> list[Made]:
        name, plain, made = ncnn_name(self.card.name, self.card.scale), self.plain(), []
        for half, mark in ((False, ''), (True, '-fp16')):
            model = to_ncnn(plain, self.size, half)
            stem = f'ncnn/{name.removesuffix(f"-x{self.card.scale}")}{mark}-x{self.card.scale}'
            made.append(
                Made(
                    {f'{stem}.param': model.param.encode(), f'{stem}.bin': model.weights},
                    ncnn_runner(model, torch.get_num_threads()),
                    HALF_TOLERANCE if half else TOLERANCE,
                    '' if half else 'ncnn',
                )
            )
        return made

    def _make_coreml(self) -> list[Made]:
        package = to_coreml(self.plain(), self.card.scale, self.size)
        return [Made({f'{self.card.name}.mlpackage/{path}': content for path, content in sorted(package.items())})]

    def _make_spandrel(self) -> list[Made]:
        weights = to_spandrel(self.network)
        content = formats.safetensors_bytes(weights, self.card)
        run = partial(run_padded, _Called(spandrel_runner(weights)), multiple=self._one.multiple)
        return [Made({f'{self.card.name}_spandrel.safetensors': content}, run)]

    def _make_web(self) -> list[Made]:
        if self.size is not None:
            raise UserError('web: the page enlarges images of any size: leave out --size.')
        model = formats.onnx_bytes(self.plain(), formats.example(3, None), False)
        folder = f'{self.card.name}_web'
        content = web_files(formats.with_card(model, self.card), self.card)
        return [Made({f'{folder}/{name}': data for name, data in content.items()}, formats.onnx_runner(model))]


class _Called(nn.Module):
    """What is called, as a module."""

    def __init__(self, run: ExportedRun) -> None:
        super().__init__()
        self._run = run

    def forward(self, x: Tensor) -> Tensor:
        """Return what it returns."""
        return self._run(x)
