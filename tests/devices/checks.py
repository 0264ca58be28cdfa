"""Whole trainings, networks and losses on the stand-in device; `tests/test_devices.py` runs this file by itself."""

import copy

import numpy as np
import pytest
import torch
from basicsr.archs import build_network
from basicsr.models.base_model import BaseModel
from basicsr.utils.registry import LOSS_REGISTRY

from kdsr.data.teacher_cache import make_cache
from kdsr.deployment import Upscaler
from kdsr.distillation.health import check_teacher
from kdsr.distillation.outputs import Batch
from kdsr.distillation.teacher import FrozenNetwork, TeacherEnsemble
from kdsr.distillation.views import VIEW_REGISTRY
from kdsr.models.student_model import StudentModel
from tests.conftest import network_opt
from tests.helpers import losses, stand_in
from tests.helpers.networks import LUMINANCE, TINY

DEVICE = stand_in.register()
ITERATIONS = 3
POINTS = {
    'early': {'student': 'body.0', 'teacher': 'body.1', 'from': 'rcan'},
    'trunk': {'student': 'conv_after_body', 'teacher': 'conv_after_body', 'from': 'edsr'},
}
IMAGES = {
    'l_kd': {'type': 'ResponseLoss'}, 'l_dwt': {'type': 'WaveletLoss'}, 'l_dct': {'type': 'DCTLoss'},
    'l_fft': {'type': 'FFTLoss'}, 'l_csd': {'type': 'CSDLoss', 'extractor': 'identity'},
}  # fmt: skip
FEATURES = {
    'l_fit': {'type': 'FitNetLoss'}, 'l_at': {'type': 'AttentionTransferLoss'}, 'l_fakd': {'type': 'FAKDLoss'},
    'l_lsfd': {'type': 'LSFDLoss'}, 'l_vid': {'type': 'VIDLoss'},
    'l_facd': {'type': 'FACDLoss', 'layer_weights': [0.6, 0.4]},
}  # fmt: skip
DECODER = {'type': 'FSRCNN', 'num_feat': 8, 'num_shrink': 4, 'num_map': 1}
HOURGLASS = {'type': 'PISRTeacher', 'upscale': 2, 'decoder': DECODER, 'num_feat': 8, 'num_shrink': 4}


# Ways through the code that the table of the losses' contract leaves out.
MORE = [
    ('WaveletLoss', losses.Case({'wave': 'db2', 'mode': mode}, on_images=True))
    for mode in ('symmetric', 'reflect', 'periodization', 'zero')
]


@pytest.fixture
def steps(monkeypatch):
    """Train on the stand-in device; collect what was waited for and uploaded.

    That is in the steps after the first one, and in the passes of validations on sizes that were there before."""
    found, seen = [], set()
    original, run = StudentModel.optimize_parameters, StudentModel.test

    def optimize_parameters(self, current_iter):
        with stand_in.recorded() as events:
            original(self, current_iter)
        if current_iter > 1:
            found.extend([*events[0], *events[1]])

    def test(self):
        with stand_in.recorded() as events:
            run(self)
        if self.lq.shape in seen:  # a network may keep what belongs to a size
            found.extend([*events[0], *events[1]])
        seen.add(self.lq.shape)

    monkeypatch.setattr(StudentModel, 'optimize_parameters', optimize_parameters)
    monkeypatch.setattr(StudentModel, 'test', test)
    return found


def on_device(monkeypatch, device):
    monkeypatch.setattr(BaseModel, 'device', property(lambda self: device, lambda self, chosen: None), raising=False)


def distilled(workspace, names=('EDSR',), student='EDSR', **block):
    opt = workspace.options(student, model_type='DistillationModel', iterations=ITERATIONS)
    teachers = [workspace.teacher(name) for name in names]
    opt['distillation'] = {'health_check': False, 'teachers': teachers, 'losses': IMAGES, **block}
    return opt


def all_image_losses(workspace):
    views = {
        'in': {'type': 'ZoomIn', 'count': 2, 'consistency': 0.5},
        'out': {'type': 'ZoomOut', 'consistency': 0.5},
    }
    assert {view['type'] for view in views.values()} == {name for name, _ in VIEW_REGISTRY}
    return distilled(workspace, ['EDSR', 'SwinIR'], views=views)


def all_feature_losses(workspace):
    return distilled(workspace, ['EDSR', 'RCAN'], features=POINTS, losses=FEATURES)


def features_without_images(workspace):
    return distilled(workspace, ['EDSR', 'RCAN'], features=POINTS, losses={'l_fit': {'type': 'FitNetLoss'}})


def teacher_options(workspace):
    opt = distilled(workspace, features=None, losses=IMAGES)
    opt['distillation'].pop('features')
    opt['distillation']['teachers'] = [
        workspace.teacher('EDSR', precision='bf16', channels_last=True),
        workspace.teacher('RCAN', device='standin:0', precision='fp16'),
    ]
    return opt


def fused(workspace):
    network = network_opt('DCTSwin')
    weights = workspace.weights(network, 'fusion', teachers=['edsr', 'swinir'])
    return distilled(workspace, ['EDSR', 'SwinIR'], aggregator={'network': network, 'path': weights})


def stage_one(workspace):
    opt = distilled(workspace, ['EDSR', 'RCAN'], losses=None)
    opt.update(model_type='AggregationModel', network_g=network_opt('DCTSwin'))
    return opt


def cached(workspace):
    opt = distilled(workspace, ['EDSR', 'RCAN'], cache={'path': 'cache.raw', 'margin': 2})
    opt['datasets']['train'].update(gt_size=48)
    make_cache(opt, progress=False)
    return opt


def privileged(workspace):
    opt = workspace.options(model_type='PrivilegedTeacherModel', network_g=HOURGLASS, color='y', iterations=ITERATIONS)
    opt['train']['imitation_opt'] = {'type': 'L1Loss', 'loss_weight': 1e-4, 'reduction': 'mean'}
    return opt


def pisr(workspace):
    opt = workspace.options(
        model_type='DistillationModel', network_g={**DECODER, 'upscale': 2}, color='y', iterations=ITERATIONS
    )
    teacher = {'name': 't', 'network': HOURGLASS, 'path': workspace.weights(HOURGLASS, 'hourglass'), 'input': 'gt'}
    opt['distillation'] = {
        'health_check': False,
        'teachers': [teacher],
        'init_from': {'teacher': 't', 'module': 'decoder'},
        'features': {'f': {'student': 'shrinking', 'teacher': 'decoder.shrinking'}},
        'losses': {'l_vid': {'type': 'VIDLoss'}},
    }
    return opt


def pisr_from_codes(workspace):
    opt = pisr(workspace)
    opt['distillation']['cache'] = 'codes.raw'
    opt['datasets']['train'].update(gt_size=48, use_hflip=False, use_rot=False)
    make_cache(opt, progress=False)
    return opt


def faster(workspace, **train):
    opt = all_feature_losses(workspace)
    opt['train'].update(train)
    return opt


def careful(workspace):
    """Everything that looks at numbers and gradients."""
    return faster(workspace, accumulate=2, clip_grad_norm=0.5, skip_nonfinite=2)


def low_precision(workspace):
    return faster(workspace, amp='bf16', channels_last=True)


def half_precision(workspace):
    return faster(workspace, amp='fp16')


def window_transformer(workspace):
    opt = distilled(workspace, ['SwinIR'], student='SwinIRLight')
    opt['datasets']['val'] = workspace.images(name='odd', size=44)
    return opt


def in_quadrants(workspace):
    opt = workspace.options(model_type='StudentModel', iterations=ITERATIONS)
    opt['val']['quadrants'] = True
    return opt


EXPERIMENTS = [
    all_image_losses, all_feature_losses, features_without_images, teacher_options, fused, stage_one, cached,
    privileged, pisr, pisr_from_codes, careful, low_precision, window_transformer, in_quadrants,
]  # fmt: skip


@pytest.mark.parametrize('experiment', EXPERIMENTS, ids=lambda experiment: experiment.__name__)
def test_a_run_on_the_device_is_the_run_on_the_cpu_and_no_step_waits(workspace, monkeypatch, steps, experiment):
    """From the dry runs to validation, saving and a resumed step."""
    opt = experiment(workspace)
    opt['val']['val_freq'] = 2
    opt['logger'].update(print_freq=100, save_checkpoint_freq=ITERATIONS)
    logs = {}
    for device in ('standin:0', 'cpu'):
        on_device(monkeypatch, torch.device(device))
        one = copy.deepcopy({**opt, 'name': device.partition(':')[0]})
        for teacher in one.get('distillation', {}).get('teachers', ()):
            if device == 'cpu':
                teacher.pop('device', None)
        folder = workspace.train(one)
        logs[device] = torch.load(folder / 'models' / f'net_g_{ITERATIONS}.pth', weights_only=True)
    assert steps == [], '\n'.join(steps)
    for key, weights in logs['cpu'].items():
        if isinstance(weights, dict):
            torch.testing.assert_close(logs['standin:0'][key], weights, rtol=2e-2, atol=2e-3)


def test_every_loss_has_its_run():
    tried = {loss['type'] for loss in (*IMAGES.values(), *FEATURES.values())}
    assert tried == {name for name, loss in LOSS_REGISTRY if loss.__module__.startswith('kdsr.')}


@pytest.mark.parametrize(('name', 'case'), [*losses.TABLE, *MORE])
def test_a_loss_and_its_gradient_are_those_of_the_cpu_and_wait_for_nothing(name, case):
    student, teacher, batch = losses.outputs(case)
    moved = [losses.mapped(x, lambda t: t.to(DEVICE)) for x in (student, teacher)]
    there = type(batch)(batch.lq.to(DEVICE), batch.gt.to(DEVICE))
    loss = losses.built(name, case, student, teacher)
    expected_student = losses.with_gradient(student)
    expected = loss(expected_student, teacher, batch)
    expected.backward()
    loss = losses.built(name, case, *moved).to(DEVICE)
    for _ in range(2):  # what a first call keeps may have been uploaded
        seen = losses.with_gradient(moved[0])
        with stand_in.recorded() as (waits, uploads):
            value = loss(seen, moved[1], there)
            value.backward()
            assert (waits, uploads) == ([], []) or _ == 0
    assert value.device == DEVICE
    torch.testing.assert_close(value.item(), expected.item(), rtol=1e-4, atol=1e-6)
    assert losses.gradient(seen).item() == pytest.approx(losses.gradient(expected_student).item(), rel=1e-3)


@pytest.mark.parametrize('name', TINY)
def test_a_network_and_its_gradients_stay_on_the_device(name):
    torch.manual_seed(0)
    network = build_network({**TINY[name], 'upscale': 2}).eval()
    channels = 6 if name == 'DCTSwin' else 1 if name in LUMINANCE else 3
    size = 32 if name in ('DCTSwin', 'PISRTeacher') else 16
    image = torch.rand(1, channels, size, size)
    expected = network(image)
    network.to(DEVICE)
    there = image.to(DEVICE)
    network(there)  # what a first pass keeps may have been uploaded
    with stand_in.recorded() as (waits, uploads):
        answer = network(there)
        answer.mean().backward()
    assert (waits, uploads) == ([], [])
    torch.testing.assert_close(answer.cpu(), expected, rtol=1e-4, atol=1e-5)
    assert all(p.grad is None or p.grad.device == DEVICE for p in network.parameters())


class NearlyBicubic(torch.nn.Module):
    """A teacher that is a little better than bicubic upsampling: the mean of that and the ground truth."""

    def forward(self, gt):
        lq = torch.nn.functional.avg_pool2d(gt, 2)
        return (gt + torch.nn.functional.interpolate(lq, scale_factor=2, mode='bicubic')) / 2


def test_the_health_check_waits_once():
    teacher = TeacherEnsemble({'t': FrozenNetwork(NearlyBicubic())}, {'t': 'gt'}).to(DEVICE)
    gt = torch.rand(2, 3, 16, 16)
    lq = torch.nn.functional.avg_pool2d(gt, 2)
    line = check_teacher(teacher, [Batch(lq, gt)], 2)
    pairs = [Batch(lq.to(DEVICE), gt.to(DEVICE))]
    with stand_in.recorded() as (waits, uploads):
        assert check_teacher(teacher, pairs, 2) == line
    assert len(waits) == 1
    assert [u for u in uploads if 'numel' not in u] == []


def test_an_image_is_enlarged_as_on_the_cpu(monkeypatch):
    image = np.random.default_rng(0).integers(0, 256, (24, 20, 3), np.uint8)
    there, here = (Upscaler('rfdn_small_x2', device=device, tile=16) for device in ('standin:0', 'cpu'))
    difference = there(image).astype(int) - here(image).astype(int)
    assert abs(difference).max() <= 1
