"""What is read from option files, against expectations written by hand."""

import pickle
from pathlib import Path

import pytest

from kdsr import options
from kdsr.errors import UserError
from kdsr.experiment import Feature, InitFrom, check_networks, read_experiment
from kdsr.options.model_classes import MODEL_CLASSES
from tests.conftest import network_opt

OPTIONS = Path(__file__).parents[2] / 'options'
FILES = sorted(p for p in OPTIONS.rglob('*.yml') if 'runs' not in options.read_yaml(str(p)))


def shipped(name):
    return read_experiment(options.load_experiment(str(OPTIONS / f'{name}.yml')))


def inputs(experiment):
    """Role, input, channels of the input, and how much larger than LR it is, of every network."""
    return [(n.role, n.name, n.input, n.channels, n.magnified) for n in experiment.networks]


@pytest.mark.parametrize('path', FILES, ids=lambda p: p.relative_to(OPTIONS).as_posix())
def test_every_shipped_file_is_read(path):
    opt = options.load(str(path))
    experiment = read_experiment(opt)
    check_networks(opt, str(path))
    block = opt.get('distillation') or {}
    assert experiment.model is MODEL_CLASSES[opt['model_type']]
    assert (experiment.name, experiment.scale) == (opt['name'], opt['scale'])
    assert experiment.is_train == ('train' in opt['datasets'])
    assert experiment.teacher_names == [teacher['name'] for teacher in block.get('teachers', ())]
    assert (experiment.aggregator is None) == (block.get('aggregator') is None)
    assert len(experiment.networks) == 1 + (opt.get('network_d') is not None) + len(experiment.frozen)
    assert all(feature.source in experiment.teacher_names for feature in experiment.features)
    if experiment.is_train:
        assert experiment.training.crop == opt['datasets']['train']['gt_size']
        assert experiment.training.iterations == opt['train']['total_iter']


def test_a_student_alone():
    experiment = shipped('baseline_swinir_x4')
    assert inputs(experiment) == [('student', 'student', 'lq', 3, 1)]
    assert experiment.trained.window == experiment.trained.multiple == 8
    assert (experiment.luminance, experiment.channels) == (False, 3)
    assert experiment.student is experiment.trained
    assert experiment.frozen == ()
    assert list(experiment.training.image_losses) == ['pixel_opt']


def test_mtkd_stage_1_trains_the_aggregator_on_the_teachers_images():
    experiment = shipped('mtkd_aggregator_x3')
    assert inputs(experiment) == [
        ('aggregator', 'aggregator', 'teacher_images', 9, 3),
        ('teacher', 'swinir', 'lq', 3, 1),
        ('teacher', 'rcan', 'lq', 3, 1),
        ('teacher', 'edsr', 'lq', 3, 1),
    ]
    assert experiment.aggregator is None  # none that is frozen
    assert experiment.student is None
    assert experiment.content == 'teacher_images'


def test_mtkd_stage_2_keeps_the_aggregator_frozen():
    experiment = shipped('mtkd_swinir_x4')
    assert inputs(experiment) == [
        ('student', 'student', 'lq', 3, 1),
        ('teacher', 'swinir', 'lq', 3, 1),
        ('teacher', 'rcan', 'lq', 3, 1),
        ('teacher', 'edsr', 'lq', 3, 1),
        ('aggregator', 'aggregator', 'teacher_images', 9, 4),
    ]
    assert experiment.aggregator is experiment.networks[-1]
    assert experiment.aggregator.where == 'distillation.aggregator.network'
    assert experiment.aggregator.weights == 'experiments/mtkd_aggregator_x4/models/net_g_latest.pth'
    assert list(experiment.losses) == ['l_dwt']
    assert experiment.content == 'image'


def test_pisr_stage_1_trains_a_network_that_is_shown_the_ground_truth():
    experiment = shipped('pisr_teacher_fsrcnn_x3')
    assert inputs(experiment) == [('privileged', 'privileged', 'gt', 1, 3)]
    assert experiment.trained.multiple == 3  # its encoder divides the size by the scale
    assert experiment.luminance
    assert set(experiment.training.image_losses) == {'pixel_opt', 'imitation_opt'}


def test_pisr_stage_2_has_a_privileged_teacher():
    experiment = shipped('pisr_fsrcnn_x2')
    assert inputs(experiment) == [('student', 'student', 'lq', 1, 1), ('teacher', 'pisr', 'gt', 1, 2)]
    assert experiment.features == (Feature('last', 'expanding', 'decoder.expanding', 'pisr'),)
    assert experiment.taps('pisr') == experiment.features
    assert experiment.taps('other') == ()
    assert experiment.init_from == InitFrom('pisr', 'decoder')
    assert experiment.content == 'code'


def test_a_file_of_basicsr():
    experiment = read_experiment(
        {
            'name': 1, 'model_type': 'ESRGANModel', 'scale': 4, 'network_g': network_opt('EDSR', 4),
            'network_d': {'type': 'VGGStyleDiscriminator'},
            'path': {'pretrain_network_g': 'g.pth', 'param_key_g': 'params_ema', 'pretrain_network_d': 'd.pth'},
        }
    )  # fmt: skip
    assert [(n.role, n.weights, n.param_key) for n in experiment.networks] == [
        ('student', 'g.pth', 'params_ema'),
        ('other', 'd.pth', 'params'),
    ]
    assert (experiment.name, experiment.model.objective) == ('1', 'other')


def distilling(**block):
    teacher = {'name': 't', 'network': network_opt('EDSR'), 'path': 't.pth', 'input': 'gt'}
    return {
        'name': 'run', 'model_type': 'DistillationModel', 'scale': 2, 'network_g': network_opt('EDSR'),
        'datasets': {'train': {}}, 'distillation': {'teachers': [teacher], **block},
    }  # fmt: skip


TAPS = {'f': {'student': 'body.0', 'teacher': 'body.1'}}


def test_with_a_cache_a_privileged_teacher_is_shown_codes_and_live_the_ground_truth():
    cached = read_experiment(distilling(features=TAPS, cache='c.raw'))
    assert [teacher.input for teacher in cached.teachers] == ['code']
    assert cached.used_cache.path == 'c.raw'
    live = cached.live()
    assert [teacher.input for teacher in live.teachers] == ['gt']
    assert live.used_cache is None
    assert live.cache.path == 'c.raw'  # where `kdsr cache` writes
    exact = read_experiment(distilling(features=TAPS, cache={'path': 'c.raw', 'exact': True}))
    assert [teacher.input for teacher in exact.teachers] == ['gt']


@pytest.mark.parametrize(
    ('model', 'features', 'is_train', 'built'),
    [
        ('DistillationModel', None, True, ['student']),  # the cache holds what the teacher says
        ('DistillationModel', TAPS, True, ['student', 't']),  # its decoder runs on codes
        ('DistillationModel', None, False, ['student']),  # a finished student stands alone
        ('AggregationModel', None, True, ['aggregator', 't']),  # validation needs the teachers
        ('AggregationModel', None, False, ['aggregator', 't']),
    ],
)
def test_which_networks_a_run_with_a_cache_builds(model, features, is_train, built):
    opt = {**distilling(features=features, cache='c.raw'), 'model_type': model}
    experiment = read_experiment(opt, is_train)
    assert [network.name for network in experiment.networks if experiment.builds(network)] == built


def test_what_a_variant_switches_off_is_left_out():
    block = {'features': {'f': None}, 'losses': {'l_a': None, 'l_b': {'type': 'ResponseLoss'}}, 'views': {'v': None}}
    experiment = read_experiment(distilling(**block))
    assert (experiment.features, list(experiment.losses), dict(experiment.views)) == ((), ['l_b'], {})


@pytest.mark.parametrize(
    ('val', 'in_quadrants', 'round_gt'),
    [
        ({}, (False, False), False),
        ({'quadrants': True, 'round_gt': True}, (True, True), True),
        ({'quadrants': ['Set5']}, (True, False), False),
        ({'quadrants': []}, (False, False), False),
        ({'quadrants': None, 'metrics': 3}, (False, False), False),
    ],
)
def test_how_images_are_validated(val, in_quadrants, round_gt):
    validation = read_experiment({**distilling(), 'val': val}).validation
    assert tuple(map(validation.in_quadrants, ('Set5', 'Set14'))) == in_quadrants
    assert validation.round_gt is round_gt
    assert validation.metrics == {}


@pytest.mark.parametrize(
    'changes',
    [
        {'scale': 'four'}, {'network_g': 5}, {'network_g': None}, {'distillation': []}, {'datasets': 'x'}, {'train': 3},
        {'distillation': {'teachers': {'a': 1}}}, {'distillation': {'teachers': [1, {'network': 2}, {}]}},
        {'distillation': {'features': {'f': 'x'}, 'losses': 3, 'views': {'v': 1}, 'cache': {'x': 1}, 'init_from': 1}},
        {'path': 'x', 'import_modules': 'hat'}, {'model_type': ['a']}, {'datasets': {'train': {'gt_size': 'x'}}},
        {'train': {'accumulate': True, 'total_iter': float('inf'), 'ema_decay': 'x', 'clip_grad_norm': {}}},
    ],
)  # fmt: skip
def test_malformed_options_are_read_without_an_error(changes):
    experiment = read_experiment({**distilling(), **changes})
    assert experiment.training.accumulate == 1
    assert len(experiment.networks) <= 2
    assert experiment.imports == ()


def test_networks_that_cannot_be_read_are_refused_by_name():
    opt = distilling()
    opt['distillation']['teachers'].append({'name': 'u'})
    with pytest.raises(UserError, match=r'run\.yml: distillation\.teachers\[1\]\.network: missing'):
        check_networks(opt, 'run.yml')
    with pytest.raises(UserError, match=r'run\.yml: network_g: missing'):
        check_networks({'network_g': 3}, 'run.yml')
    with pytest.raises(UserError, match='run: `network_g` is missing'):
        _ = read_experiment({'name': 'run'}).trained


def test_an_experiment_is_read_once_and_travels_to_other_processes():
    experiment = read_experiment(distilling())
    assert read_experiment(experiment) is experiment
    assert pickle.loads(pickle.dumps(experiment)) == experiment
    with pytest.raises(AttributeError):
        experiment.scale = 3


def test_a_model_class_of_another_package_may_use_the_block():
    experiment = read_experiment({**distilling(), 'model_type': 'MyModel'})
    assert (experiment.model.name, experiment.model.known, experiment.model.teachers) == ('MyModel', False, 'optional')
    assert experiment.trained.role == 'student'
    assert all(experiment.builds(network) for network in experiment.networks)
