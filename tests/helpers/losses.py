"""Every distillation loss with options of its own, on small random outputs."""

import copy
from dataclasses import dataclass, field

import pytest
import torch
from basicsr.utils.registry import LOSS_REGISTRY

from kdsr.distillation.outputs import Batch, NetworkOutput

SCALE, SIZE, SAMPLES = 2, 8, 3
CHANNELS = (6, 8)  # of the student's features, of the teacher's


@dataclass
class Case:
    """A loss's options, and what its method promises."""

    options: dict = field(default_factory=dict)
    zero_at_equality: bool = True
    any_order: bool = True
    equal_channels: bool = False
    on_images: bool = False


RAW = {'zero_at_equality': True, 'equal_channels': True}
CASES = {
    'ResponseLoss': [Case(on_images=True), Case({'norm': 'l2'}, on_images=True)],
    'WaveletLoss': [Case(on_images=True), Case({'form': 'official'}, any_order=False, on_images=True)],
    'DCTLoss': [Case(on_images=True)],
    'FFTLoss': [Case(on_images=True), Case({'complex': 'real_imag', 'plane': 'half'}, on_images=True)],
    'CSDLoss': [Case({'extractor': 'identity'}, on_images=True)],
    'FitNetLoss': [Case(zero_at_equality=False), Case({'regressor': 'none'}, **RAW)],
    'AttentionTransferLoss': [Case({'mode': mode}) for mode in ('code', 'paper', 'fakd')],
    'FAKDLoss': [
        Case({'affinity': 'spatial'}),
        Case({'affinity': 'channel'}, **RAW),
        Case({'affinity': 'instance'}),
        Case({'selective': 'features', 'affinity': 'instance'}),
        Case({'selective': 'normalised'}),
    ],
    'VIDLoss': [
        Case({'pdf': pdf, 'form': form, 'scale': scale}, zero_at_equality=False)
        for pdf, form, scale in (
            ('laplace', 'paper', 'element'),
            ('laplace', 'official', 'channel'),
            ('gaussian', 'paper', 'position'),
            ('gaussian', 'official', 'layer'),
        )
    ],
    'LSFDLoss': [
        Case(),  # its map vanishes where the images are equal
        Case({'selective': False}, zero_at_equality=False),
        Case({'selective': False, 'narrow': True, 'kernel_size': 1}, zero_at_equality=False),
        Case({'selective': False, 'regressor': 'none', 'feature_norm': 'l2_channel'}, **RAW),
        Case({'selective': False, 'regressor': 'none', 'feature_norm': 'l2_spatial'}, **RAW),
        Case({'detach_attention': False, 'feature_norm': 'none', 'reduction': 'sum_per_sample'}),
    ],
    'FACDLoss': [
        Case({'layer_weights': [0.6, 0.4]}, zero_at_equality=False, any_order=False),
        Case({'layer_weights': [0.6, 0.4], 'negatives': 'global_pairs_sym'}, zero_at_equality=False),
        Case({'layer_weights': [0.6, 0.4], 'negatives': 'per_anchor'}, zero_at_equality=False),
        Case({'layer_weights': [0.6, 0.4], 'similarity': 'infonce'}, zero_at_equality=False),
        Case({'layer_weights': [0.6, 0.4], 'similarity': 'infonce_dot'}, zero_at_equality=False),
        Case({'domain': 'image', 'negatives': 'all_ordered'}, zero_at_equality=False, on_images=True),
    ],
}
TABLE = [pytest.param(n, c, id=f'{n}-{"-".join(map(str, c.options.values()))}') for n, cs in CASES.items() for c in cs]


def kdsr_losses():
    return {name: loss for name, loss in LOSS_REGISTRY if loss.__module__.startswith('kdsr.')}


def random_output(channels, seed):
    generator = torch.Generator().manual_seed(seed)
    sr = torch.rand(SAMPLES, 3, SCALE * SIZE, SCALE * SIZE, generator=generator)
    features = {n: torch.randn(SAMPLES, channels, SIZE, SIZE, generator=generator) for n in ('body.3', 'conv')}
    return NetworkOutput(sr, features)


def outputs(case):
    """Student, teacher and batch; the student's image is the worse one in every sample."""
    student = random_output(CHANNELS[case.equal_channels], 1)
    teacher = random_output(CHANNELS[1], 2)
    return student, teacher, Batch(teacher.sr[..., ::SCALE, ::SCALE], teacher.sr + 0.01)


def built(name, case, student, teacher, **more):
    torch.manual_seed(0)
    loss = LOSS_REGISTRY.get(name)(**copy.deepcopy(case.options), **more)
    loss.build_helpers(student, teacher)
    return loss


def tensors(output):
    return [output.sr, *output.features.values()]


def mapped(output, function):
    return NetworkOutput(function(output.sr), {n: function(f) for n, f in output.features.items()})


def with_gradient(output):
    return mapped(output, lambda x: x.detach().clone().requires_grad_())


def gradient(output):
    """Of whatever the loss looks at."""
    return sum(x.grad.abs().sum() for x in tensors(output) if x.grad is not None)
