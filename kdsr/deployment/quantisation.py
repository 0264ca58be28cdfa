"""int8 by static quantisation: scales of activations from images, weights by channel; and what it costs in dB."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kdsr.errors import UserError
from kdsr.metrics import psnr_of_error
from kdsr.optional_packages import import_optional


def quantise(model: bytes, images: Sequence[Tensor]) -> bytes:
    """Return an int8 ONNX model (QDQ, static, weights by channel), calibrated on images.

    Convolutions become int8, except the first and the last one: they carry the image itself, and no later layer can
    correct their errors. Everything else (attention, sums) stays in single precision. Weights have seven bits, so that
    processors without VNNI do not overflow.

    Args:
        model: ONNX.
        images: (1, C, h, w), in [0, 1].

    Raises:
        UserError: onnxruntime cannot quantise the network.
    """
    onnx = import_optional('onnx', 'int8')
    quantization = import_optional('onnxruntime.quantization', 'int8')
    proto = onnx.load_from_string(model)
    convolutions = [node.name for node in proto.graph.node if node.op_type == 'Conv']
    if len(convolutions) < 3:
        raise UserError('int8: the network has too few convolutions for it to be worth while.')
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
                nodes_to_exclude=[convolutions[0], convolutions[-1]],
                weight_type=quantization.QuantType.QInt8,
                activation_type=quantization.QuantType.QUInt8,
                extra_options={'CalibMovingAverage': False},
            )
        except Exception as error:  # of onnxruntime's passes, each with errors of its own
            first = str(error).strip().split('\n')[0]
            raise UserError(f'int8: onnxruntime cannot quantise this network ({first}).') from error
        finally:
            root.setLevel(level)
        return after.read_bytes()


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
