"""Rules between the parts of an experiment: found before a run, and refused by the model with the same words."""

import pytest
import torch
from basicsr.models import build_model
from basicsr.utils.registry import MODEL_REGISTRY

from kdsr import options
from kdsr.checks.experiment import find_problems
from kdsr.errors import UserError
from kdsr.experiment import read_experiment, rules
from kdsr.options.model_classes import KDSR_MODELS, MODEL_CLASSES
from tests.conftest import network_opt
from tests.helpers.models import parsed


def with_train(opt, **changes):
    opt['train'].update(changes)
    return opt


def luminance(workspace):
    return parsed(workspace, color='y', network_g=network_opt('EDSR'))


def odd_batch(workspace):
    return with_train(parsed(workspace), accumulate=3)  # of 2 samples


def no_clipping(workspace):
    return with_train(parsed(workspace), clip_grad_norm=0)


def odd_scale(workspace):
    opt = parsed(workspace)
    opt['datasets']['train']['gt_size'] = 33
    return opt


def odd_window(workspace):
    opt = parsed(workspace, network_g=network_opt('SwinIR'))
    opt['datasets']['train']['gt_size'] = 36
    return opt


def tapped_window(workspace):
    taps = {'f': {'student': 'body.0', 'teacher': 'layers.0'}}
    opt = parsed(workspace, teachers=[workspace.teacher('SwinIR')], features=taps)
    opt['datasets']['train']['gt_size'] = 36
    return opt


def nothing_distilled(workspace):
    return parsed(workspace, losses={})


def nothing_minimised(workspace):
    return with_train(parsed(workspace, losses={}), pixel_opt=None)


def two_starts(workspace):
    opt = parsed(workspace)
    opt['distillation']['init_from'] = {'teacher': 'edsr'}
    opt['path']['pretrain_network_g'] = opt['distillation']['teachers'][0]['path']
    return opt


def aggregator(workspace, teachers):
    network = network_opt('DCTSwin')
    return {'network': network, 'path': workspace.weights(network, 'aggregator', teachers=teachers)}


def other_order(workspace):
    teachers = [workspace.teacher('EDSR'), workspace.teacher('RCAN')]
    return parsed(workspace, teachers=teachers, aggregator=aggregator(workspace, ['rcan', 'edsr']))


def other_order_of_stage_one(workspace):
    opt = parsed(workspace, teachers=[workspace.teacher('EDSR'), workspace.teacher('RCAN')])
    network = network_opt('DCTSwin')
    opt.update(model_type='AggregationModel', network_g=network)
    opt['path']['pretrain_network_g'] = workspace.weights(network, 'aggregator', teachers=['rcan', 'edsr'])
    opt['distillation']['losses'] = None
    return opt


def no_encoder(workspace):
    opt = with_train(parsed(workspace), imitation_opt={'type': 'L1Loss'})
    del opt['distillation']
    return {**opt, 'model_type': 'PrivilegedTeacherModel', 'network_g': {**network_opt('EDSR'), 'upscale': 1}}


ORDER = 'was trained for the teachers rcan, edsr, in this order, but `distillation.teachers` are edsr, rcan'
RULES = [
    (luminance, 'network_g.num_in_ch: `color: y` means luminance, one channel: set `num_in_ch: 1`.'),
    (odd_batch, 'train.accumulate: 3 equal parts of a batch of `batch_size_per_gpu: 2` are not possible.'),
    (no_clipping, 'train.clip_grad_norm: must be above 0, is 0; leave it out to not clip.'),
    (odd_scale, 'datasets.train.gt_size: 33 is not a multiple of `scale: 2`; 32 is.'),
    (odd_window, '36 gives LR crops of 18, but the network needs a multiple of its window, 4: for example 40.'),
    (tapped_window, '36 gives LR crops of 18, but teacher swinir, which is tapped, needs a multiple of its window, 4'),
    (nothing_distilled, 'distillation.losses: nothing is distilled. For the baseline: StudentModel.'),
    (nothing_minimised, 'train.pixel_opt: missing: no loss is left, for example'),
    (two_starts, 'distillation.init_from: this and `path.pretrain_network_g` both say how the student starts.'),
    (other_order, ORDER),
    (other_order_of_stage_one, ORDER),
    (no_encoder, 'train.imitation_opt: EDSR has no `encoder` to be compared: leave it out, or train a PISRTeacher.'),
]


@pytest.mark.parametrize(('spoilt', 'words'), RULES, ids=lambda value: getattr(value, '__name__', ''))
def test_a_rule_has_one_sentence(workspace, spoilt, words):
    opt = spoilt(workspace)
    file = options.OptionFile('run.yml', opt, {})
    found = [f'{options.dotted(problem.path)}: {problem.text}' for problem in find_problems(file, files=False)]
    assert [text for text in found if words in text]
    with pytest.raises(UserError) as error:
        build_model(opt)
    assert words in str(error.value)


def test_an_aggregator_for_another_number_of_teachers_is_found(workspace):
    teachers = [workspace.teacher('EDSR')]
    experiment = read_experiment(parsed(workspace, teachers=teachers, aggregator=aggregator(workspace, ['edsr'])))
    (problem,) = rules.find_teacher_count_problems(experiment)
    assert str(problem) == 'distillation.aggregator.network.num_teachers: 2, but there are 1 `distillation.teachers`.'


def test_the_built_teacher_knows_its_window_better_than_its_options(workspace):
    taps = {'f': {'student': 'body.0', 'teacher': 'body.0'}}
    experiment = read_experiment(parsed(workspace, features=taps))
    assert list(rules.find_crop_problems(experiment)) == []
    (problem,) = rules.find_crop_problems(experiment, {'edsr': 3})
    assert 'teacher edsr, which is tapped, needs a multiple of its window, 3: for example 36.' in problem.text


def test_a_privileged_teacher_may_have_any_window(workspace):
    teacher = workspace.teacher('SwinIR', upscale=1, input='gt')
    taps = {'f': {'student': 'body.0', 'teacher': 'layers.0'}}
    opt = parsed(workspace, teachers=[teacher], features=taps)
    opt['datasets']['train']['gt_size'] = 36
    assert list(rules.find_crop_problems(read_experiment(opt))) == []


def test_an_aggregator_that_does_not_say_for_whom_it_was_trained_is_taken_with_a_warning(workspace):
    network = network_opt('DCTSwin')
    block = {'network': network, 'path': workspace.weights(network, 'aggregator')}
    experiment = read_experiment(parsed(workspace, aggregator=block))
    (problem,) = rules.find_teacher_order_problems(experiment)
    assert problem.kind == options.WARNING
    rules.enforce([problem])


def test_the_table_lists_the_model_classes_that_are_registered():
    registered = {name: cls.__module__.split('.')[0] for name, cls in MODEL_REGISTRY}
    assert {name for name, package in registered.items() if package == 'kdsr'} == set(KDSR_MODELS)
    assert set(MODEL_CLASSES) <= {name.replace('_basicsr', '') for name in registered}


def test_the_users_options_are_not_changed_where_distillation_losses_are_all_there_is(workspace):
    opt = parsed(workspace)
    del opt['train']['pixel_opt']
    model = build_model(opt)
    assert 'pixel_opt' not in opt['train']
    assert 'pixel_opt' not in model.opt['train']
    assert model.cri_pix is None
    torch.manual_seed(0)
    model.feed_data({'lq': torch.rand(2, 3, 16, 16), 'gt': torch.rand(2, 3, 32, 32)})
    model.optimize_parameters(1)
    assert set(model.get_current_log()) == {'l_kd'}
