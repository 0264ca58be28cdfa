"""What the checks of a device must find: tensors, generators and waiting put into every part of a step on purpose."""

import dataclasses

import pytest
import torch
from basicsr.utils.registry import LOSS_REGISTRY

from kdsr.distillation.cached_teachers import CachedTeachers
from kdsr.distillation.distillation_loss import DistillationLoss
from kdsr.distillation.feature_tap import FeatureTap
from kdsr.distillation.teacher import FrozenNetwork, TeacherEnsemble
from kdsr.errors import UserError
from kdsr.models import validated
from kdsr.models.aggregation_model import AggregationModel
from kdsr.models.distillation_model import DistillationModel
from kdsr.models.number_guard import NumberGuard
from kdsr.models.privileged_teacher_model import PrivilegedTeacherModel
from kdsr.models.step import SteppingModel
from kdsr.views.dukd_view import ZoomIn, ZoomOut
from tests.helpers import device_experiments as e
from tests.helpers.device_experiments import DEVICE, ITERATIONS


@pytest.fixture
def steps(monkeypatch):
    return e.record_steps(monkeypatch)


class OnTheWrongDevice(DistillationLoss):
    """Makes a tensor on the CPU."""

    def forward(self, student, teacher, batch):
        return (student.sr * torch.ones(student.sr.shape)).mean()


class Waits(DistillationLoss):
    """Looks at a value."""

    def forward(self, student, teacher, batch):
        mean = student.sr.mean()
        return mean if mean > 0 else -mean


class Uploads(DistillationLoss):
    """Brings numbers from the CPU in each step."""

    def forward(self, student, teacher, batch):
        return (student.sr * torch.tensor([1.0, 2.0, 3.0], device=student.sr.device).view(3, 1, 1)).mean()


class DrawsOnTheCpu(DistillationLoss):
    """Draws with a generator of the wrong device."""

    def forward(self, student, teacher, batch):
        noise = torch.empty_like(student.sr).normal_(generator=torch.Generator())
        return (student.sr * noise).mean()


@pytest.mark.parametrize('loss', [OnTheWrongDevice, Waits, Uploads, DrawsOnTheCpu])
def test_a_wrong_loss_is_found(workspace, monkeypatch, steps, loss):
    monkeypatch.setitem(LOSS_REGISTRY._obj_map, loss.__name__, loss)
    e.on_device(monkeypatch, DEVICE)
    opt = e.distilled(workspace, losses={'l_wrong': {'type': loss.__name__}})
    del opt['datasets']['val'], opt['val']
    opt['logger']['print_freq'] = 100
    if loss in (OnTheWrongDevice, DrawsOnTheCpu):
        with pytest.raises(RuntimeError, match=r'same device|device type for generator'):
            workspace.train(opt)
    else:
        workspace.train(opt)
        assert len(steps) >= ITERATIONS - 1
        assert all('mistakes.py' in step.split(' <- ')[0] for step in steps)


# Every part of a step, and an experiment that comes by it.
PLACES = [
    (ZoomIn, 'make', e.all_image_losses),
    (ZoomOut, 'run_student', e.all_image_losses),
    (FeatureTap, '_as_map', e.all_feature_losses),
    (FrozenNetwork, '_run', e.teacher_options),
    (TeacherEnsemble, 'forward', e.fused),
    (CachedTeachers, 'images', e.cached),
    (DistillationModel, 'loss_terms', e.all_feature_losses),
    (AggregationModel, 'network_input', e.stage_one),
    (PrivilegedTeacherModel, 'loss_terms', e.privileged),
    (SteppingModel, 'run', e.all_feature_losses),
    (SteppingModel, 'model_ema', e.all_feature_losses),
    (NumberGuard, 'note', e.careful),
    (validated, 'run_padded', e.in_quadrants),
]


def tensor_in(value):
    """The first tensor with values in a structure; None where it has none."""
    if isinstance(value, torch.Tensor):
        return value
    if dataclasses.is_dataclass(value):
        value = vars(value)
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else ()
    return next((found for found in map(tensor_in, parts) if found is not None), None)


def use_on_the_cpu(tensor):
    return tensor.detach().reshape(-1)[:1] + torch.ones(1)


def wait_for(tensor):
    return float(tensor.detach().reshape(-1)[0])


def add_mistake(monkeypatch, owner, name, mistake):
    """Let a function make a mistake with a tensor of its result, or of its arguments."""
    original = getattr(owner, name)

    def mistaken(*args, **kwargs):
        result = original(*args, **kwargs)
        tensor = tensor_in(result)
        if tensor is None:
            tensor = tensor_in([*args, *kwargs.values()])
        if tensor is None:
            tensor = next(args[0].net_g.parameters())
        if tensor.device == DEVICE:
            mistake(tensor)
        return result

    monkeypatch.setattr(owner, name, mistaken)


def short(experiment, workspace):
    opt = experiment(workspace)
    opt['val']['val_freq'] = 2
    opt['logger'].update(print_freq=100, save_checkpoint_freq=100)
    return opt


@pytest.mark.parametrize(('owner', 'name', 'experiment'), PLACES)
def test_a_tensor_of_the_cpu_is_found_in_every_part_of_a_step(workspace, monkeypatch, owner, name, experiment):
    opt = short(experiment, workspace)
    e.on_device(monkeypatch, DEVICE)
    add_mistake(monkeypatch, owner, name, use_on_the_cpu)
    with pytest.raises((RuntimeError, UserError), match='Expected all tensors to be on the same device'):
        workspace.train(opt)


@pytest.mark.parametrize(
    'experiment', list(dict.fromkeys(experiment for *_, experiment in PLACES)), ids=lambda each: each.__name__
)
def test_waiting_is_found_in_every_part_of_a_step(workspace, monkeypatch, steps, experiment):
    places = [(owner, name) for owner, name, its_experiment in PLACES if its_experiment is experiment]
    opt = short(experiment, workspace)
    e.on_device(monkeypatch, DEVICE)
    found = set()
    for place in places:

        def wait(tensor, place=place):
            wait_for(tensor)
            found.add(place)

        add_mistake(monkeypatch, *place, wait)
    workspace.train(opt)
    assert found == set(places)
    assert len(steps) >= len(places)
