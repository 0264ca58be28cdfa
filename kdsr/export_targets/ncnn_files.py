"""ncnn: `.param` and `.bin` as Upscayl and realesrgan-ncnn-vulkan load them, converted by pnnx."""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from kdsr.deployment.formats import torchscript_bytes
from kdsr.errors import UserError
from kdsr.optional_packages import import_optional

INPUT, OUTPUT = 'data', 'output'  # the blobs that those programs ask for
_TRACED = ((23, 26), (64, 48))  # two sizes: pnnx keeps what differs between them free
_SECONDS = 600
_SCALE_MARK = re.compile(r'[-_]?(?:x\d+|\d+x)', re.IGNORECASE)


@dataclass(frozen=True)
class NcnnModel:
    """A network for ncnn.

    Attributes:
        param: The layers, as text.
        weights: Content of the `.bin` file.
    """

    param: str
    weights: bytes


def ncnn_name(name: str, scale: int) -> str:
    """Return a file name whose only scale mark is that of the network: Upscayl reads the scale from the name.

    Example:
        >>> ncnn_name('rfdn_tiny_x4', 4)
        'rfdn_tiny-x4'
    """
    return f'{_SCALE_MARK.sub("", name) or "network"}-x{scale}'


def to_ncnn(network: nn.Module, size: tuple[int, int] | None = None, half: bool = False) -> NcnnModel:
    """Convert a network.

    pnnx returns 0 whatever it wrote; what it cannot convert becomes a layer that ncnn does not have. The caller has to
    compare the result with PyTorch, at sizes that were not traced.

    Args:
        network: Maps (1, 3, h, w) to (1, 3, S*h, S*w); made by :func:`kdsr.export_targets.plain.plain_network`.
        size: (h, w) for images of one size; None for any.
        half: Store the weights in 16 bits.

    Raises:
        UserError: pnnx or ncnn is missing, or the network cannot be converted; the message says why.
    """
    program = import_optional('pnnx', '--ncnn').EXEC_PATH
    sizes = _TRACED if size is None else (size,)
    shapes = [f'inputshape{i + 1 if i else ""}=[1,3,{h},{w}]' for i, (h, w) in enumerate(sizes)]
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, 'network.pt')
        source.write_bytes(torchscript_bytes(network, torch.rand(1, 3, *sizes[0])))
        command = [program, str(source), *shapes, f'fp16={int(half)}']
        try:
            subprocess.run(command, cwd=folder, capture_output=True, timeout=_SECONDS, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise UserError(f'ncnn: pnnx failed ({error}).') from None
        param, weights = Path(folder, 'network.ncnn.param'), Path(folder, 'network.ncnn.bin')
        if not param.is_file() or not weights.is_file():
            raise UserError('ncnn: pnnx ended without writing a network; this network cannot be converted.')
        model = NcnnModel(_with_blob_names(param.read_text(encoding='utf-8')), weights.read_bytes())
    _check_layers(model.param)
    return model


def _with_blob_names(param: str) -> str:
    """Rename pnnx's `in0` and `out0`, which end with the words of a line or stand among them."""
    param = re.sub(r'(?<=\s)in0(?=\s|$)', INPUT, param)
    return re.sub(r'(?<=\s)out0(?=\s|$)', OUTPUT, param)


def _check_layers(param: str) -> None:
    """Refuse layers that ncnn does not have."""
    ncnn = import_optional('ncnn', '--ncnn')
    used = dict.fromkeys(line.split()[0] for line in param.splitlines()[2:] if line.strip())
    unknown = [name for name in used if ncnn.layer_to_index(name) < 0]
    if unknown:
        raise UserError(
            f'ncnn has no layer for {", ".join(unknown)}, which this network needs at any image size. Use ONNX instead.'
        )


def ncnn_runner(model: NcnnModel, threads: int = 1) -> Callable[[Tensor], Tensor]:
    """Return what runs a model in ncnn on the CPU, in single precision.

    Args:
        model: The files' content.
        threads: Of the CPU.

    Returns:
        Maps (N, 3, h, w) in [0, 1] to (N, 3, S*h, S*w), image by image: ncnn has no batches.

    Raises:
        UserError: ncnn is missing or refuses the model.
    """
    ncnn = import_optional('ncnn', '--ncnn')
    net = ncnn.Net()
    net.opt.num_threads = threads
    net.opt.use_vulkan_compute = False
    for option in ('use_fp16_packed', 'use_fp16_storage', 'use_fp16_arithmetic', 'use_bf16_storage'):
        setattr(net.opt, option, False)
    with tempfile.TemporaryDirectory() as folder:
        param, weights = Path(folder, 'n.param'), Path(folder, 'n.bin')
        param.write_text(model.param, encoding='utf-8')
        weights.write_bytes(model.weights)
        if net.load_param(str(param)) or net.load_model(str(weights)):
            raise UserError('ncnn refuses the model that pnnx wrote.')

    def run(images: Tensor) -> Tensor:
        return torch.stack([_run_one(ncnn, net, image) for image in images])

    return run


def _run_one(ncnn: Any, net: Any, image: Tensor) -> Tensor:
    with net.create_extractor() as extractor:
        extractor.input(INPUT, ncnn.Mat(np.ascontiguousarray(image.numpy())).clone())
        status, large = extractor.extract(OUTPUT)
        if status:
            raise UserError(f'ncnn ends with status {status}.')
        return torch.from_numpy(np.array(large))
