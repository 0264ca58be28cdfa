"""Every option file of MTKD and its baselines is read, built at full size, and stepped once, shrunk."""

import re
from pathlib import Path

import pytest

from kdsr import options
from tests.helpers.shipped_networks import TEACHERS, parameters, shrink, shrunk

FOLDER = Path(__file__).parents[1] / 'options'
FILES = sorted(p for p in FOLDER.rglob('*.yml'))
OURS = re.compile(r'(mtkd_aggregator|((mtkd|baseline)_)?(edsr|rcan|swinir))_x\d\.yml')
TRAINED = [p for p in FILES if 'ablations/mtkd' in p.as_posix() or (p.parent == FOLDER and OURS.fullmatch(p.name))]
QUICKSTART = [p for p in FILES if p.parent.name == 'quickstart']
TESTED = [p for p in FILES if p.parent.name == 'test' and re.match('(mtkd_)?(edsr|rcan|swinir|san)_x', p.name)]
RELEASED = ('released_aggregator.yml', 'released_edsr.yml')  # with the settings of the released code
STUDENTS = {
    ('EDSR', 2): 1_369_859, ('EDSR', 3): 1_554_499, ('EDSR', 4): 1_517_571,
    ('RCAN', 2): 5_023_603, ('RCAN', 3): 5_208_243, ('RCAN', 4): 5_171_315,
    ('SwinIR', 2): 910_152, ('SwinIR', 3): 918_267, ('SwinIR', 4): 929_628,
}  # fmt: skip
AGGREGATORS = {(3, 2): 247_043, (3, 3): 441_403, (3, 4): 418_083, (2, 4): 407_715, (1, 4): 397_347}


def ids(path):
    return str(path.relative_to(FOLDER))


def test_the_papers_runs_and_their_ablations_are_all_there():
    names = {ids(p) for p in FILES}
    for scale in (2, 3, 4):
        assert f'mtkd_aggregator_x{scale}.yml' in names
        for student in ('swinir', 'rcan', 'edsr'):
            assert {
                f'mtkd_{student}_x{scale}.yml',
                f'baseline_{student}_x{scale}.yml',
                f'test/mtkd_{student}_x{scale}.yml',
            } <= names
        assert f'test/san_x{scale}.yml' in names
    for version in range(1, 8):
        assert any(n.startswith(f'ablations/mtkd/v{version}_') for n in names)
    assert len(QUICKSTART) == 6
    assert len(TESTED) == 18
    assert {f'ablations/mtkd/{name}' for name in (*RELEASED, 'released_dwt.yml')} <= names


@pytest.mark.parametrize('path', TRAINED, ids=ids)
def test_networks_have_the_published_sizes(path):
    opt = options.load(str(path))
    scale, block = opt['scale'], opt.get('distillation', {})
    aggregators = [block['aggregator']['network']] if 'aggregator' in block else []
    if opt['network_g']['type'] == 'DCTSwin':
        aggregators.append(opt['network_g'])
    else:
        assert parameters(opt['network_g']) == STUDENTS[opt['network_g']['type'], scale]
    for teacher in block.get('teachers', []):
        assert teacher['network']['upscale'] == scale
        assert parameters(teacher['network']) == TEACHERS[teacher['network']['type'], scale]
    for network in aggregators:
        assert network['num_teachers'] == len(block['teachers'])
        if network['embed_dim'] == 96:
            assert parameters(network) == 1_335_603
        elif network.get('block', 'dctswin') == 'mixer':
            assert parameters(network) == pytest.approx(AGGREGATORS[3, scale], rel=0.01)
        else:
            assert parameters(network) == AGGREGATORS[network['num_teachers'], scale]


@pytest.mark.parametrize('path', TRAINED, ids=ids)
def test_the_settings_are_the_papers(path):
    opt = options.load(str(path))
    train, data, released = opt['train'], opt['datasets']['train'], path.name in RELEASED
    assert train['optim_g']['betas'] == [0.9, 0.999]
    assert data['batch_size_per_gpu'] == 16
    assert data['use_hflip']
    assert data['use_rot']
    if not released:
        assert data['gt_size'] == 64 * opt['scale']
        assert (train['optim_g']['lr'], train['total_iter']) == (1e-4, 250_000)
        assert train['scheduler'] == {'type': 'MultiStepLR', 'milestones': [100_000, 200_000], 'gamma': 0.1}
        assert all(m['crop_border'] == opt['scale'] and m['test_y_channel'] for m in opt['val']['metrics'].values())
    expected = 0.1 if opt['model_type'] == 'DistillationModel' else 1.0
    assert train['pixel_opt']['loss_weight'] == expected


@pytest.mark.parametrize('path', TRAINED + QUICKSTART, ids=ids)
def test_each_file_trains_validates_and_saves(path, workspace):
    opt = shrunk(options.load(str(path)), workspace)
    folder = workspace.train(opt)
    assert (folder / 'models' / 'net_g_latest.pth').exists()


@pytest.mark.parametrize('path', TESTED, ids=ids)
def test_each_test_file_tests(path, workspace):
    opt = options.load(str(path))
    dataset = workspace.images(count=1, size=16 * opt['scale'], scale=opt['scale'])
    sets = [test_set['name'] for test_set in opt['datasets'].values()]
    opt['datasets'] = {f'test_{i}': {**dataset, 'name': name} for i, name in enumerate(sets)}
    opt['network_g'] = shrink(opt['network_g'])
    opt['path']['pretrain_network_g'] = workspace.weights(opt['network_g'], 'student')
    results = workspace.test({**opt, 'num_gpu': 0})
    assert all((results / 'visualization' / name / f'000_{opt["name"]}.png').exists() for name in sets)


@pytest.mark.parametrize('path', TESTED, ids=ids)
def test_test_files_match_what_the_training_files_write(path):
    opt = options.load(str(path))
    trained = options.load(str(FOLDER / f'{opt["name"]}.yml'))
    assert opt['network_g'] == trained['network_g']
    assert opt['path']['pretrain_network_g'] == f'experiments/{trained["name"]}/models/net_g_latest.pth'


@pytest.mark.parametrize('path', TRAINED, ids=ids)
def test_stage_two_reads_what_stage_one_writes(path):
    block = options.load(str(path)).get('distillation', {})
    if 'aggregator' not in block:
        return
    stage1 = [options.load(str(p)) for p in TRAINED if 'aggregator' in p.name]
    mine = [o for o in stage1 if f'experiments/{o["name"]}/models/net_g_latest.pth' == block['aggregator']['path']]
    assert len(mine) == 1
    assert mine[0]['network_g'] == block['aggregator']['network']
    assert mine[0]['distillation']['teachers'] == block['teachers']
