"""The option files of LSFD, FACD, and what they and MTKD compare with: complete, as published, and stepped, shrunk."""

import copy
import functools
import json
import re
from pathlib import Path

import pytest
import torch
from basicsr.data.paired_image_dataset import PairedImageDataset
from basicsr.models import build_model
from basicsr.models.lr_scheduler import MultiStepRestartLR

from kdsr import options
from kdsr.authoring.tap_listing import build_candidate, explore
from kdsr.distillation import teacher
from kdsr.distillation.building import build_network_at

FOLDER = Path(__file__).parents[1] / 'options'
SCALES = (2, 3, 4)
HEADLINES = [f'lsfd_{n}_x{s}' for n in ('rcan', 'edsr', 'san') for s in SCALES]
HEADLINES += [f'facd_{n}_x{s}' for n in ('rcan', 'edsr') for s in SCALES]
FOLDERS = ('comparisons/lsfd', 'comparisons/facd', 'comparisons/mtkd', 'ablations/lsfd', 'ablations/facd')
NAMES = HEADLINES + [
    f'{f}/{p.stem}' for f in FOLDERS for p in sorted((FOLDER / f).glob('*.yml')) if 'dukd' not in p.stem
]
PAPERS = {
    paper: [n for n in NAMES if f'/{paper}/' in n or n.startswith(f'{paper}_')] for paper in ('lsfd', 'facd', 'mtkd')
}

# Every row of the papers' tables: the table's name of a method, the file, networks and scales.
ROWS = [
    *[('LSFD', 'lsfd_{}', ('rcan', 'edsr', 'san'), SCALES), ('FACD', 'facd_{}', ('rcan', 'edsr'), SCALES)],
    ('Student', 'comparisons/lsfd/student_{}', ('rcan', 'edsr', 'san'), SCALES),
    ('Student', 'comparisons/lsfd/student_as_published_{}', ('rcan',), SCALES),
    ('FAKD', 'comparisons/lsfd/fakd_as_published_{}', ('rcan',), SCALES),
    ('FAKD*', 'comparisons/lsfd/fakd_{}', ('rcan', 'edsr', 'san'), SCALES),
    ('FitNet', 'comparisons/lsfd/fitnet_{}', ('rcan',), SCALES),
    ('LFD', 'comparisons/lsfd/lfd_{}', ('rcan', 'edsr'), SCALES),
    ('FAKD + FFT', 'comparisons/lsfd/fakd_fft_{}', ('rcan', 'edsr'), SCALES),
    ('LSFD + FFT', 'comparisons/lsfd/lsfd_fft_{}', ('rcan', 'edsr'), (4,)),
    ('Student', 'comparisons/facd/student_{}', ('rcan', 'edsr'), SCALES),
    ('FAKD**', 'comparisons/facd/fakd_{}', ('rcan', 'edsr'), SCALES),
    ('LFD*', 'comparisons/facd/lfd_{}', ('rcan', 'edsr'), SCALES),
    ('FCD', 'ablations/facd/fcd_{}', ('rcan', 'edsr'), SCALES),
    *[(m.upper(), f'comparisons/mtkd/{m}_{{}}', ('swinir', 'rcan', 'edsr'), SCALES) for m in ('kd', 'at', 'fakd')],
]
FILES_OF_ROWS = {
    f'{f.format(n)}_x{s}': (method, n, s) for method, f, networks, scales in ROWS for n in networks for s in scales
}
# What each ablation says beside what it varies.
ABLATIONS = {
    'ablations/lsfd/fakd_selective': {'selective': 'normalised'},
    'ablations/lsfd/feature_norm_none': {'feature_norm': 'none'},
    'ablations/lsfd/feature_norm_channel': {'feature_norm': 'l2_channel'},
    'ablations/lsfd/feature_norm_spatial': {'feature_norm': 'l2_spatial'},
    'ablations/lsfd/alpha1_inside': {'alpha1': 2000, 'alpha1_inside_D': True},
    'ablations/lsfd/attached_map': {'detach_attention': False},
    'ablations/lsfd/regressor_1x1': {'kernel_size': 1},
    'ablations/lsfd/regressor_act_last': {'act_last': True},
    'ablations/lsfd/before_skip': {},
    **{
        f'ablations/lsfd/fitnet_as_lfd_rcan_x{s}': {
            'kernel_size': 1,
            'num_layers': 1,
            'act': 'relu',
            'act_last': True,
        }
        for s in SCALES
    },
    'ablations/lsfd/fft_real_imag': {'complex': 'real_imag'},
    'ablations/facd/table5_iacd': {'domain': 'image'},
    'ablations/facd/table6_infonce': {'adaptive': False, 'similarity': 'infonce', 'tau': 0.1},
    'ablations/facd/table6_infonce_dot': {'adaptive': False, 'similarity': 'infonce_dot', 'tau': 0.1},
    'ablations/facd/table7_gt_teacher': {'adaptive': False, 'use_contrast': False},
    'ablations/facd/table7_gt_contrast': {'adaptive': False, 'use_teacher_l1': False},
    'ablations/facd/table7_teacher_contrast': {'adaptive': False, 'use_gt_l1': False},
    'ablations/facd/table9_faa': {'adaptive': False, 'layer_weights': [0.33, 0.33, 0.33]},
    'ablations/facd/table9_fal': {'adaptive': False, 'layer_weights': [0.2, 0.3, 0.5]},
    **{
        f'ablations/facd/negatives_{mode}': {'negatives': mode}
        for mode in ('global_pairs_reversed', 'global_pairs_sym', 'all_ordered', 'per_anchor')
    },
    'ablations/facd/regressor_act_last': {'act_last': True},
    **{f'ablations/facd/before_skip_{n}_x{s}': {} for n in ('edsr', 'rcan') for s in SCALES},
    'ablations/facd/halved_once': {},
}


@functools.cache
def _loaded(name):
    return json.dumps(options.load_experiment(str(FOLDER / f'{name}.yml')))


def load(name):
    return json.loads(_loaded(name))


def losses(name):
    """The losses that are on, by name."""
    found = load(name).get('distillation', {}).get('losses', {})
    return {key: loss for key, loss in found.items() if loss is not None}


def test_every_row_and_every_ablation_has_its_file():
    assert sorted(NAMES) == sorted([*FILES_OF_ROWS, *ABLATIONS])
    texts = [p.read_text() for p in FOLDER.rglob('*.yml') if p.parent.name not in ('test', 'tables')]
    experiments = [re.search('^name: (.*)$', text, flags=re.MULTILINE)[1] for text in texts]
    assert len(set(experiments)) == len(experiments)


def test_the_map_of_the_folder_names_every_file_and_none_that_is_not_there():
    named = set()
    for word in re.findall('`([a-z][^` ]*)`', (FOLDER / 'README.md').read_text()):
        if '<' in word or word.endswith('/') or '_' not in word:
            continue
        files = [p for pattern in expanded(word.removesuffix('.yml')) for p in FOLDER.glob(f'{pattern}.yml')]
        assert files, word
        named |= {p.relative_to(FOLDER).with_suffix('').as_posix() for p in files}
    assert set(NAMES) <= named


def expanded(pattern):
    """'{a,b}_*' to 'a_*' and 'b_*'."""
    choice = re.search('{(.*)}', pattern)
    return [pattern.replace(choice[0], word) for word in choice[1].split(',')] if choice else [pattern]


@pytest.mark.parametrize('name', FILES_OF_ROWS)
def test_a_rows_file_is_about_its_networks_and_scale(name):
    _, kind, scale = FILES_OF_ROWS[name]
    opt = load(name)
    published = load(f'mtkd_{kind}_x{scale}' if kind != 'san' else f'lsfd_san_x{scale}')
    teachers = {t['name']: t for t in published['distillation']['teachers']}
    assert opt['scale'] == scale
    assert opt['network_g'] == published['network_g']
    if 'distillation' in opt:
        assert opt['distillation']['teachers'] == [teachers[kind]]
    val = opt['datasets']['val']
    folders = ('GTmod12', f'LRbicx{scale}') if 'mtkd' in name else ('HR', f'LR_bicubic/X{scale}')
    assert (val['dataroot_gt'], val['dataroot_lq']) == tuple(f'datasets/Set5/{folder}' for folder in folders)
    assert val.get('filename_tmpl', '{}') == ('{}' if 'mtkd' in name else f'{{}}x{scale}')
    assert f'_X{scale}_' in opt['datasets']['train']['dataroot_lq']
    assert all(m['crop_border'] == scale and m['test_y_channel'] for m in opt['val']['metrics'].values())


@pytest.mark.parametrize('scale', SCALES)
def test_san_has_the_published_size(scale):
    opt = load(f'lsfd_san_x{scale}')
    with torch.device('meta'):
        networks = [build_network_at('', n) for n in (opt['network_g'], opt['distillation']['teachers'][0]['network'])]
    expected = {2: (4_847_834, 15_712_800), 3: (5_032_474, 15_897_440), 4: (4_995_546, 15_860_512)}[scale]
    assert tuple(sum(p.numel() for p in n.parameters()) for n in networks) == expected
    tested = load(f'test/san_x{scale}')
    assert tested['val']['quadrants'] == (['Set5', 'Set14', 'Urban100'] if scale == 2 else ['Urban100'])


# The settings.


SCHEDULES = {  # learning rate at an iteration: the first, around the steps, the last
    'as_published': {1: 1e-4, 150_000: 1e-4, 150_001: 5e-5, 200_000: 5e-5},
    'lsfd': {1: 1e-4, 150_000: 1e-4, 150_001: 5e-5, 300_000: 5e-5},
    'facd': {
        1: 2e-4, 150_000: 2e-4, 150_001: 1e-4, 300_000: 1e-4, 300_001: 5e-5, 450_000: 5e-5, 450_001: 2.5e-5,
        600_000: 2.5e-5,
    },
    'halved_once': {1: 2e-4, 150_000: 2e-4, 150_001: 1e-4, 600_000: 1e-4},
    'mtkd': {1: 1e-4, 100_000: 1e-4, 100_001: 1e-5, 200_000: 1e-5, 200_001: 1e-6, 250_000: 1e-6},
}  # fmt: skip
OTHER_SETTINGS = {  # iterations, Adam's betas, all flips and rotations, low-resolution patch, decay of the average
    'as_published': (200_000, [0.9, 0.999], True, 48, 0),
    'lsfd': (300_000, [0.9, 0.99], False, 48, 0),
    'facd': (600_000, [0.9, 0.999], True, 48, 0),
    'halved_once': (600_000, [0.9, 0.999], True, 48, 0),
    'mtkd': (250_000, [0.9, 0.999], True, 64, 0.999),
}


def settings_of(name):
    special = [key for key in ('as_published', 'halved_once') if key in name]
    return special[0] if special else next(key for key, names in PAPERS.items() if name in names)


def rate_at(train, iteration):
    """The learning rate that BasicSR's scheduler gives, asked at the milestones only."""
    optimizer = torch.optim.Adam([torch.zeros(1, requires_grad=True)], lr=train['optim_g']['lr'])
    schedule = {key: value for key, value in train['scheduler'].items() if key != 'type'}
    scheduler = MultiStepRestartLR(optimizer, **schedule)
    optimizer.step()  # or torch warns
    for milestone in schedule['milestones']:
        if milestone < iteration:  # the first iteration makes no step
            scheduler.last_epoch = milestone - 1
            scheduler.step()
    return optimizer.param_groups[0]['lr']


@pytest.mark.parametrize('name', NAMES)
def test_the_settings_are_the_papers(name):
    opt = load(name)
    train, data = opt['train'], opt['datasets']['train']
    found = train['total_iter'], train['optim_g']['betas'], data['use_rot'], data['gt_size'] // opt['scale']
    assert (*found, train['ema_decay']) == OTHER_SETTINGS[settings_of(name)]
    assert (train['optim_g']['type'], train['scheduler']['type']) == ('Adam', 'MultiStepLR')
    assert (data['batch_size_per_gpu'], data['use_hflip']) == (16, True)
    schedule = SCHEDULES[settings_of(name)]
    assert {i: rate_at(train, i) for i in schedule} == pytest.approx(schedule)
    assert max(schedule) == train['total_iter']


@pytest.mark.parametrize(
    ('name', 'variants'), [('lsfd_rcan_x2', 2), ('facd_rcan_x2', 8), ('comparisons/mtkd/kd_rcan_x2', 8)]
)
def test_augmentations_of_an_asymmetric_patch(name, variants, workspace):
    """LSFD flips horizontally and does nothing else."""
    images = {**workspace.images(count=1, size=16), 'gt_size': 16, 'scale': 2, 'phase': 'train'}

    def patch(**changes):
        opt = {**load(name)['datasets']['train'], **copy.deepcopy(images), **changes}
        return PairedImageDataset(opt)[0]['lq']

    original = patch(use_hflip=False, use_rot=False)
    seen = {tuple(patch().flatten().tolist()) for _ in range(100)}
    assert len(seen) == variants
    assert {tuple(x.flatten().tolist()) for x in (original, original.flip(2))} <= seen


@pytest.mark.parametrize('name', NAMES)
def test_the_published_weights_stand_as_printed(name):
    opt, found = load(name), losses(name)
    image = opt['train'].get('pixel_opt', {}).get('loss_weight')
    method = name.split('/')[-1].split('_')[0]
    if method == 'fcd':
        facd = losses(name.replace('ablations/facd/fcd', 'facd'))
        assert found == {'l_facd': {**facd['l_facd'], 'adaptive': False}}
    if opt['model_type'] == 'SRModel':
        assert (image, found) == (1.0, {})
    elif 'l_facd' in found:  # it holds the image loss
        assert image is None
        assert list(found) == ['l_facd']
        assert (found['l_facd']['contrast_weight'], found['l_facd']['num_layers']) == (4, 5)
        assert found['l_facd']['kernel_size'] == 1
    elif method == 'at':
        assert (image, list(found), found['l_at']['loss_weight']) == (1.0, ['l_at'], 1000)
    else:
        assert (image, found['l_kd']) == (0.5, {'type': 'ResponseLoss', 'norm': 'l1', 'loss_weight': 0.5})
    for key, loss in found.items():
        expected = {'l_kd': 0.5, 'l_fakd': 10, 'l_at': 1000}.get(key, 1)
        assert loss['loss_weight'] == expected
        if key != 'l_kd':
            assert loss['loss_range'] == 1
    if 'l_lsfd' in found:
        assert found['l_lsfd']['alpha2'] == 10
    if 'l_lfd' in found:
        assert (found['l_lfd']['alpha1'], found['l_lfd']['selective']) == (2000, False)
    assert ('l_fft' in found) == ('fft' in name)


@pytest.mark.parametrize(('name', 'said'), ABLATIONS.items())
def test_an_ablation_differs_in_what_it_says_and_in_nothing_else(name, said):
    paper, opt = name.split('/')[1], load(name)
    network = 'rcan_x4' if paper == 'lsfd' else f'edsr_x{4 if "table7" in name else 2}'
    named = re.search(r'(rcan|edsr)_x\d$', name)
    network = named[0] if named else network
    origin = {'fakd_selective': 'comparisons/lsfd/fakd_rcan_x4', 'fft_real_imag': 'comparisons/lsfd/lsfd_fft_rcan_x4'}
    origin |= {f'fitnet_as_lfd_rcan_x{s}': f'comparisons/lsfd/lfd_rcan_x{s}' for s in SCALES}
    plain = load(origin.get(name.split('/')[-1], f'{paper}_{network}'))
    if said:
        blocks = opt['distillation']['losses'], plain['distillation']['losses']
        key = next(k for k, loss in blocks[0].items() if loss != blocks[1][k])
        assert blocks[0].pop(key) == {**blocks[1].pop(key), **said}
    elif 'before_skip' in name:
        late = [o['distillation']['features'].pop('late') for o in (opt, plain)]
        assert late[0] == dict.fromkeys(('student', 'teacher'), 'conv_after_body')
        assert late[1] == dict.fromkeys(('student', 'teacher'), 'upsample:input')
    else:
        assert opt['train']['scheduler'].pop('milestones') == plain['train']['scheduler'].pop('milestones')[:1]
    assert opt.pop('name') != plain.pop('name')
    assert opt == plain


# The networks, shrunk.


def shrink(network):
    """The same blocks, with few channels and layers."""
    count = len(network.get('depths', ()))
    small = {
        'EDSR': {'num_feat': 4},
        'RCAN': {'num_feat': 4, 'num_block': 1, 'squeeze_factor': 2},
        'SAN': {'num_feat': 8, 'num_block': 1, 'squeeze_factor': 4},
        'SwinIR': {'img_size': 8, 'embed_dim': 4, 'depths': [1] * count, 'num_heads': [2] * count, 'mlp_ratio': 1},
    }
    return {**network, **small[network['type']]}


def shorten(network, paths):
    """The shrunk network, without the blocks behind the last that is tapped."""
    key = {'EDSR': 'num_block', 'RCAN': 'num_group', 'SAN': 'num_group', 'SwinIR': 'depths'}[network['type']]
    short = shrink(network)
    blocks = [int(path.split('.')[1]) + 1 for path in paths if path.startswith(('body.', 'layers.'))]
    count = max(blocks, default=1)
    short.update({'depths': [1] * count, 'num_heads': [2] * count} if key == 'depths' else {key: count})
    return short


def points(network):
    """The papers' points, as `kdsr taps` shows them; they are the same at every scale."""
    return _points(json.dumps({**shrink(network), 'upscale': 2}))


@functools.cache
def _points(network):
    return explore(build_candidate('network', 'network', json.loads(network))).points


@pytest.mark.parametrize('name', [n for n in NAMES if 'student' not in n and '/kd_' not in n])
def test_the_points_are_fakds(name):
    block = load(name)['distillation']
    features = dict(block['features'])
    if 'before_skip' in name:
        features['late'] = dict.fromkeys(('student', 'teacher'), 'upsample:input')
    for who, network in (('student', load(name)['network_g']), ('teacher', block['teachers'][0]['network'])):
        assert {stage: pair[who] for stage, pair in features.items()} == points(network)
    assert list(features) == ['early', 'middle', 'late']  # the order of FACD's layer weights


def shrunk(name):
    opt = load(name)
    block = opt.get('distillation', {'teachers': []})
    points = block.get('features', {}).values()
    opt['network_g'] = shorten(opt['network_g'], [point['student'] for point in points])
    opt['datasets']['train']['gt_size'] = 8 * opt['scale']
    for member in block['teachers']:
        member['network'] = shorten(member['network'], [point['teacher'] for point in points])
    return {**opt, 'num_gpu': 0}


@pytest.mark.parametrize('name', NAMES)
def test_each_file_takes_a_step(name, monkeypatch):
    monkeypatch.setattr(teacher, 'load_weights', lambda *_: {})  # the teachers stay as they were built
    opt = shrunk(name)
    opt.get('distillation', {})['health_check'] = False
    model = build_model({**opt, 'dist': False, 'rank': 0, 'world_size': 1, 'is_train': True})
    generator = torch.Generator().manual_seed(0)
    lq, gt = (torch.rand(2, 3, side, side, generator=generator) for side in (8, 8 * opt['scale']))
    before = [p.clone() for p in model.net_g.parameters()]
    model.feed_data({'lq': lq, 'gt': gt})
    model.optimize_parameters(1)
    log = {k: v for k, v in model.get_current_log().items() if k.startswith('l_')}  # FACD also logs its rejected share
    image = {'l_pix'} if 'pixel_opt' in opt['train'] else set()
    assert set(log) == image | set(losses(name))
    assert all(0 < value < float('inf') for value in log.values())
    assert any(not torch.equal(a, b) for a, b in zip(before, model.net_g.parameters()))


@pytest.mark.parametrize('name', ['lsfd_san_x2', 'facd_rcan_x3', 'comparisons/lsfd/student_edsr_x4'])
def test_a_file_trains_validates_and_saves(name, workspace):
    opt = shrunk(name)
    for member in opt.get('distillation', {}).get('teachers', []):
        member['path'] = workspace.weights(member['network'], 'teacher')
    scale = opt['scale']
    dataset = workspace.images(count=2, size=16 * scale, scale=scale)
    opt['datasets']['train'].update(**dataset, batch_size_per_gpu=2, num_worker_per_gpu=0)
    opt['datasets']['val'] = dataset
    opt['train']['total_iter'] = 1
    opt['logger'].update(print_freq=1, save_checkpoint_freq=1, use_tb_logger=False)
    folder = workspace.train(opt)
    assert (folder / 'models' / 'net_g_latest.pth').exists()
