"""The option files of DUKD: its released settings, each stepped once, shrunk."""

from pathlib import Path

import pytest
import torch

from kdsr import options
from tests.helpers.shipped_networks import TEACHERS, parameters, shrunk

FOLDER = Path(__file__).parents[1] / 'options' / 'comparisons' / 'mtkd'
RUNS = [(student, scale) for student in ('swinir', 'rcan', 'edsr') for scale in (2, 3, 4)]
ZOOM_OUT = {'type': 'ZoomOut'}


def load(student, scale):
    return options.load_experiment(str(FOLDER / f'dukd_{student}_x{scale}.yml'))


@pytest.mark.parametrize(('student', 'scale'), RUNS)
def test_the_settings_are_those_of_the_released_code(student, scale):
    opt = load(student, scale)
    train, data, block = opt['train'], opt['datasets']['train'], opt['distillation']
    assert opt['name'] == f'dukd_{student}_x{scale}'
    assert (data['gt_size'], data['batch_size_per_gpu'], data['use_hflip'], data['use_rot']) == (
        48 * scale, 16, True, True,
    )  # fmt: skip
    assert (train['optim_g']['lr'], train['optim_g']['betas'], train['ema_decay']) == (1e-4, [0.9, 0.99], 0.999)
    assert train['scheduler'] == {'type': 'MultiStepLR', 'milestones': [100_000, 200_000], 'gamma': 0.1}
    assert train['total_iter'] == 250_000
    assert train['pixel_opt'] == {
        'type': 'L1Loss', 'loss_weight': 1.0 if student == 'rcan' else 5.0, 'reduction': 'mean',
    }  # fmt: skip
    assert block['losses'] == {'l_kd': {'type': 'ResponseLoss', 'norm': 'l1', 'loss_weight': 1.0}}
    zoom_in = {'type': 'ZoomIn', 'count': 1, 'consistency': 0 if student == 'rcan' else 0.3}
    if student == 'edsr':
        assert block['views'] == {'zoom_in': {**zoom_in, 'count': 2 if scale == 2 else 1}, 'zoom_out': ZOOM_OUT}
    else:
        assert block['views'] == {'zoom_in': zoom_in}


@pytest.mark.parametrize(('student', 'scale'), RUNS)
def test_student_and_teacher_are_of_one_kind(student, scale):
    opt = load(student, scale)
    (teacher,) = opt['distillation']['teachers']
    kind = opt['network_g']['type']
    assert kind.lower() == student == teacher['name']
    assert teacher['network']['upscale'] == scale
    assert parameters(teacher['network']) == TEACHERS[kind, scale]
    same = options.load(str(FOLDER.parents[1] / f'mtkd_{student}_x{scale}.yml'))
    assert teacher in same['distillation']['teachers']
    changed = {'num_block': 32, 'res_scale': 0.1} if student == 'edsr' else {}
    assert opt['network_g'] == {**same['network_g'], **changed}


@pytest.mark.parametrize(('student', 'scale'), RUNS)
def test_each_file_trains_with_its_views(student, scale, workspace):
    opt = load(student, scale)
    if (student, scale) == ('edsr', 4):
        assert opt['path']['pretrain_network_g'] == 'experiments/dukd_edsr_x2/models/net_g_latest.pth'
        small = shrunk(load(student, 2), workspace)['network_g']
        opt['path']['pretrain_network_g'] = workspace.weights(small, 'first')
    folder = workspace.train(shrunk(opt, workspace))
    log = next(folder.glob('train_*.log')).read_text()
    for term in ('l_kd_zoom_in', *(('l_pix_zoom_out', 'l_kd_zoom_out') if student == 'edsr' else ())):
        assert f'{term}: ' in log
    assert torch.load(folder / 'models' / 'net_g_latest.pth', weights_only=True).keys() == {'params', 'params_ema'}
