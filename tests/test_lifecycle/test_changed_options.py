"""A resumed run with an edited option file: what is taken over, said and refused."""

import copy
import types

import pytest
import torch
from basicsr.models.lr_scheduler import CosineAnnealingRestartLR, MultiStepRestartLR

from kdsr.errors import UserError
from kdsr.lifecycle.changed_options import follow_new_options, tell_changes, with_new_schedules
from tests.helpers.runs import content, killed, options


def model(schedule, lr, **arguments):
    optimizer = torch.optim.Adam([torch.nn.Parameter(torch.ones(1))], lr=lr)
    return types.SimpleNamespace(optimizers=[optimizer], schedulers=[schedule(optimizer, **arguments)])


def train_options(lr, **scheduler):
    return {'train': {'optim_g': {'type': 'Adam', 'lr': lr}, 'scheduler': scheduler}}


def trained(one, iterations):
    for _ in range(iterations):
        one.optimizers[0].step()
        one.schedulers[0].step()
    return one


def resumed(one, then, now, iterations_of):
    """Restore a model as BasicSR does, then follow the new options; return its learning rate."""
    state = {
        'options': then,
        'optimizers': [o.state_dict() for o in iterations_of.optimizers],
        'schedulers': [copy.deepcopy(s.state_dict()) for s in iterations_of.schedulers],
    }
    restored = with_new_schedules(one, state, now)
    one.optimizers[0].load_state_dict(restored['optimizers'][0])
    one.schedulers[0].load_state_dict(restored['schedulers'][0])
    follow_new_options(one, state, now)
    return one.optimizers[0].param_groups[0]['lr']


def test_a_new_learning_rate_counts_from_the_current_iteration_on():
    """BasicSR printed the new rate and trained on with the old one (BasicSR#327)."""
    then, now = (train_options(lr, milestones=[4, 100]) for lr in (1e-3, 4e-3))
    old = trained(model(MultiStepRestartLR, 1e-3, milestones=[4, 100], gamma=0.5), 6)
    new = model(MultiStepRestartLR, 4e-3, milestones=[4, 100], gamma=0.5)
    assert resumed(new, then, now, old) == pytest.approx(2e-3)
    assert new.optimizers[0].param_groups[0]['initial_lr'] == 4e-3


def test_new_milestones_and_gamma_count():
    then, now = train_options(1e-3, milestones=[4]), train_options(1e-3, milestones=[2, 5, 8], gamma=0.1)
    old = trained(model(MultiStepRestartLR, 1e-3, milestones=[4], gamma=0.5), 6)
    new = model(MultiStepRestartLR, 1e-3, milestones=[2, 5, 8], gamma=0.1)
    assert resumed(new, then, now, old) == pytest.approx(1e-5)
    trained(new, 2)
    assert new.optimizers[0].param_groups[0]['lr'] == pytest.approx(1e-6)


def test_a_longer_cosine_goes_on_past_the_old_end():
    """A TypeError before: the saved periods ended there (BasicSR#728, #464)."""
    then, now = train_options(1e-3, periods=[6]), train_options(1e-3, periods=[12])
    old = trained(model(CosineAnnealingRestartLR, 1e-3, periods=[6], restart_weights=[1]), 6)
    new = model(CosineAnnealingRestartLR, 1e-3, periods=[12], restart_weights=[1])
    assert resumed(new, then, now, old) == pytest.approx(0.5e-3)
    trained(new, 4)


def test_without_a_change_the_saved_values_count():
    same = train_options(1e-3, milestones=[4])
    old = trained(model(MultiStepRestartLR, 1e-3, milestones=[4], gamma=0.5), 6)
    old.optimizers[0].param_groups[0]['lr'] = 0.123
    new = model(MultiStepRestartLR, 1e-3, milestones=[4], gamma=0.5)
    assert resumed(new, same, same, old) == 0.123


@pytest.mark.parametrize('key', ['model_type', 'scale', 'network_g'])
def test_what_cannot_change_is_refused(key):
    then = {'model_type': 'SRModel', 'scale': 2, 'network_g': {'type': 'EDSR'}, 'crops': {}}
    opt = {**then, key: {'type': 'RCAN'} if key == 'network_g' else 3, 'path': {}}
    del opt['crops']
    with pytest.raises(UserError, match=key):
        tell_changes('6.state', {'options': then, 'iter': 6}, opt)


def test_a_run_with_an_edited_file_says_so_and_keeps_both_files(workspace, capsys):
    opt = options(workspace)
    killed(workspace, opt)
    edited = copy.deepcopy(opt)
    edited['train']['optim_g']['lr'] = 7e-4
    folder = workspace.train(edited, '--auto_resume')
    said = capsys.readouterr().out
    assert 'train.optim_g.lr: 0.001 -> 0.0007 (from iteration 3 on)' in said
    assert (folder / 'earlier_options' / 'until_2.yml').read_text() != next(folder.glob('*.yml')).read_text()
    state = content(folder, 'training_states/6.state')
    assert state['options']['train']['optim_g']['lr'] == 7e-4
    assert state['optimizers'][0]['param_groups'][0]['initial_lr'] == 7e-4


def test_another_seed_is_refused(workspace):
    opt = options(workspace)
    killed(workspace, opt)
    with pytest.raises(UserError, match='manual_seed: '):
        workspace.train({**opt, 'manual_seed': 99}, '--auto_resume')
