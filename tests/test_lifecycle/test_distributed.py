"""Two real processes (gloo, CPU) through `kdsr/train.py`."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.conftest import network_opt
from tests.helpers.processes import free_port

ROOT = Path(__file__).parents[2]


def launch(workspace, path, processes, *arguments):
    env = {**os.environ, 'OMP_NUM_THREADS': '1', 'PYTHONWARNINGS': 'ignore', 'CUDA_VISIBLE_DEVICES': ''}
    if processes > 1:
        env.update(PYTHON=sys.executable, PORT=str(free_port()))
        command = ['bash', str(ROOT / 'scripts' / 'dist_train.sh'), str(processes), path, *arguments]
    else:
        command = [sys.executable, str(ROOT / 'kdsr' / 'train.py'), '-opt', path, *arguments]
    done = subprocess.run(command, cwd=workspace.root, env=env, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


def options(workspace, name, per_process, workers=0):
    """No random crop or flip: the batches of two processes and of one are the same images."""
    opt = workspace.options(name=name, model_type='DistillationModel', iterations=3)
    opt['datasets']['train'].update(
        gt_size=48, use_hflip=False, use_rot=False, batch_size_per_gpu=per_process, num_worker_per_gpu=workers
    )
    # with so large an `eps` Adam's step is proportional to the gradient, so that a wrong factor on it shows
    opt['train']['optim_g'] = {'type': 'Adam', 'lr': 3.0, 'eps': 10.0, 'betas': [0.9, 0.99]}
    opt['distillation'] = {
        'teachers': [workspace.teacher('RCAN'), workspace.teacher('SwinIR')],
        'features': {
            'a': {'student': 'body.0', 'teacher': 'body.1', 'from': 'rcan'},
            'b': {'student': 'conv_after_body', 'teacher': 'layers.1', 'from': 'swinir'},
        },
        'losses': {
            'l_dwt': {'type': 'WaveletLoss'},
            'l_fit': {'type': 'FitNetLoss', 'loss_weight': 0.1},
            'l_facd': {'type': 'FACDLoss', 'use_contrast': False, 'loss_range': 1},
        },
        'views': {
            'all': {'type': 'ZoomIn', 'count': 4, 'consistency': 0, 'losses': ['l_dwt']},
            'out': {'type': 'ZoomOut'},
        },
    }
    return opt


def weights(workspace, name, file, key='params'):
    return torch.load(workspace.root / 'experiments' / name / 'models' / f'{file}_3.pth', weights_only=True)[key]


@pytest.mark.slow
def test_two_processes_learn_what_one_learns_from_the_same_global_batch(workspace):
    for name, processes, per_process in (('one', 1, 4), ('two', 2, 2)):
        opt = options(workspace, name, per_process)
        opt['logger']['save_checkpoint_freq'] = 3
        opt['train']['accumulate'] = processes  # gradients are exchanged after the last part
        launch(workspace, workspace.write(opt, f'{name}.yml'), processes)
    for file, key in (('net_g', 'params'), ('net_g', 'params_ema'), ('net_distill', 'params')):
        one, two = weights(workspace, 'one', file, key), weights(workspace, 'two', file, key)
        for k in one:
            torch.testing.assert_close(
                one[k], two[k], rtol=2e-4, atol=2e-5, msg=lambda m, k=k, file=file: f'{file} {k}: {m}'
            )
    log = next((workspace.root / 'experiments' / 'two').glob('train_*.log')).read_text()
    assert log.count('iter:       3') == 1
    assert 'l_fit: ' in log
    one = next((workspace.root / 'experiments' / 'one').glob('train_*.log')).read_text()
    for name in ('l_dwt_all', 'l_pix_out', 'rejected_l_facd'):
        values = [re.findall(rf'{name}: ([\d.e+-]+)', text) for text in (one, log)]
        assert len(values[0]) == 3
        assert [float(v) for v in values[0]] == pytest.approx([float(v) for v in values[1]], rel=1e-2)


@pytest.mark.slow
def test_loader_processes_a_feature_loss_alone_and_validation_of_a_network_with_buffers(workspace):
    opt = options(workspace, 'workers', 1, workers=1)
    del opt['train']['pixel_opt'], opt['distillation']['views']
    opt['distillation']['losses'] = {'l_fit': opt['distillation']['losses']['l_fit']}
    opt['distillation']['features'] = {'a': {'student': 'layers.0', 'teacher': 'body.1', 'from': 'rcan'}}
    opt['network_g'] = network_opt('SwinIRLight')  # has buffers, which DDP would broadcast in a validation by rank 0
    opt['train']['ema_decay'] = 0
    opt['val']['val_freq'] = 1
    opt['logger']['save_checkpoint_freq'] = 3
    launch(workspace, workspace.write(opt), 2)
    assert (workspace.root / 'experiments' / 'workers' / 'models' / 'net_g_3.pth').exists()


@pytest.mark.slow
def test_a_run_of_two_processes_goes_on_with_one_and_then_with_two_again(workspace):
    """The same samples in the same steps, with crops, flips and an epoch's end between; without views."""
    opt = options(workspace, 'whole', 2)
    opt['datasets']['train'].update(gt_size=32, use_hflip=True, use_rot=True, dataset_enlarge_ratio=3)
    opt['logger']['save_checkpoint_freq'] = 2
    del opt['distillation']['views']
    opt['train']['total_iter'] = 6
    launch(workspace, workspace.write(opt), 2)
    for total, processes in ((2, 2), (4, 1), (6, 2)):
        opt['name'] = 'changing'
        opt['train']['total_iter'] = total
        opt['datasets']['train']['batch_size_per_gpu'] = 4 // processes
        launch(workspace, workspace.write(opt), processes, '--auto_resume')
    folders = [workspace.root / 'experiments' / name for name in ('whole', 'changing')]
    whole, changing = (torch.load(folder / 'models' / 'net_g_6.pth', weights_only=True) for folder in folders)
    for key in ('params', 'params_ema'):
        for name, tensor in whole[key].items():
            torch.testing.assert_close(changing[key][name], tensor, rtol=2e-4, atol=2e-5)
    logs = [''.join(path.read_text() for path in sorted(folder.glob('train_*.log'))) for folder in folders]
    for name in ('l_pix', 'l_dwt', 'l_fit'):
        values = [[float(v) for v in re.findall(rf'{name}: ([\d.e+-]+)', text)] for text in logs]
        assert values[1] == pytest.approx(values[0], rel=1e-3)
