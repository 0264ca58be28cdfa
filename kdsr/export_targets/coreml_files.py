"""Core ML: an `.mlpackage` with free sizes, converted and checked in its structure; only Apple's systems run it."""

from __future__ import annotations

import logging
import tempfile
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import nn

from kdsr.deployment.formats import torchscript_bytes, torchscript_runner
from kdsr.errors import UserError
from kdsr.optional_packages import import_optional

LARGEST_SIDE = 4096  # pixels of the input; Core ML wants a bound
_TRACED = (23, 26)


def to_coreml(network: nn.Module, scale: int, size: tuple[int, int] | None = None) -> dict[str, bytes]:
    """Convert a network to an ML program in single precision.

    Args:
        network: Maps (1, 3, h, w) to (1, 3, S*h, S*w); made by :func:`kdsr.export_targets.plain.plain_network`.
        scale: S.
        size: (h, w) for images of one size; None for sides of 2 to :data:`LARGEST_SIDE`.

    Returns:
        The files of the package, by their paths in it.

    Raises:
        UserError: coremltools is missing, the network cannot be converted, or the result has not one image `lq` of the
            wanted sizes as input and one image `sr` as output.
    """
    ct = import_optional('coremltools', '--coreml')
    height, width = size or _TRACED
    traced = torchscript_runner(torchscript_bytes(network, torch.rand(1, 3, height, width)))
    sides = size or tuple(ct.RangeDim(2, LARGEST_SIDE, default=64) for _ in range(2))
    root = logging.getLogger()
    level = root.level
    try:
        root.setLevel(logging.CRITICAL)
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            model = ct.convert(
                traced,
                inputs=[ct.TensorType('lq', shape=(1, 3, *sides))],
                outputs=[ct.TensorType('sr')],
                convert_to='mlprogram',
                minimum_deployment_target=ct.target.iOS16,
                compute_precision=ct.precision.FLOAT32,
                skip_model_load=True,
            )
    except Exception as error:  # of its many passes, each with errors of its own
        raise UserError(
            f'Core ML: coremltools cannot convert this network ({str(error).strip().splitlines()[0]}).'
        ) from None
    finally:
        root.setLevel(level)
    model.short_description = f'Super-resolution by {scale}: RGB in [0, 1], planar; the output is not clamped.'
    _check_structure(model.get_spec(), size)
    with tempfile.TemporaryDirectory() as folder:
        package = Path(folder, 'network.mlpackage')
        model.save(str(package))
        return {
            str(path.relative_to(package).as_posix()): path.read_bytes()
            for path in package.rglob('*')
            if path.is_file()
        }


def _check_structure(spec: Any, size: tuple[int, int] | None) -> None:
    inputs, outputs = spec.description.input, spec.description.output
    if [one.name for one in inputs] != ['lq'] or [one.name for one in outputs] != ['sr']:
        raise UserError('Core ML: the converted network has not one input `lq` and one output `sr`.')
    image = inputs[0].type.multiArrayType
    ranges = [(side.lowerBound, side.upperBound) for side in image.shapeRange.sizeRanges[2:]]
    wanted = [(2, LARGEST_SIDE)] * 2 if size is None else []
    if ranges != wanted or (size is not None and list(image.shape) != [1, 3, *size]):
        raise UserError(f'Core ML: the converted network takes sides of {ranges}, not of {wanted or size}.')
