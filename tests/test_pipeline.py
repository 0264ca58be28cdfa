"""Whole runs of BasicSR's pipelines, in this process, on tiny images and networks."""

import re

import cv2
import pytest
import torch
import yaml

from kdsr.errors import UserError
from tests.conftest import network_opt
from tests.helpers.logs import log_of


def params(folder, name='net_g_latest'):
    return torch.load(folder / 'models' / f'{name}.pth', weights_only=True)['params']


def test_a_plain_basicsr_file_trains_validates_and_tests(workspace, capsys):
    opt = workspace.options()
    opt['val']['save_img'] = True
    folder = workspace.train(opt)
    assert 'l_pix: ' in log_of(folder)
    assert re.findall(r'eta: ([^\]]*?), time', log_of(folder))[-1] == '0:00:00'
    assert 'eta: -1 day' not in log_of(folder)
    assert re.search(r'Validation photos\n\t # psnr: [\d.]+\tBest: [\d.]+ @ 2 iter', log_of(folder))
    assert (folder / 'visualization' / '000' / '000_2.png').exists()

    test = {
        'name': 'tested', 'model_type': 'SRModel', 'scale': 2, 'num_gpu': 0, 'manual_seed': 0,
        'datasets': {'test_1': opt['datasets']['val']}, 'network_g': opt['network_g'],
        'path': {'pretrain_network_g': str(folder / 'models' / 'net_g_latest.pth'), 'param_key_g': 'params_ema'},
        'val': {'save_img': True, 'metrics': opt['val']['metrics']},
    }  # fmt: skip
    absent = {**opt['datasets']['val'], 'name': 'Urban100', 'dataroot_gt': 'datasets/Urban100/HR'}
    test['datasets']['test_2'] = absent
    results = workspace.test(test)
    assert 'left out, because they are not on the disk: Urban100 (no datasets/Urban100/HR).' in capsys.readouterr().out
    assert cv2.imread(str(results / 'visualization' / 'photos' / '000_tested.png')).shape == (48, 48, 3)


def mtkd(workspace, names=('EDSR', 'RCAN', 'SwinIR')):
    """Both stages of MTKD; returns the options of stage 2 (stage 1 has run)."""
    teachers = [workspace.teacher(n) for n in names]
    aggregator = {**network_opt('DCTSwin'), 'num_teachers': len(names)}
    stage1 = workspace.options(
        name='aggregator', model_type='AggregationModel', network_g=aggregator, distillation={'teachers': teachers}
    )
    folder = workspace.train(stage1)
    return workspace.options(
        name='mtkd',
        model_type='DistillationModel',
        distillation={
            'teachers': teachers,
            'aggregator': {'network': aggregator, 'path': str(folder / 'models' / 'net_g_latest.pth')},
            'losses': {'l_dwt': {'type': 'WaveletLoss'}},
        },
    )


@pytest.mark.parametrize('student', ['EDSR', 'RCAN', 'SwinIRLight'])
def test_both_stages_of_mtkd_run_with_three_teachers(workspace, student):
    opt = mtkd(workspace)
    opt['network_g'] = network_opt(student)
    folder = workspace.train(opt)
    assert 'l_dwt: ' in log_of(folder)
    assert set(torch.load(folder / 'models' / 'net_g_latest.pth', weights_only=True)) == {'params', 'params_ema'}


def test_without_its_block_a_distillation_file_is_the_students_baseline(workspace):
    opt = mtkd(workspace, ['EDSR', 'RCAN'])
    opt['distillation']['losses']['l_dwt']['loss_weight'] = 0.0
    distilled = params(workspace.train(opt))
    del opt['distillation']
    plain = params(workspace.train({**opt, 'name': 'plain', 'model_type': 'SRModel'}))
    assert all(torch.equal(v, plain[k]) for k, v in distilled.items())


@pytest.mark.parametrize('how', ['auto', 'path'])
def test_a_run_resumes_with_teachers_and_helpers(workspace, how, capsys):
    opt = workspace.options(model_type='DistillationModel', iterations=4)
    opt['distillation'] = {
        'teachers': [workspace.teacher('RCAN')],
        'features': {'f': {'student': 'body.0', 'teacher': 'body.0'}},
        'losses': {'l_fit': {'type': 'FitNetLoss'}},
    }
    workspace.train(workspace.write({**opt, 'train': {**opt['train'], 'total_iter': 2}}))
    if how == 'auto':
        folder = workspace.train(opt, '--auto_resume')
    else:
        opt['path']['resume_state'] = str(workspace.root / 'experiments/run/training_states/2.state')
        folder = workspace.train(opt)
    log = sorted(folder.glob('train_*.log'))[-1].read_text()
    assert 'Resuming training from epoch: 0, iter: 2.' in log
    assert 'iter:       3' in log
    assert (folder / 'models' / 'net_distill_4.pth').exists()
    assert not list(workspace.root.glob('experiments/*_archived_*'))


def test_auto_resume_with_nothing_to_resume_says_so(workspace, capsys):
    workspace.train(workspace.options(), '--auto_resume')
    assert 'starts at 0' in capsys.readouterr().out


def test_auto_resume_skips_a_truncated_state_and_says_so(workspace, capsys):
    opt = workspace.options(iterations=4)
    folder = workspace.train(opt)
    newest = folder / 'training_states' / '4.state'
    newest.write_bytes(newest.read_bytes()[:100])
    workspace.train(opt, '--auto_resume')
    said = capsys.readouterr().out
    assert '4.state: it cannot be read' in said
    assert '2.state.' in said
    assert (folder / 'training_states' / '4.state').stat().st_size > 100  # trained again, from 2


@pytest.mark.parametrize('model_type', ['DistillationModel', 'AggregationModel'])
def test_a_teacher_that_is_worse_than_bicubic_stops_the_run(workspace, model_type):
    block = {'health_check': True, 'teachers': [workspace.teacher('RCAN'), workspace.teacher('EDSR')]}
    opt = workspace.options(model_type=model_type, distillation=block)
    if model_type == 'AggregationModel':
        opt['network_g'] = network_opt('DCTSwin')
    else:
        block['losses'] = {'l_kd': {'type': 'ResponseLoss'}}
    with pytest.raises(UserError, match=r"teacher 'rcan' reaches .* less than bicubic"):
        workspace.train(opt)


def test_auto_resume_skips_a_state_without_its_network_and_refuses_when_none_is_left(workspace, capsys):
    opt = workspace.options(iterations=4)
    folder = workspace.train(opt)
    (folder / 'models' / 'net_g_4.pth').unlink()
    workspace.train(opt, '--auto_resume')
    assert 'net_g_4.pth is missing or truncated' in capsys.readouterr().out
    for state in (folder / 'training_states').iterdir():
        state.write_bytes(b'nothing')
    with pytest.raises(UserError, match=r'no state in .* can be used'):
        workspace.train(opt, '--auto_resume')
    assert not list(workspace.root.glob('experiments/*_archived_*'))
    opt['path']['resume_state'] = str(folder / 'models' / 'net_g_2.pth')
    with pytest.raises(UserError, match='cannot be used'):
        workspace.train(opt)
    assert 'it is not a training state' in capsys.readouterr().out


def test_small_sets_train_to_the_last_iteration_and_too_small_ones_are_refused(workspace):
    opt = workspace.options(iterations=7)
    opt['datasets']['train']['batch_size_per_gpu'] = 3  # 4 images: one batch an epoch, the rest is dropped
    assert 'iter:       7' in log_of(workspace.train(opt))
    opt['datasets']['train']['batch_size_per_gpu'] = 5
    with pytest.raises(UserError, match='4 training images fill no batch of 5'):
        workspace.train(opt)


def test_a_variant_can_switch_the_block_off(workspace):
    base = workspace.options(model_type='DistillationModel')
    base['distillation'] = {'teachers': [workspace.teacher('RCAN')], 'losses': {'l_kd': {'type': 'ResponseLoss'}}}
    workspace.write(base, 'kd.yml')
    (workspace.root / 'plain.yml').write_text(
        'base: kd.yml\nname: plain\nmodel_type: SRModel\ndistillation: ~\ndatasets: {val: ~}\nval: ~\n'
    )
    log = log_of(workspace.train(str(workspace.root / 'plain.yml')))
    assert 'l_pix' in log
    assert 'l_kd' not in log
    assert 'l_kd' in log_of(workspace.train({**base, 'model_type': 'SRModel'}))  # with the block, SRModel distils


def test_a_finished_student_is_tested_without_its_teachers(workspace):
    opt = workspace.options(model_type='DistillationModel')
    opt['distillation'] = {'teachers': [workspace.teacher('RCAN')], 'losses': {'l_kd': {'type': 'ResponseLoss'}}}
    weights = workspace.weights(opt['network_g'], 'student')
    opt['distillation']['teachers'][0]['path'] = 'gone.pth'
    opt['datasets'] = {'test': opt['datasets']['val']}
    opt['path'] = {'pretrain_network_g': weights}
    del opt['val'], opt['train']
    assert workspace.test(opt).exists()


def test_a_missing_resume_state_is_told(workspace):
    opt = workspace.options()
    opt['path']['resume_state'] = 'experiments/run/training_states/99.state'
    with pytest.raises(UserError, match=r'99\.state` does not exist'):
        workspace.train(opt)


def test_the_experiment_keeps_the_resolved_file(workspace):
    base = workspace.write(workspace.options(), 'base_run.yml')
    (workspace.root / 'variant.yml').write_text('base: base_run.yml\nname: variant\ntrain: {optim_g: {lr: 5e-4}}\n')
    assert base
    folder = workspace.train(
        str(workspace.root / 'variant.yml'), '--force_yml', 'train:ema_decay=0', 'val:val_freq=1e3'
    )
    kept = yaml.safe_load((folder / 'variant.yml').read_text())
    assert kept['train']['optim_g'] == {'type': 'Adam', 'lr': 0.0005, 'betas': [0.9, 0.99]}
    assert kept['train']['ema_decay'] == 0
    assert 'lr:(5.000e-04,)' in log_of(folder)
    assert set(torch.load(folder / 'models' / 'net_g_latest.pth', weights_only=True)) == {'params'}


def test_a_file_without_base_is_kept_as_it_was_written(workspace):
    opt = workspace.options()
    opt['val']['suffix'] = None
    path = workspace.write(opt)
    with open(path, 'a') as file:
        file.write('# a remark\n')
    assert '# a remark' in (workspace.train(path) / 'run.yml').read_text()


def test_missing_data_is_told_before_an_experiment_folder_is_made(workspace):
    opt = workspace.options()
    opt['datasets']['train']['dataroot_lq'] = 'datasets/nowhere'
    with pytest.raises(UserError, match=r'datasets\.train\.dataroot_lq: datasets/nowhere'):
        workspace.train(opt)
    assert not (workspace.root / 'experiments').exists()


def test_networks_of_other_packages_are_imported_by_name(workspace, monkeypatch):
    (workspace.root / 'other_archs.py').write_text(
        'from basicsr.archs.edsr_arch import EDSR\nfrom basicsr.utils.registry import ARCH_REGISTRY\n\n\n'
        '@ARCH_REGISTRY.register()\nclass OtherEDSR(EDSR):\n    pass\n'
    )
    monkeypatch.syspath_prepend(str(workspace.root))
    opt = workspace.options(import_modules=['other_archs'])
    opt['network_g']['type'] = 'OtherEDSR'
    assert 'Network [OtherEDSR] is created.' in log_of(workspace.train(opt))
    with pytest.raises(UserError, match=r"there is no module 'nowhere\.archs'"):
        workspace.train({**opt, 'import_modules': ['nowhere.archs']})


def test_a_gpu_that_is_not_there_is_told(workspace, monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    with pytest.raises(UserError, match='num_gpu: auto'):
        workspace.train(workspace.options(num_gpu=1))
