"""`kdsr distil`: from a BasicSR option file to a distillation experiment that trains."""

import pytest
import torch
import yaml

from kdsr import options
from kdsr.authoring.distil import RECIPES, distil
from kdsr.authoring.other_vocabularies import translate
from kdsr.cli import main
from kdsr.errors import UserError
from tests.conftest import network_opt
from tests.helpers.logs import log_of
from tests.helpers.real_world import model_options


def plain(workspace, **changes):
    """A tiny BasicSR experiment as a file."""
    return workspace.write(workspace.options(**changes), 'mine.yml')


def converted(workspace, name='RCAN'):
    """A checkpoint that says what network it is of, as `kdsr convert` writes it."""
    network = network_opt(name)
    path = workspace.weights(network, f'{name}_own')
    torch.save({**torch.load(path, weights_only=True), 'network': network}, path)
    return path


@pytest.mark.parametrize('method', ['kd', 'fitnet', 'at', 'fakd', 'lsfd', 'facd', 'mtkd'])
def test_every_method_gives_a_file_that_trains(workspace, method, capsys):
    file = plain(workspace)
    main(['distil', file, '--teacher', converted(workspace), '--method', method])
    out = workspace.root / f'mine_{method}.yml'
    told = capsys.readouterr().out
    assert f'Written: {out}' in told
    assert '1 file is fine' in told
    written = yaml.safe_load(out.read_text())
    assert (written['base'], written['name'], written['model_type']) == (
        'mine.yml',
        f'run_{method}',
        'DistillationModel',
    )
    assert not {'datasets', 'network_g', 'val'} & set(written)
    options.check(options.load(str(out)))
    folder = workspace.train(str(out), '--force_yml', 'distillation:health_check=false')
    for loss in RECIPES[method].losses:
        assert f'{loss}: ' in log_of(folder)
    assert ('l_pix: ' in log_of(folder)) == (method != 'facd')


def test_several_teachers_are_fused_in_a_stage_of_their_own(workspace):
    file = plain(workspace)
    told = distil(file, [converted(workspace, 'RCAN'), converted(workspace, 'EDSR')], 'mtkd')
    stage_1, stage_2 = workspace.root / 'mine_mtkd_aggregator.yml', workspace.root / 'mine_mtkd.yml'
    assert told.index(f'kdsr train {stage_1}') < told.index(f'kdsr train {stage_2}')
    one, two = (options.load(str(f)) for f in (stage_1, stage_2))
    assert one['model_type'] == 'AggregationModel'
    assert one['network_g'] == two['distillation']['aggregator']['network']
    assert (one['network_g']['num_teachers'], one['network_g']['upscale']) == (2, 2)
    assert one['distillation']['teachers'] == two['distillation']['teachers']
    assert two['distillation']['aggregator']['path'] == f'experiments/{one["name"]}/models/net_g_latest.pth'
    options.check(one)
    options.check(two)


def test_a_teacher_is_named_by_its_option_file(workspace):
    own = workspace.options(network_g=network_opt('RCAN'), name='big')
    teacher = workspace.write(own, 'big.yml')
    distil(plain(workspace), [teacher, teacher], 'kd')
    first, second = options.load(str(workspace.root / 'mine_kd.yml'))['distillation']['teachers']
    assert first['network'] == network_opt('RCAN')
    assert first['path'] == 'experiments/big/models/net_g_latest.pth'
    assert (first['name'], second['name']) == ('rcan', 'rcan_1')


FOREIGN = """
from basicsr.archs.edsr_arch import EDSR
from basicsr.utils.registry import ARCH_REGISTRY

@ARCH_REGISTRY.register()
class NetworkOfATeacher(EDSR):
    pass
"""


def test_the_teachers_file_says_what_is_imported_and_which_weights_are_read(workspace, monkeypatch):
    """Its `import_modules` and `param_key_g` were dropped: an unknown network, and the wrong weights of two."""
    monkeypatch.syspath_prepend(workspace.root)
    (workspace.root / 'teacher_arch.py').write_text(FOREIGN)
    network = network_opt('EDSR')
    weights = torch.load(workspace.weights(network, 'teacher'), weights_only=True)['params']
    torch.save({'params': {}, 'params_best': weights}, workspace.root / 'teacher.pth')
    path = {'pretrain_network_g': str(workspace.root / 'teacher.pth'), 'param_key_g': 'params_best'}
    options_of_teacher = {
        'name': 'theirs', 'model_type': 'SRModel', 'scale': 2, 'datasets': {}, 'path': path,
        'import_modules': ['teacher_arch'], 'network_g': {**network, 'type': 'NetworkOfATeacher'},
    }  # fmt: skip
    teacher = workspace.write(options_of_teacher, 'teacher.yml')
    distil(plain(workspace), [teacher], 'lsfd')
    written = options.load(str(workspace.root / 'mine_lsfd.yml'))
    assert written['import_modules'] == ['teacher_arch']
    (block,) = written['distillation']['teachers']
    assert (block['path'], block['param_key']) == (path['pretrain_network_g'], 'params_best')
    workspace.train(str(workspace.root / 'mine_lsfd.yml'), '--force_yml', 'distillation:health_check=false')


def test_pisr_starts_from_the_decoder_and_learns_its_features(workspace):
    fsrcnn = {'type': 'FSRCNN', 'upscale': 2}
    network = {'type': 'PISRTeacher', 'upscale': 2, 'decoder': fsrcnn}
    own = workspace.options(model_type='PrivilegedTeacherModel', network_g=network, color='y', name='hourglass')
    file = plain(workspace, network_g=fsrcnn, color='y', model_type='StudentModel')
    distil(file, [workspace.write(own, 'hourglass.yml')], 'pisr')
    block = options.load(str(workspace.root / 'mine_pisr.yml'))['distillation']
    assert block['teachers'][0]['input'] == 'gt'
    assert block['features'] == {'last': {'student': 'expanding', 'teacher': 'decoder.expanding'}}
    assert block['init_from'] == {'teacher': block['teachers'][0]['name'], 'module': 'decoder'}


def foreign(workspace):
    opt = workspace.options()
    opt['network_t'] = network_opt('RCAN')
    opt['path'].update(pretrain_network_t=converted(workspace), param_key_t='params', strict_load_t=True)
    opt['train'].update(
        kd_opt={'type': 'L1Loss', 'loss_weight': 0.3, 'reduction': 'mean'},
        feature_opt={'type': 'FAKDLoss', 'loss_weight': 10},
        feature_distillation={'positions': {'t': ['body.1'], 'g': ['body.0']}, 'type': 'x'},
        kd_warmup_iters=5,
    )
    return opt


def test_a_file_in_other_words_is_translated_and_trains(workspace, capsys):
    file = workspace.write(foreign(workspace), 'theirs.yml')
    main(['distil', file])
    assert 'Look at: train.kd_warmup_iters: left out' in capsys.readouterr().out
    opt = options.load(str(workspace.root / 'theirs_kdsr.yml'))
    assert opt['distillation'] == {
        'teachers': [
            {'name': 'teacher', 'network': network_opt('RCAN'), 'path': converted(workspace), 'param_key': 'params'}
        ],
        'features': {'f0': {'student': 'body.0', 'teacher': 'body.1'}},
        'losses': {
            'l_kd': {'type': 'ResponseLoss', 'norm': 'l1', 'loss_weight': 0.3},
            'l_feature': {'type': 'FAKDLoss', 'loss_range': 1, 'loss_weight': 10},
        },
    }
    assert not {'network_t'} & set(opt)
    assert set(opt['path']) == {'pretrain_network_g', 'strict_load_g', 'resume_state'}
    assert not {'kd_opt', 'feature_opt', 'feature_distillation', 'kd_warmup_iters'} & set(opt['train'])
    folder = workspace.train(str(workspace.root / 'theirs_kdsr.yml'), '--force_yml', 'distillation:health_check=false')
    assert 'l_feature: ' in log_of(folder)


@pytest.mark.parametrize(
    ('network', 'weights', 'name'),
    [
        ('network_teacher', 'pretrain_network_teacher', 'teacher'),
        ('network_g_teacher', 'pretrain_network_g_teacher', 'teacher'),
        ('network_t2', 'pretrain_network_t2', 'teacher2'),
        ('tea1_network_g', 'tea1_path', 'teacher1'),
    ],
)
def test_teachers_by_other_names(network, weights, name):
    opt, _ = translate({network: {'type': 'EDSR'}, 'path': {weights: 'x.pth', 'resume_state': None}, 'train': {}})
    assert opt['distillation']['teachers'] == [{'name': name, 'network': {'type': 'EDSR'}, 'path': 'x.pth'}]
    assert opt['path'] == {'resume_state': None}


def test_a_gan_training_keeps_its_model_and_losses_and_their_balance(workspace):
    opt = model_options(workspace.options(), 'ESRGANModel')
    opt['train'].update(pixel_opt={'type': 'L1Loss', 'loss_weight': 0.01}, perceptual_opt=None)
    file = workspace.write(opt, 'gan.yml')
    report = distil(file, [converted(workspace)])
    assert '1 file is fine' in report
    written = options.load(str(workspace.root / 'gan_kd.yml'))
    assert written['model_type'] == 'ESRGANModel'
    head = (workspace.root / 'gan_kd.yml').read_text(encoding='utf-8').splitlines()[0]
    assert head == '# The losses of gan.yml stay as they are, beside them: l_kd.'
    assert written['train'] == options.load(file)['train']
    assert written['distillation']['losses']['l_kd']['loss_weight'] == 0.01


def test_what_cannot_be_distilled_is_reported(workspace):
    file, teacher = plain(workspace), converted(workspace)
    with pytest.raises(UserError, match='at least one teacher'):
        distil(file, [])
    with pytest.raises(UserError, match=r"not 'lfsd'. Did you mean 'lsfd'"):
        distil(file, [teacher], 'lfsd')
    with pytest.raises(UserError, match='PrivilegedTeacherModel'):
        distil(file, [teacher], 'pisr')
    with pytest.raises(UserError, match='VideoBaseModel` cannot be distilled'):
        distil(workspace.write(workspace.options(model_type='VideoBaseModel'), 'video.yml'), [teacher])
    with pytest.raises(UserError, match='names its teachers itself'):
        distil(workspace.write(foreign(workspace), 'theirs.yml'), [teacher])
    distil(file, [teacher])
    with pytest.raises(UserError, match=r'mine_kd\.yml exists already'):
        distil(file, [teacher])
    torch.save({'params': {'a': torch.zeros(1)}}, workspace.root / 'odd.pth')
    with pytest.raises(UserError, match='Name its option file instead'):
        distil(file, [str(workspace.root / 'odd.pth')])
    assert sorted(p.name for p in workspace.root.glob('mine_*')) == ['mine_kd.yml']


def dukd(workspace, **train):
    """An option file as DUKD's repository has them."""
    opt = workspace.options(network_g=network_opt('EDSR'), model_type='DUKD')
    opt['network_t'] = network_opt('EDSR')
    opt['path']['pretrain_network_t'] = workspace.weights(network_opt('EDSR'), 'edsr_teacher')
    opt['train']['kd_opt'] = {'type': 'L1Loss', 'loss_weight': 1.0, 'reduction': 'mean'}
    opt['train'].update(train)
    opt['val']['self_ensemble'] = True
    return opt


@pytest.mark.parametrize(('noisy', 'consistency'), [({'prob': 0.3}, 0.3), (None, 0.0)])
@pytest.mark.parametrize('zoom_out', [True, False])
def test_dukd_arrives_with_its_views(workspace, noisy, consistency, zoom_out):
    """They were dropped: what trained was plain KD."""
    train = {'dukd_opt': {'n_gt_sub': [2], 'zoom_out': zoom_out}, **({'noisy': noisy} if noisy else {})}
    opt, notes = translate(dukd(workspace, **train))
    views = {'zoom_in': {'type': 'ZoomIn', 'count': 2, 'consistency': consistency}}
    if zoom_out:
        views['zoom_out'] = {'type': 'ZoomOut', 'consistency': 0.0}
    assert opt['distillation']['views'] == views
    assert not {'dukd_opt', 'noisy'} & set(opt['train'])
    assert 'self_ensemble' not in opt['val']
    assert any('one optimiser step' in note for note in notes)
    options.check(opt)


@pytest.mark.parametrize(
    ('kind', 'loss'),
    [
        ('SA', {'type': 'FAKDLoss', 'affinity': 'spatial'}),
        ('CA', {'type': 'FAKDLoss', 'affinity': 'channel'}),
        ('IA', {'type': 'FAKDLoss', 'affinity': 'instance'}),
        ('AT', {'type': 'AttentionTransferLoss', 'mode': 'fakd'}),
    ],
)
def test_fakd_in_dukds_words_stays_fakd_and_its_positions_are_blocks(workspace, kind, loss):
    """SA became FitNet, and block 1 the module '1'."""
    positions = {'positions': ['conv_first', 1, '0', 'conv_after_body'], 'type': kind}
    feature = {'type': 'L1Loss', 'loss_weight': 10.0, 'reduction': 'mean'}
    opt, notes = translate(dukd(workspace, feature_distillation=positions, feature_opt=feature))
    paths = ['conv_first', 'body.1', 'body.0', 'conv_after_body']
    assert [pair['student'] for pair in opt['distillation']['features'].values()] == paths
    assert opt['distillation']['losses']['l_feature'] == {**loss, 'loss_range': 255, 'loss_weight': 10.0}
    assert any('without a gradient' in note for note in notes)


def test_dukds_files_train_as_written(workspace):
    opt = dukd(workspace, dukd_opt={'n_gt_sub': [1], 'zoom_out': True}, noisy={'prob': 0.3})
    workspace.write(opt, 'theirs.yml')
    assert '1 file is fine' in distil('theirs.yml', [])
    folder = workspace.train('theirs_kdsr.yml', '--force_yml', 'distillation:health_check=false')
    assert 'l_kd_zoom_in: ' in log_of(folder)
    assert 'l_pix_zoom_out: ' in log_of(folder)


@pytest.mark.parametrize(
    ('optimiser', 'advised'),
    [({'lr': 2e-4}, True), ({'lr': 1e-3}, False), ({'lr': 2e-4, 'type': 'AdamW'}, True), ({'type': 'SGD'}, False)],
)
def test_a_low_learning_rate_of_a_small_student_is_named(workspace, optimiser, advised):
    opt = workspace.options()
    opt['train']['optim_g'] = {'type': 'Adam', 'lr': 1e-4, **optimiser}
    told = distil(workspace.write(opt, 'mine.yml'), [converted(workspace)])
    text = (workspace.root / 'mine_kd.yml').read_text()
    line = f'train.optim_g.lr: {opt["train"]["optim_g"]["lr"]:g} is low for 6,867 parameters.'
    assert (f'Look at: {line}' in told, f'# {line}' in text) == (advised, advised)
    assert options.load(str(workspace.root / 'mine_kd.yml'))['train']['optim_g'] == opt['train']['optim_g']


def test_a_large_student_keeps_its_learning_rate_without_a_word(workspace, monkeypatch):
    monkeypatch.setattr('kdsr.authoring.student_advice.SMALL', 6866)
    opt = workspace.options()
    opt['train']['optim_g'] = {'type': 'Adam', 'lr': 1e-4}
    assert 'is low for' not in distil(workspace.write(opt, 'mine.yml'), [converted(workspace)])
