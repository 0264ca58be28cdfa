"""Runs that are killed (real processes, forked) and resumed end with the bits of a run that never stopped."""

import os
import signal
from pathlib import Path

import basicsr.train
import cv2
import pytest
import torch

from kdsr.errors import UserError
from kdsr.lifecycle import resuming
from tests.helpers.runs import (
    basicsrs,
    cached,
    check_same_run,
    content,
    features,
    half_precision,
    killed,
    many_teachers,
    options,
    plain,
    real_world,
)


@pytest.mark.parametrize('kind', [plain, basicsrs, half_precision, features, many_teachers, cached, real_world])
def test_a_killed_run_resumes_as_if_nothing_had_happened(workspace, kind, capsys):
    opt = kind(workspace)
    whole = workspace.train({**opt, 'name': 'whole'})
    assert os.WTERMSIG(killed(workspace, opt)) == signal.SIGKILL
    resumed = workspace.train(opt, '--auto_resume')
    check_same_run(whole, resumed)
    assert 'resumes from' in capsys.readouterr().out


def test_neither_loader_processes_nor_a_kill_change_what_is_learnt(workspace):
    opt = options(workspace, student='SwinIRLight')
    opt['network_g']['drop_path_rate'] = 0.5  # random numbers in every step
    whole = workspace.train({**opt, 'name': 'whole'})
    opt['datasets']['train']['num_worker_per_gpu'] = 1
    killed(workspace, opt, iteration=6)  # the last of an epoch is behind it
    check_same_run(whole, workspace.train(opt, '--auto_resume'))


def test_a_validation_that_a_kill_cut_off_is_done_after_the_resume(workspace):
    opt = options(workspace)
    opt['val']['val_freq'] = 2
    whole = workspace.train({**opt, 'name': 'whole'})
    killed(workspace, opt, iteration=4, method='validation')
    state = content(workspace.root / 'experiments' / 'run', 'training_states/4.state')
    assert state['validated'] == {'tiny': 2}
    check_same_run(whole, workspace.train(opt, '--auto_resume'))


def test_other_data_than_the_killed_runs_are_refused_unless_they_are_wanted(workspace, capsys):
    opt = options(workspace)
    killed(workspace, opt)
    changed = {**opt, 'datasets': {**opt['datasets'], 'train': {**opt['datasets']['train'], 'batch_size_per_gpu': 4}}}
    with pytest.raises(UserError, match=r'2\.state was saved by.*\n  - batch_size_per_gpu: 2, now 4\nUndo'):
        workspace.train(changed, '--auto_resume')
    workspace.images(count=5)
    with pytest.raises(UserError, match='training images: 4, now 5'):
        workspace.train(opt, '--auto_resume')
    changed['path'] = {**opt['path'], 'resume_with_other_data': True}
    workspace.train(changed, '--auto_resume')
    assert 'resumed with other data (batch_size_per_gpu: 2, now 4; training images: 4, now 5' in capsys.readouterr().out


def test_a_seed_that_nobody_chose_is_kept_through_a_resume(workspace):
    opt = options(workspace)
    del opt['manual_seed']
    killed(workspace, opt)
    states = workspace.root / 'experiments' / 'run' / 'training_states'
    seed = content(states, '2.state')['data_order']['manual_seed']
    workspace.train(opt, '--auto_resume')
    assert content(states, '6.state')['data_order']['manual_seed'] == seed


def test_replaced_images_are_refused_though_names_and_sizes_are_the_same(workspace):
    opt = options(workspace)
    killed(workspace, opt)
    path = Path(opt['datasets']['train']['dataroot_gt']) / '001.png'
    before = path.read_bytes()
    image = cv2.imread(str(path))
    cv2.imwrite(str(path), image[::-1])
    with pytest.raises(UserError, match=r'with other data:\n  - content of dataroot_gt: \w{8}, now \w{8}\nUndo'):
        workspace.train(opt, '--auto_resume')
    path.write_bytes(before)
    workspace.train(opt, '--auto_resume')


def test_replaced_weights_of_a_teacher_are_refused(workspace):
    opt = options(workspace)
    block = {'teachers': [workspace.teacher('RCAN')], 'losses': {'l_kd': {'type': 'ResponseLoss'}}}
    opt.update(model_type='DistillationModel', distillation=block)
    killed(workspace, opt)
    workspace.weights(block['teachers'][0]['network'], 'RCAN_x2', seed=9)
    with pytest.raises(UserError, match=r'  - weights of teacher rcan: \w{16}, now \w{16}\nUndo the change'):
        workspace.train(opt, '--auto_resume')


def test_a_state_of_an_older_version_knows_no_digests_and_is_resumed(workspace):
    opt = options(workspace)
    killed(workspace, opt)
    path = workspace.root / 'experiments/run/training_states/2.state'
    state = torch.load(path, weights_only=True)
    assert 'content of dataroot_gt' in state['data_order']
    state['data_order'] = {k: v for k, v in state['data_order'].items() if not k.startswith('content of')}
    torch.save(state, path)
    for name in ('gt', 'lq2'):
        image = cv2.imread(f'photos/{name}/001.png')
        cv2.imwrite(f'photos/{name}/001.png', image[::-1])
    workspace.train(opt, '--auto_resume')


def test_the_newest_state_is_found_by_number(tmp_path):
    for name in ('900.state', '1000.state', 'latest.state', '2000.state.partial'):
        (tmp_path / name).touch()
    assert resuming.list_states(str(tmp_path)) == [str(tmp_path / '1000.state'), str(tmp_path / '900.state')]
    assert resuming.list_states(str(tmp_path / 'nowhere')) == []


def test_a_hostile_training_state_is_not_run(workspace):
    class Hostile:
        def __reduce__(self):
            return print, ('pwned',)

    state = workspace.root / '1.state'
    torch.save({'iter': 1, 'x': Hostile()}, state)
    opt = {'auto_resume': False, 'path': {'resume_state': str(state), 'training_states': str(workspace.root)}}
    with pytest.raises(UserError, match=r'1\.state.*nothing in it was run'):
        basicsr.train.load_resume_state(opt)
