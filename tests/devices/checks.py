"""Whole trainings, networks and losses on the stand-in device; `tests/test_devices.py` runs this file by itself."""

import copy

import numpy as np
import pytest
import torch
from basicsr.archs import build_network
from basicsr.utils.registry import LOSS_REGISTRY

from kdsr.deployment import Upscaler
from kdsr.distillation.health import check_teacher
from kdsr.distillation.outputs import Batch
from kdsr.distillation.teacher import FrozenNetwork, TeacherEnsemble
from tests.helpers import device_experiments as e
from tests.helpers import losses, stand_in
from tests.helpers.device_experiments import DEVICE, ITERATIONS
from tests.helpers.networks import LUMINANCE, TINY

# Ways through the code that the table of the losses' contract leaves out.
MORE = [
    ('WaveletLoss', losses.Case({'wave': 'db2', 'mode': mode}, on_images=True))
    for mode in ('symmetric', 'reflect', 'periodization', 'zero')
]


@pytest.fixture
def steps(monkeypatch):
    return e.record_steps(monkeypatch)


EXPERIMENTS = [
    e.all_image_losses, e.all_feature_losses, e.features_without_images, e.teacher_options, e.fused, e.stage_one,
    e.cached, e.privileged, e.pisr, e.pisr_from_codes, e.careful, e.low_precision,
    e.window_transformer, e.in_quadrants,
]  # fmt: skip


@pytest.mark.parametrize('experiment', EXPERIMENTS, ids=lambda experiment: experiment.__name__)
def test_a_run_on_the_device_is_the_run_on_the_cpu_and_no_step_waits(workspace, monkeypatch, steps, experiment):
    """From the dry runs to validation, saving and a resumed step."""
    opt = experiment(workspace)
    opt['val']['val_freq'] = 2
    opt['logger'].update(print_freq=100, save_checkpoint_freq=ITERATIONS)
    logs = {}
    for device in ('standin:0', 'cpu'):
        e.on_device(monkeypatch, torch.device(device))
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


@pytest.mark.filterwarnings('ignore:Detected call of `lr_scheduler')  # the first scale may be too large for a step
def test_with_half_precision_only_the_scaler_waits(workspace, monkeypatch, steps):
    e.on_device(monkeypatch, DEVICE)
    opt = e.half_precision(workspace)
    opt['logger'].update(print_freq=100, save_checkpoint_freq=100)
    workspace.train(opt)
    assert [step for step in steps if 'self.scaler.' not in step.split(' <- ')[0]] == []
    assert len(steps) == ITERATIONS - 1


def test_every_loss_has_its_run():
    tried = {loss['type'] for loss in (*e.IMAGES.values(), *e.FEATURES.values())}
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


def test_facd_without_a_ground_truth_stays_on_the_device():
    case = losses.Case({'adaptive': False, 'use_gt_l1': False, 'layer_weights': [0.5, 0.5]})
    student, teacher, batch = losses.outputs(case)
    moved = [losses.mapped(x, lambda t: t.to(DEVICE)) for x in (student, teacher)]
    value = losses.built('FACDLoss', case, *moved).to(DEVICE)(*moved, Batch(batch.lq.to(DEVICE)))
    assert value.device == DEVICE


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
