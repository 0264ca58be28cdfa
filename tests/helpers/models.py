"""Tiny models as BasicSR builds them from parsed options, and single steps of them."""

import copy

import torch
from basicsr.models import build_model
from torch.utils._python_dispatch import TorchDispatchMode

from kdsr.distillation.outputs import Batch

TAPS = {
    'early': {'student': 'body.0', 'teacher': 'body.1'},
    'trunk': {'student': 'conv_after_body', 'teacher': 'conv_after_body'},
}
FITNET = {'l_fit': {'type': 'FitNetLoss', 'loss_weight': 0.1}}
RESPONSE = {'l_kd': {'type': 'ResponseLoss', 'loss_weight': 1.0}}


def parsed(workspace, **changes):
    """Options as BasicSR's parse_options leaves them."""
    opt = workspace.options(model_type='DistillationModel')
    opt['distillation'] = {'health_check': False, 'teachers': [workspace.teacher('EDSR')], 'losses': RESPONSE}
    for key, value in changes.items():
        if key in opt['distillation'] or key in ('features', 'aggregator'):
            opt['distillation'][key] = value
        else:
            opt[key] = value
    models = workspace.root / 'models'
    models.mkdir(exist_ok=True)
    opt['path'].update(models=str(models), training_states=str(models))
    opt.update(dist=False, rank=0, world_size=1, is_train=True)
    return opt


def built(opt):
    torch.manual_seed(0)
    return build_model(copy.deepcopy(opt))


def batch(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {'lq': torch.rand(2, 3, 16, 16, generator=generator), 'gt': torch.rand(2, 3, 32, 32, generator=generator)}


def step(model, data=None, iteration=1):
    model.feed_data(data or batch())
    model.optimize_parameters(iteration)


def weights(module):
    return {k: v.clone() for k, v in module.state_dict().items()}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def model_batch(model):
    return Batch(model.lq, model.gt)


def student(workspace, model_type='StudentModel', **train):
    opt = parsed(workspace, model_type=model_type, losses={**RESPONSE, **FITNET}, features=TAPS)
    if model_type in ('StudentModel', 'SRModel'):
        del opt['distillation']
    opt['train'].update(train)
    torch.manual_seed(0)
    return build_model(copy.deepcopy(opt))


class ReadValues(TorchDispatchMode):
    """Counts values that are read from the device, for which a step would wait."""

    count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += function is torch.ops.aten._local_scalar_dense.default
        return function(*args, **(kwargs or {}))
