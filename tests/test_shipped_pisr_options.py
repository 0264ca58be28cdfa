"""Every option file of PISR: built at full size, its settings, how the stages fit, and one step of each, shrunk."""

import functools
import json
import math
import re
from pathlib import Path

import pytest
import torch
from basicsr.archs import build_network
from basicsr.models import build_model

from kdsr import options

FOLDER = Path(__file__).parents[1] / 'options'
# Parameters on luminance, and the tapped layer (PISR, Tables 1 and 3). CARN's 964,187 / 1,148,827 /
# 1,111,899 count three colours: 20 values of the mean shifts and 2 x 64 x 9 + 2 x 64 x 9 + 2 more than one channel.
STUDENTS = {
    'fsrcnn': ((12_644, 12_644, 12_644), 'expanding'),
    'fsrcnn_l': ((125_504, 125_504, 125_504), 'expanding'),
    'vdsr': ((664_704, 664_704, 664_704), 'body.17'),
    'idn': ((552_769, 552_769, 552_769), 'body.3'),
    'carn': ((961_861, 1_146_501, 1_109_573), 'body'),
}
RUNS = [(student, scale) for student in STUDENTS for scale in (2, 3, 4)]
KINDS = ('pisr_teacher', 'pisr', 'baseline')
FILES = [f'{kind}_{student}_x{scale}' for student, scale in RUNS for kind in KINDS]
TESTED = [f'test/{student}_x{scale}' for student, scale in RUNS]
ENCODER = 86_084


@functools.cache
def _load(name):
    return json.dumps(options.load(str(FOLDER / f'{name}.yml')))


def load(name):
    return json.loads(_load(name))


VARIANTS = [f'ablations/pisr/{p.stem}' for p in sorted((FOLDER / 'ablations/pisr').glob('*.yml'))]


def parameters(network):
    return _parameters(json.dumps(network))


@functools.cache
def _parameters(network):
    return sum(p.numel() for p in build_network(json.loads(network)).parameters())


def shrink(network):
    """The same architecture, tiny, with its tapped layer."""
    small = {
        'FSRCNN': {'num_feat': 4, 'num_shrink': 3, 'num_map': 1},
        'VDSR': {'num_feat': 4},
        'IDN': {'num_feat': 16, 'num_kept': 4},
        'CARN': {'num_feat': 4},
        'PISRTeacher': {'num_feat': 4, 'num_shrink': 3},
    }[network['type']]
    network = {**network, **small}
    return {**network, 'decoder': shrink(network['decoder'])} if 'decoder' in network else network


def shrunk(opt, workspace):
    """The file's experiment with tiny networks, as BasicSR's parser would leave it; the teacher is on disk."""
    opt['network_g'] = shrink(opt['network_g'])
    opt['datasets']['train']['gt_size'] = 8 * opt['scale']
    for teacher in opt.get('distillation', {}).get('teachers', []):
        teacher['network'] = shrink(teacher['network'])
        teacher['path'] = workspace.weights(teacher['network'], 'teacher', seed=3)
        opt['distillation']['health_check'] = False
    return {**opt, 'num_gpu': 0, 'dist': False, 'rank': 0, 'world_size': 1, 'is_train': True}


def of(name):
    """Student and scale of a file."""
    student, scale = (
        name.split('/')[-1].split('pisr_teacher_')[-1].split('pisr_')[-1].split('baseline_')[-1].split('_x')
    )
    return student, int(scale)


def test_the_papers_runs_are_all_there():
    names = {str(p.relative_to(FOLDER).with_suffix('')) for p in FOLDER.rglob('*.yml')}
    assert {*FILES, *TESTED} <= names
    assert {row for v in VARIANTS for row in re.findall(r'table1_([a-g])', v)} == set('abcdefg')


@pytest.mark.parametrize('name', [*FILES, *TESTED])
def test_networks_have_the_published_sizes(name):
    opt, (student, scale) = load(name), of(name)
    counts, tap = STUDENTS[student]
    encoder = ENCODER if 'teacher' in name else 0
    assert (opt['scale'], opt['network_g']['upscale']) == (scale, scale)
    assert parameters(opt['network_g']) == counts[scale - 2] + encoder
    if 'distillation' in opt:
        (teacher,) = opt['distillation']['teachers']
        assert parameters(teacher['network']) == counts[scale - 2] + ENCODER
        assert opt['distillation']['features'] == {'last': {'student': tap, 'teacher': f'decoder.{tap}'}}


@pytest.mark.parametrize('name', [*FILES, *VARIANTS])
def test_the_settings_are_the_papers(name):
    opt = load(name)
    train, data, scale = opt['train'], opt['datasets']['train'], opt['scale']
    assert opt['color'] == 'y'
    assert (data['gt_size'], data['batch_size_per_gpu'], data['use_hflip'], data['use_rot']) == (192, 16, True, True)
    assert train['optim_g'] == {'type': 'Adam', 'lr': 1e-3, 'weight_decay': 0, 'betas': [0.9, 0.999]}
    cosine = {'type': 'CosineAnnealingRestartLR', 'periods': [1_000_000], 'restart_weights': [1], 'eta_min': 1e-5}
    assert train['scheduler'] == cosine
    assert (train['total_iter'], train['ema_decay']) == (1_000_000, 0)
    assert train['pixel_opt'] == {'type': 'L1Loss', 'loss_weight': 1.0, 'reduction': 'mean'}
    assert all(m['crop_border'] == scale for m in opt['val']['metrics'].values())
    if name.startswith('pisr_teacher'):
        assert train['imitation_opt'] == {'type': 'L1Loss', 'loss_weight': 1e-4, 'reduction': 'mean'}
    if name.startswith('pisr_') and 'distillation' in opt:
        vid = {'type': 'VIDLoss', 'pdf': 'laplace', 'form': 'paper', 'scale': 'element', 'loss_weight': 1e-6}
        assert opt['distillation']['losses'] == {'l_vid': vid}
        assert opt['distillation']['init_from'] == {'teacher': 'pisr', 'module': 'decoder'}


@pytest.mark.parametrize(('student', 'scale'), RUNS)
def test_the_three_runs_of_a_student_differ_only_in_what_they_are_about(student, scale):
    teacher, distilled, alone, tested = (
        load(name) for name in [*(f'{kind}_{student}_x{scale}' for kind in KINDS), f'test/{student}_x{scale}']
    )
    block = distilled.pop('distillation')
    assert block['teachers'][0]['network'] == teacher['network_g']
    assert block['teachers'][0]['path'] == f'experiments/{teacher["name"]}/models/net_g_latest.pth'
    assert {**teacher['network_g']['decoder'], 'upscale': scale} == distilled['network_g'] == tested['network_g']
    assert tested['path']['pretrain_network_g'] == f'experiments/{distilled["name"]}/models/net_g_latest.pth'
    assert (tested['model_type'], tested['color'], tested['val']['round_gt']) == ('StudentModel', 'y', False)
    assert tested['val']['metrics'] == alone['val']['metrics']
    del teacher['train']['imitation_opt']
    model_types = ('PrivilegedTeacherModel', 'DistillationModel', 'StudentModel')
    for kind, opt, model_type in zip(KINDS, (teacher, distilled, alone), model_types):
        assert (opt.pop('name'), opt.pop('model_type')) == (f'{kind}_{student}_x{scale}', model_type)
    del teacher['network_g']
    assert distilled == alone
    assert teacher == {key: value for key, value in alone.items() if key != 'network_g'}


def test_the_learning_rate_is_within_a_thousandth_of_the_authors(workspace):
    """They take a step of the cosine before each epoch of 1000 iterations, from 1e-3 at 0 to 1e-5 at 1000."""
    model = build_model(shrunk(load('baseline_fsrcnn_x2'), workspace))
    scheduler = model.schedulers[0]
    for iteration in (0, 1, 999, 1000, 150_000, 499_999, 500_000, 999_999):
        scheduler.last_epoch = iteration
        epoch = iteration // 1000 + 1
        authors = 1e-5 + (1e-3 - 1e-5) * (1 + math.cos(math.pi * epoch / 1000)) / 2
        assert scheduler.get_lr()[0] == pytest.approx(authors, abs=1.6e-6)
    assert scheduler.get_lr()[0] == pytest.approx(1e-5, abs=1e-10)
    assert model.get_current_learning_rate() == [1e-3]


ROWS = {  # loss, init_from, shrink, and the teacher that writes the weights
    'table1_b_no_hourglass': ('l_mae', False, 'table1_b_teacher'),
    'table1_c_no_transfer': ('l_mae', False, 'table1_cd_teacher'),
    'table1_d_transfer': ('l_mae', True, 'table1_cd_teacher'),
    'table1_e_imitation': ('l_mae', True, None),
    'mae_visible': ('l_mae', True, None),
    'table1_f_vid_gaussian': ('l_vid', True, None),
    'table1_g_vid_laplace': ('l_vid', True, None),
    'transfer_only': (None, True, None),
    'released_vid_laplace': ('l_vid', True, None),
    'released_vid_gaussian': ('l_vid', True, None),
}
TEACHERS = ('table1_b_teacher', 'table1_cd_teacher')


@pytest.mark.parametrize('row', ROWS)
def test_the_rows_of_table_1(row):
    opt, (loss, transfer, stage1) = load(f'ablations/pisr/{row}'), ROWS[row]
    block = opt['distillation']
    losses = {name: one for name, one in (block['losses'] or {}).items() if one}
    assert list(losses) == [loss] * (loss is not None)
    if loss == 'l_mae':
        weight = 1.0 if row == 'mae_visible' else 1e-6
        assert losses[loss] == {'type': 'FitNetLoss', 'regressor': 'none', 'norm': 'l1', 'loss_weight': weight}
    elif loss:
        form = 'official' if row.startswith('released') else 'paper'
        pdf = 'gaussian' if 'gaussian' in row else 'laplace'
        assert (losses[loss]['pdf'], losses[loss]['form'], losses[loss]['loss_weight']) == (pdf, form, 1e-6)
    assert bool(block['init_from']) == transfer
    assert ((block['features'] or {}).get('last', {}).get('shrink') == 'average') == (row == 'table1_b_no_hourglass')
    teacher = load(f'ablations/pisr/{stage1}' if stage1 else 'pisr_teacher_fsrcnn_x2')
    (mine,) = block['teachers']
    assert mine['network'] == teacher['network_g']
    assert (mine['path'], mine['input']) == (f'experiments/{teacher["name"]}/models/net_g_latest.pth', 'gt')


def test_the_teachers_of_table_1():
    assert {v.split('/')[-1] for v in VARIANTS} == {*ROWS, *TEACHERS, 'table1_a_baseline'}
    flat, plain = (load(f'ablations/pisr/{name}') for name in TEACHERS)
    assert parameters(flat['network_g']) == 12_644
    assert parameters(plain['network_g']) == 98_728
    assert flat['train']['imitation_opt'] is plain['train']['imitation_opt'] is None


@pytest.mark.parametrize('name', [*FILES, *VARIANTS])
def test_each_file_takes_a_step_and_validates(name, workspace):
    opt = shrunk(load(name), workspace)
    model = build_model(opt)
    size = opt['datasets']['train']['gt_size']
    rgb = torch.rand(2, 3, size, size)
    before = {k: v.clone() for k, v in model.net_g.state_dict().items()}
    model.feed_data({'lq': rgb[..., :: opt['scale'], :: opt['scale']], 'gt': rgb})
    model.optimize_parameters(1)
    assert all(math.isfinite(term) for term in model.get_current_log().values())
    moved = {k.split('.')[0] for k, v in model.net_g.state_dict().items() if not torch.equal(v, before[k])}
    assert moved == {k.split('.')[0] for k, p in model.net_g.named_parameters() if p.requires_grad}
    model.feed_data({'lq': rgb[:1, :, :5, :7], 'gt': rgb[:1, :, : 5 * opt['scale'], : 7 * opt['scale']]})
    model.test()
    assert model.output.shape == model.gt.shape


@pytest.mark.parametrize('name', TESTED[:3])
def test_test_files_test(name, workspace):
    opt = load(name)
    dataset = workspace.images(count=1, size=16 * opt['scale'], scale=opt['scale'])
    opt['datasets'] = {phase: {**dataset, 'name': own['name']} for phase, own in opt['datasets'].items()}
    opt['network_g'] = shrink(opt['network_g'])
    opt['path']['pretrain_network_g'] = workspace.weights(opt['network_g'], 'student')
    results = workspace.test({**opt, 'num_gpu': 0})
    for dataset in opt['datasets'].values():
        assert (results / 'visualization' / dataset['name'] / f'000_{opt["name"]}.png').exists()
