"""Old public names work as they did, and the warning names the new one."""

import importlib
import subprocess
import sys

import pytest
import torch
from torch import nn

import kdsr.losses.lsfd_loss  # noqa: F401 - prepares kdsr
from kdsr.distillation.outputs import Batch, NetworkOutput
from kdsr.distillation.teacher import FrozenNetwork, TeacherEnsemble, build_teachers
from kdsr.distillation.views import View
from kdsr.errors import UserError
from kdsr.losses.feature_pair import FeatureRegressors
from kdsr.old_names import OLD_ARGUMENTS, OLD_NAMES

NAMES = [(module, old, new) for module, names in OLD_NAMES.items() for old, new in names.items()]
CHANGED = ('FeaturesOnly', 'check_trained_for')


@pytest.mark.parametrize(('module', 'old', 'new'), NAMES, ids=lambda name: name)
def test_an_old_name_is_the_new_one(module, old, new):
    home, _, name = new.rpartition(':')
    if old in CHANGED:
        assert callable(getattr(importlib.import_module(module), old))
        return
    with pytest.warns(DeprecationWarning, match=f'{module}.{old} is an old name: use {home or module}.{name}.') as seen:
        found = getattr(importlib.import_module(module), old)
    assert found is getattr(importlib.import_module(home or module), name)
    assert seen[0].filename == __file__


def test_a_name_that_never_was_is_refused():
    with pytest.raises(AttributeError, match=r"'kdsr\.distillation\.views' has no attribute 'Zoom"):
        _ = importlib.import_module('kdsr.distillation.views').ZoomSideways


OTHERS = {
    'contrast_to_negatives': {'negatives': torch.rand(3, 4, 5, 5)},
    'info_nce': {'alpha': 0.5, 'tau': 0.1},
    'pair_features': {'loss': 'AnyLoss', 'name': 'late'},
}


@pytest.mark.parametrize('function', OLD_ARGUMENTS)
def test_old_arguments_are_renamed(function):
    module, _, name = function.partition(':')
    call = getattr(importlib.import_module(module), name)
    torch.manual_seed(0)
    new = dict(OTHERS.get(name, {}))
    old = dict(new)
    for argument, renamed in OLD_ARGUMENTS[function].items():
        new[renamed] = old[argument] = torch.rand(2, 2) if name == 'info_nce' else torch.rand(2, 4, 5, 5)
    expected = call(**new)
    with pytest.warns(DeprecationWarning, match=name):
        assert str(call(**old)) == str(expected)


class OldView(View):
    """A view as written for kdsr before `ConsistentView` was apart."""

    def __init__(self, consistency=1.0, losses=None, loss_weight=2.0, by_name=False):
        if by_name:
            super().__init__(consistency=consistency, losses=losses, loss_weight=loss_weight)
        else:
            super().__init__(consistency, losses, loss_weight)

    def make(self, batch):
        return batch


@pytest.mark.parametrize('by_name', [True, False])
def test_a_view_with_consistency_runs_the_student_on_changed_images(by_name):
    with pytest.warns(DeprecationWarning, match=r'use the base class kdsr\.views\.dukd_view\.ConsistentView'):
        view = OldView(losses=['l_a'], by_name=by_name)
    assert (view.consistency, view.losses, view.loss_weight) == (1.0, ['l_a'], 2.0)
    images, seen = torch.rand(2, 3, 4, 4), []
    out = view.run_student(lambda lq: seen.append(lq) or lq, images)
    torch.testing.assert_close(out, images)  # the change is undone
    torch.testing.assert_close(seen[0], (1 - images).flip(-1, -2).mT)  # probability 1: all parts
    with pytest.warns(DeprecationWarning, match='old name'), pytest.raises(UserError, match='probability'):
        OldView(3.0)


class Hourglass(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder, self.decoder = nn.AvgPool2d(2), nn.Upsample(scale_factor=2)

    def forward(self, image):
        return self.decoder(self.encoder(image))


def test_teachers_still_encode():
    member = FrozenNetwork(Hourglass())
    teachers = TeacherEnsemble({'t': member}, {'t': 'gt'})
    gt = torch.tensor([[[[0.0, 1.0], [2.0, 5.0]]]])
    with pytest.warns(DeprecationWarning, match='encoder_of'):
        assert teachers.encode(Batch(gt, gt)).tolist() == [[[[2.0]]]]
    with pytest.warns(DeprecationWarning, match='encoder_of'):
        assert member.encode(gt).tolist() == [[[[2.0]]]]


OPTIONS = {
    'name': 'x', 'model_type': 'DistillationModel', 'scale': 2, 'num_gpu': 0,
    'datasets': {'train': {'gt_size': 8}},
    'network_g': {'type': 'FSRCNN', 'upscale': 2},
    'distillation': {
        'teachers': [{'name': 't', 'network': {'type': 'PISRTeacher', 'upscale': 2}, 'path': 'none.pth'}],
        'losses': {'l_x': {'type': 'ResponseLoss'}},
    },
    'train': {},
}  # fmt: skip


@pytest.mark.parametrize('positional', [True, False])
def test_teachers_are_built_with_the_old_arguments(positional):
    asked = []

    def skeleton(where, options):
        asked.append((where, options['type']))
        return Hourglass()

    args, kwargs = ((OPTIONS, True), {}) if positional else ((), {'opt': OPTIONS, 'from_code': True})
    with pytest.warns(DeprecationWarning, match='of build_teachers is an old name') as warned:
        teachers = build_teachers(*args, **kwargs, skeleton=skeleton)
    names = ['from_code', 'skeleton'] if positional else ['opt', 'from_code', 'skeleton']
    assert [str(one.message).split()[2] for one in warned] == names
    assert asked == [('distillation.teachers[0].network', 'PISRTeacher')]
    assert type(teachers.members[0].network).__name__ == 'Decoder'


def test_old_outputs_and_batches():
    from kdsr.distillation.outputs import FeaturesOnly

    feature, image = torch.rand(1, 2, 3, 3), torch.rand(1, 3, 4, 4)
    with pytest.warns(DeprecationWarning, match='NetworkOutput'):
        assert FeaturesOnly({'f': feature}) == NetworkOutput(None, {'f': feature})
    with pytest.warns(DeprecationWarning, match='teacher_images'):
        assert Batch(image, teacher_images=image).cached is image
    with pytest.warns(DeprecationWarning, match='Batch.code'):
        assert Batch(image, code=feature).cached is feature


def test_the_aggregators_teachers_are_checked_as_before():
    from kdsr.distillation.teacher import check_trained_for

    with pytest.warns(DeprecationWarning, match='old name'):
        check_trained_for({'teachers': ['a', 'b']}, ['a', 'b'], 'net.pth')
    with pytest.warns(DeprecationWarning, match='old name'), pytest.raises(UserError, match='the teachers a, b'):
        check_trained_for({'teachers': ['a', 'b']}, ['b', 'a'], 'net.pth')


def test_regressors_pair_by_the_old_name():
    regressors = FeatureRegressors('none', 3, 1, 'relu', act_last=False, narrow=False)
    ours, theirs = torch.rand(1, 2, 3, 3), torch.rand(1, 2, 3, 3)
    with pytest.warns(DeprecationWarning, match='regress_pair'):
        pair = regressors.pair('L', 'f', ours=ours, theirs=theirs)
    assert pair[0] is ours
    assert torch.equal(pair[1], theirs)


def test_a_gone_module_leaves_its_package_as_it_is():
    code = 'import kdsr.archs, kdsr.deployment; kdsr.deployment.Upscaler; from kdsr.deployment.exporting import export'
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
