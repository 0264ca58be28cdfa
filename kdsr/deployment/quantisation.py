"""int8 by static quantisation: scales of activations from images, weights by channel; and what it costs in dB."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kdsr.distillation.int8_simulation import scale_and_zero
from kdsr.errors import UserError
from kdsr.metrics import psnr_of_error
from kdsr.optional_packages import import_optional


def quantise(model: bytes, images: Sequence[Tensor], ranges: Mapping[str, Sequence[float]] | None = None) -> bytes:
    """Return an int8 ONNX model (QDQ, static, weights by channel), calibrated on images.

    Convolutions become int8, except the first and the last one: they carry the image itself, and no later layer can
    correct their errors. Everything else (attention, sums) stays in single precision. Weights have seven bits, so that
    processors without VNNI do not overflow.

    Args:
        model: ONNX.
        images: (1, C, h, w), in [0, 1].
        ranges: Of a network that was trained in int8: the path of each quantised convolution to the lowest and highest
            value of its input and of its output, which are then not calibrated.

    Raises:
        UserError: onnxruntime cannot quantise the network.
    """
    onnx = import_optional('onnx', 'int8')
    quantization = import_optional('onnxruntime.quantization', 'int8')
    proto = onnx.load_from_string(model)
    convolutions = [node.name for node in proto.graph.node if node.op_type == 'Conv']
    if len(convolutions) < 3:
        raise UserError('int8: the network has too few convolutions for it to be worth while.')
    known = _trained_convolutions(proto, ranges) if ranges else {}
    excluded = [name for name in convolutions if name not in known] if known else [convolutions[0], convolutions[-1]]
    with tempfile.TemporaryDirectory() as folder:
        before, after = Path(folder, 'fp32.onnx'), Path(folder, 'int8.onnx')
        before.write_bytes(model)
        root = logging.getLogger()
        level = root.level
        try:
            root.setLevel(logging.ERROR)  # it asks for a preparation that such graphs do not need
            quantization.quantize_static(
                str(before),
                str(after),
                _Images(images),
                quant_format=quantization.QuantFormat.QDQ,
                per_channel=True,
                reduce_range=True,
                op_types_to_quantize=['Conv'],
                nodes_to_exclude=excluded,
                weight_type=quantization.QuantType.QInt8,
                activation_type=quantization.QuantType.QUInt8,
                extra_options={'CalibMovingAverage': False, 'TensorQuantOverrides': _overrides(proto, known)},
            )
        except Exception as error:  # of onnxruntime's passes, each with errors of its own
            first = str(error).strip().split('\n')[0]
            raise UserError(f'int8: onnxruntime cannot quantise this network ({first}).') from error
        finally:
            root.setLevel(level)
        quantised = onnx.load_from_string(after.read_bytes())
        _keep_skips_exact(quantised, set(convolutions) - set(excluded))
        content: bytes = quantised.SerializeToString()
        return content


def _keep_skips_exact(proto: Any, quantised: set[str]) -> None:
    """Let sums and other layers read the tensor itself, not the copy that is rounded for a convolution.

    onnxruntime gives the rounded copy to every reader of a tensor. What a quantised convolution gives stays rounded for
    all of them: its output is made of whole numbers.
    """
    made = {output: node for node in proto.graph.node for output in node.output}
    for node in proto.graph.node:
        if node.op_type == 'Conv' and node.name in quantised:
            continue
        for i, name in enumerate(node.input):
            source = made.get(name)
            if source is None or source.op_type != 'DequantizeLinear' or source.input[0] not in made:
                continue
            tensor = made[source.input[0]].input[0]
            producer = made.get(tensor)
            if producer is None or producer.name not in quantised:
                node.input[i] = tensor


def _trained_convolutions(proto: Any, ranges: Mapping[str, Sequence[float]]) -> dict[str, Sequence[float]]:
    """Return node to ranges, of the nodes whose weights have the name of a module in `ranges`."""
    weights = {f'network.{path}.weight': four for path, four in ranges.items()}
    found = {node.name: node.input[1] for node in proto.graph.node if node.op_type == 'Conv'}
    known = {node: weights[weight] for node, weight in found.items() if weight in weights}
    lacking = set(weights) - set(found.values())
    if lacking:
        raise UserError(f'int8: the ONNX model has no convolution {sorted(lacking)[0]!r}, whose range was trained.')
    return known


def _overrides(proto: Any, known: Mapping[str, Sequence[float]]) -> dict[str, list[dict[str, Any]]]:
    """Return the scale and zero point of each tensor that a convolution of `known` reads or writes."""
    overrides = {}
    for node in proto.graph.node:
        four = known.get(node.name)
        if four is None:
            continue
        for tensor, limits in ((node.input[0], four[:2]), (node.output[0], four[2:])):
            scale, zero = scale_and_zero(*limits)
            overrides[tensor] = [{'scale': np.array(scale, np.float32), 'zero_point': np.array(zero, np.uint8)}]
    return overrides


def _Images(images: Sequence[Tensor]) -> Any:  # noqa: N802
    """Return a calibration reader; its base class comes with onnxruntime."""
    base = import_optional('onnxruntime.quantization', 'int8').CalibrationDataReader

    class Reader(base):  # type: ignore[misc, valid-type]
        def __init__(self) -> None:
            self._left = iter(images)

        def get_next(self) -> dict[str, np.ndarray] | None:
            image = next(self._left, None)
            return None if image is None else {'lq': image.numpy()}

    return Reader()


def psnr(one: Tensor, other: Tensor) -> float:
    """Return the PSNR in dB of two images in [0, 1], all channels, no border left out, 8-bit rounding included."""
    difference = ((one.clamp(0, 1) * 255).round() - (other.clamp(0, 1) * 255).round()).double()
    return psnr_of_error(float(difference.square().mean()))


def format_psnr_report(
    quantised: Callable[[Tensor], Tensor],
    original: Callable[[Tensor], Tensor],
    images: Sequence[tuple[str, Tensor]],
    truths: Sequence[Tensor] | None = None,
) -> str:
    """Return a Markdown table: PSNR of int8 against fp32, and of both against the ground truth where there is one."""
    head = '| image | int8 to fp32 | fp32 to GT | int8 to GT |' if truths else '| image | int8 to fp32 |'
    rows = []
    for i, (_, image) in enumerate(images):
        with torch.no_grad():
            small, full = quantised(image), original(image)
        rows.append([psnr(small, full)])
        if truths:
            rows[-1] += [psnr(full, truths[i]), psnr(small, truths[i])]
    names = [*(name for name, _ in images), '**mean**']
    rows.append([float(np.mean(column)) for column in zip(*rows)])
    lines = [head, '|---' * (len(rows[0]) + 1) + '|']
    lines += [f'| {name} | {" | ".join(f"{value:.2f}" for value in row)} |' for name, row in zip(names, rows)]
    return '\n'.join(lines)
