"""OpenVINO's own files (IR): `.xml` and `.bin`, from the ONNX model, with free sizes."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from kdsr.errors import UserError
from kdsr.networks.onnx_network import get_first_line
from kdsr.optional_packages import import_optional


def to_openvino(model: bytes, metadata: Mapping[str, str]) -> tuple[bytes, bytes]:
    """Convert an ONNX model.

    Args:
        model: ONNX.
        metadata: Kept in the file, under `rt_info/kdsr`.

    Returns:
        Content of the `.xml` and of the `.bin` file; weights are single precision.

    Raises:
        UserError: OpenVINO is missing or refuses the model.
    """
    openvino = import_optional('openvino', '--openvino')
    try:
        network = openvino.Core().read_model(model)
        for key, value in metadata.items():
            network.set_rt_info(value, ['kdsr', key])
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, 'network.xml')
            openvino.save_model(network, path, compress_to_fp16=False)
            return path.read_bytes(), path.with_suffix('.bin').read_bytes()
    except Exception as error:  # its own exceptions derive from RuntimeError or Exception, by version
        raise UserError(f'OpenVINO cannot convert the network: {get_first_line(error)}') from None


def openvino_runner(
    structure: bytes, weights: bytes, precision: Literal['f32', 'bf16'] | None = 'f32'
) -> Callable[[Tensor], Tensor]:
    """Return what runs OpenVINO's files on the CPU, with torch's number of threads.

    Args:
        structure: The `.xml` file.
        weights: The `.bin` file.
        precision: In which it computes; None for OpenVINO's default, bf16 where the processor has it.

    Returns:
        Maps (N, C, h, w) to (N, C, S*h, S*w).

    Raises:
        UserError: OpenVINO is missing or refuses the files.
    """
    openvino = import_optional('openvino', '--openvino')
    settings: dict[str, Any] = {'INFERENCE_NUM_THREADS': torch.get_num_threads(), 'NUM_STREAMS': 1}
    if precision is not None:
        settings['INFERENCE_PRECISION_HINT'] = precision
    try:
        core = openvino.Core()
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, 'network.xml')
            path.write_bytes(structure)
            path.with_suffix('.bin').write_bytes(weights)
            request = core.compile_model(core.read_model(path), 'CPU', settings).create_infer_request()
    except Exception as error:
        raise UserError(f'OpenVINO cannot load the network: {get_first_line(error)}') from None

    def run(image: Tensor) -> Tensor:
        request.infer([np.ascontiguousarray(image.numpy())])
        return torch.from_numpy(request.get_output_tensor(0).data.copy())

    return run
