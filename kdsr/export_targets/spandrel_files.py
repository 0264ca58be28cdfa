"""Weights under the names that spandrel knows, and so chaiNNer and ComfyUI, where it has an equal architecture."""

from __future__ import annotations

import re
from collections.abc import Callable

import torch
from basicsr.archs.rcan_arch import RCAN
from torch import Tensor, nn

from kdsr.errors import UserError
from kdsr.optional_packages import import_optional

SAME_NAMES = ('SwinIR', 'SRVGGNetCompact', 'RRDBNet')  # BasicSR's names are theirs
_RANGE = 255.0  # in which spandrel runs every RCAN
_RCAN_RULES = (
    (r'conv_first\.(\w+)', r'head.0.\1'),
    (r'body\.(\d+)\.residual_group\.(\d+)\.rcab\.([02])\.(\w+)', r'body.\1.body.\2.body.\3.\4'),
    (r'body\.(\d+)\.residual_group\.(\d+)\.rcab\.3\.attention\.1\.(\w+)', r'body.\1.body.\2.body.3.conv_du.0.\3'),
    (r'body\.(\d+)\.residual_group\.(\d+)\.rcab\.3\.attention\.3\.(\w+)', r'body.\1.body.\2.body.3.conv_du.2.\3'),
    (r'upsample\.(\d+)\.(\w+)', r'tail.0.\1.\2'),
    (r'conv_last\.(\w+)', r'tail.1.\1'),
)


def to_spandrel(network: nn.Module) -> dict[str, Tensor]:
    """Return the weights of a network under spandrel's names.

    Args:
        network: Of BasicSR: RCAN, SwinIR, SRVGGNetCompact or RRDBNet.

    Raises:
        UserError: spandrel has no equal architecture.
    """
    weights = {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}
    if isinstance(network, RCAN):
        return _rename_rcan(network, weights)
    if type(network).__name__ in SAME_NAMES and type(network).__module__.startswith('basicsr.'):
        return weights
    raise UserError(
        f'spandrel has no {type(network).__name__}, so that chaiNNer and ComfyUI cannot read its weights: give them '
        'the ONNX or the ncnn file.'
    )


def _rename_rcan(network: RCAN, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename the layers, and write range and mean as the two 1x1 convolutions that spandrel has for them.

    BasicSR computes y = g((x - mean) r) / r + mean; spandrel y = add(g(sub(255 x))) / 255.
    """
    groups, blocks = len(network.body), len(network.body[0].residual_group)
    if network.body[0].residual_group[0].res_scale != 1 or network.conv_last.out_channels != 3:
        raise UserError('spandrel has no RCAN with a `res_scale` other than 1, or on luminance: give it the ONNX file.')
    renamed = {}
    for name, tensor in weights.items():
        new = re.sub(r'conv_after_body\.(\w+)', rf'body.{groups}.\1', name)
        new = re.sub(r'body\.(\d+)\.conv\.(\w+)', rf'body.\1.body.{blocks}.\2', new)
        for pattern, replacement in _RCAN_RULES:
            new = re.sub(f'^{pattern}$', replacement, new)
        renamed[new] = tensor
    mean, eye = network.mean.detach().float().flatten().cpu(), torch.eye(3).view(3, 3, 1, 1)
    renamed['sub_mean.weight'] = eye * (network.img_range / _RANGE)
    renamed['sub_mean.bias'] = -network.img_range * mean
    renamed['add_mean.weight'] = eye * (_RANGE / network.img_range)
    renamed['add_mean.bias'] = _RANGE * mean
    return renamed


def spandrel_runner(weights: dict[str, Tensor]) -> Callable[[Tensor], Tensor]:
    """Return what spandrel builds from weights alone, on the CPU.

    Raises:
        UserError: spandrel is missing, or does not recognise the weights.
    """
    spandrel = import_optional('spandrel', 'the target spandrel')
    try:
        model = spandrel.ModelLoader('cpu').load_from_state_dict(dict(weights)).eval()
    except spandrel.UnsupportedModelError as error:
        raise UserError(f'spandrel does not recognise the weights ({error}).') from None
    except RuntimeError as error:  # it knows the architecture, not the arguments: RRDBNet with `num_grow_ch: 16`
        raise UserError(
            'spandrel knows this architecture, but cannot read its arguments from the weights: give chaiNNer and '
            f'ComfyUI the ONNX or the ncnn file ({str(error).strip().splitlines()[-1].strip()}).'
        ) from None

    def run(image: Tensor) -> Tensor:
        with torch.no_grad():
            large: Tensor = model.model(image.clone())  # its RCAN changes its input
        return large

    return run
