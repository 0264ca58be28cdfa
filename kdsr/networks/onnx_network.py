"""ONNX files as networks: run by onnxruntime or OpenVINO, called like any other network."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from kdsr.errors import UserError
from kdsr.optional_packages import import_optional

Runtime = Literal['onnx', 'openvino']
_Run = Callable[[np.ndarray], np.ndarray]


class OnnxNetwork(nn.Module):
    """A super-resolution network in an ONNX file.

    Args:
        model: The file's path or its content.
        runtime: 'onnx' (onnxruntime) or 'openvino'.
        device: 'cpu' or a GPU, which onnxruntime alone serves.
        name: For messages; the path when left out.

    Attributes:
        channels: C, 1 or 3.
        stated_parameters: How many the file says to have; None where it does not.
        metadata: What the file says of itself.
        sides: (h, w) that it takes; None for any.
        one_at_a_time: It takes batches of one image only.

    Raises:
        UserError: the runtime is missing, does not know the device, or refuses the file; it has not one image as input
            and one as output.
    """

    def __init__(self, model: str | bytes, runtime: Runtime = 'onnx', device: str = 'cpu', name: str = '') -> None:
        super().__init__()
        self.name = name or (model if isinstance(model, str) else 'the ONNX file')
        session = open_onnx_session(model, device, self.name)
        inputs, outputs = session.get_inputs(), session.get_outputs()
        if len(inputs) != 1 or len(outputs) != 1 or len(inputs[0].shape) != 4:
            shapes = [entry.shape for entry in (*inputs, *outputs)]
            raise UserError(f'{self.name!r} does not map one image (N, C, h, w) to another: its shapes are {shapes}.')
        batch, channels, *sides = inputs[0].shape
        if channels not in (1, 3) or 'float' not in inputs[0].type:
            raise UserError(
                f'{self.name!r} takes {channels} channels of {inputs[0].type}; networks that take RGB or luminance in '
                'floating point enlarge images.'
            )
        self.channels = self.input_channels = int(channels)
        self.metadata: Mapping[str, str] = session.get_modelmeta().custom_metadata_map
        stated = self.metadata.get('parameters', '')
        self.stated_parameters = int(stated) if stated.isdecimal() else None
        self.sides = (sides[0], sides[1]) if all(isinstance(side, int) for side in sides) else None
        self.one_at_a_time = batch == 1
        dtype = {'tensor(float16)': np.float16, 'tensor(double)': np.float64}.get(inputs[0].type, np.float32)
        run = _make_openvino_run(model) if runtime == 'openvino' else _make_session_run(session)
        self._run: _Run = lambda image: run(image.astype(dtype, copy=False)).astype(np.float32, copy=False)

    def forward(self, image: Tensor) -> Tensor:
        """Map (N, C, h, w) in [0, 1] to (N, C, S*h, S*w), float32, on the device of `image`.

        Raises:
            UserError: the file takes images of another size only.
        """
        if self.sides is not None and tuple(image.shape[2:]) != self.sides:
            raise UserError(
                f'{self.name!r} takes images of {self.sides[0]}x{self.sides[1]} pixels only; export it without --size.'
            )
        pixels = np.ascontiguousarray(image.detach().cpu().numpy())
        batches = [pixels[i : i + 1] for i in range(len(pixels))] if self.one_at_a_time else [pixels]
        return torch.from_numpy(np.concatenate([self._run(batch) for batch in batches])).to(image.device)

    def scale(self) -> int:
        """Return S, found by enlarging an empty image.

        Raises:
            UserError: the file fails on it, or does not enlarge both sides by the same whole number.
        """
        height, width = self.sides or (32, 40)
        try:
            large = self(torch.zeros(1, self.channels, height, width))
        except UserError:
            raise
        except Exception as error:  # onnxruntime has an exception for each of its status codes
            raise UserError(f'{self.name!r} fails on an image of {height}x{width}: {get_first_line(error)}') from None
        scale = large.shape[-1] // width
        if scale < 1 or tuple(large.shape) != (1, self.channels, scale * height, scale * width):
            raise UserError(
                f'{self.name!r} makes {tuple(large.shape)} of (1, {self.channels}, {height}, {width}), which is no '
                'image that is enlarged by a whole number.'
            )
        return scale


def open_onnx_session(model: str | bytes, device: str, name: str) -> Any:
    """Open an ONNX model in onnxruntime, with torch's number of threads.

    Raises:
        UserError: onnxruntime is missing, does not know the device, or refuses the model.
    """
    ort = import_optional('onnxruntime', 'an ONNX file')
    provider = 'CPUExecutionProvider' if device == 'cpu' else 'CUDAExecutionProvider'
    if provider not in ort.get_available_providers():
        raise UserError(f'--device {device}: this onnxruntime has {", ".join(ort.get_available_providers())} only.')
    settings = ort.SessionOptions()
    settings.intra_op_num_threads = torch.get_num_threads()
    settings.log_severity_level = 4
    settings.enable_cpu_mem_arena = False  # it keeps the memory of the largest tile for good
    try:
        return ort.InferenceSession(model, settings, providers=[provider])
    except Exception as error:  # onnxruntime has an exception for each of its status codes
        raise UserError(f'{name}: onnxruntime cannot load the ONNX model: {get_first_line(error)}') from None


def compile_openvino(model: str | bytes, precision: Literal['f32', 'bf16'] = 'f32') -> Any:
    """Compile an ONNX model with OpenVINO for the CPU, with torch's number of threads, and return an infer request.

    Raises:
        UserError: OpenVINO is missing or refuses the model.
    """
    openvino = import_optional('openvino', '--engine openvino')
    settings = {
        'INFERENCE_NUM_THREADS': torch.get_num_threads(),
        'NUM_STREAMS': 1,
        'INFERENCE_PRECISION_HINT': precision,
    }
    try:
        core = openvino.Core()
        return core.compile_model(core.read_model(model), 'CPU', settings).create_infer_request()
    except Exception as error:  # its own exceptions derive from RuntimeError or Exception, by version
        raise UserError(f'OpenVINO cannot load the network: {get_first_line(error)}') from None


def get_first_line(error: Exception) -> str:
    """Return the first line of an exception's text: runtimes append their stack."""
    return str(error).strip().split('\n')[0]


def _make_session_run(session: Any) -> _Run:
    name = session.get_inputs()[0].name

    def run(image: np.ndarray) -> np.ndarray:
        output: np.ndarray = session.run(None, {name: image})[0]
        return output

    return run


def _make_openvino_run(model: str | bytes) -> _Run:
    request = compile_openvino(model)

    def run(image: np.ndarray) -> np.ndarray:
        request.infer([image], share_inputs=True)
        output: np.ndarray = request.get_output_tensor(0).data.copy()
        return output

    return run
