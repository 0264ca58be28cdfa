"""PISR, stage 2: the student starts with the weights of the teacher's decoder, and learns from its features."""

import copy

import pytest
import torch
from basicsr.archs import build_network
from basicsr.models import build_model

from kdsr.errors import UserError

FSRCNN = {'type': 'FSRCNN', 'upscale': 2}
TEACHER = {'type': 'PISRTeacher', 'upscale': 2, 'num_feat': 8, 'num_shrink': 4}
VID = {'l_vid': {'type': 'VIDLoss', 'loss_weight': 1e-6}}
TAPS = {'f': {'student': 'expanding', 'teacher': 'decoder.expanding'}}


def options(workspace, **block):
    opt = workspace.options(model_type='DistillationModel', network_g=FSRCNN, color='y')
    models = workspace.root / 'models'
    models.mkdir(exist_ok=True)
    opt['path'].update(models=str(models), training_states=str(models))
    teacher = {'name': 'pisr', 'network': TEACHER, 'path': workspace.weights(TEACHER, 'pisr', seed=5), 'input': 'gt'}
    init = {'teacher': 'pisr', 'module': 'decoder'}
    block = {'teachers': [teacher], 'features': TAPS, 'losses': VID, 'init_from': init, **block}
    opt['distillation'] = {'health_check': False, **block}
    opt.update(dist=False, rank=0, world_size=1, is_train=True)
    return opt


def built(opt):
    torch.manual_seed(0)
    return build_model(copy.deepcopy(opt))


def decoder(opt):
    stored = torch.load(opt['distillation']['teachers'][0]['path'], weights_only=True)['params']
    return {k[len('decoder.') :]: v for k, v in stored.items() if k.startswith('decoder.')}


def batch(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {'lq': torch.rand(2, 1, 16, 16, generator=generator), 'gt': torch.rand(2, 1, 32, 32, generator=generator)}


def step(model, seed=0):
    model.feed_data(batch(seed))
    model.optimize_parameters(seed + 1)


def weights(module):
    return {k: v.clone() for k, v in module.state_dict().items()}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def test_student_and_ema_start_with_all_tensors_of_the_decoder_and_leave_it_alone(workspace):
    opt = options(workspace)
    model = built(opt)
    expected = decoder(opt)
    assert len(expected) == 23
    assert same(weights(model.net_g), expected)
    assert same(weights(model.net_g_ema), expected)
    step(model)
    assert not same(weights(model.net_g), expected)
    assert same(weights(model.teacher.members[0].network.decoder), expected)


def test_without_it_the_student_is_its_baseline(workspace):
    opt = options(workspace, init_from=None)
    assert same(weights(built(opt).net_g), weights(built({**opt, 'model_type': 'StudentModel'}).net_g))


def test_the_features_are_compared_where_the_paper_says(workspace):
    """The teacher's come from the encoded ground truth, the student's from the low-quality image, both after PReLU."""
    model = built(options(workspace))
    before = weights(model.losses)
    seen = []
    loss = model.losses['l_vid']
    loss.register_forward_hook(lambda module, args, output: seen.append(args[:2]))
    student, teacher = copy.deepcopy(model.net_g), model.teacher.members[0].network
    step(model)
    assert len(before) == 2 * 5
    assert sum(v.numel() for v in before.values()) == 2 * 6_385
    assert all(not torch.equal(v, before[k]) for k, v in model.losses.state_dict().items())
    data = batch()
    with torch.no_grad():
        for network, image, output in ((student, data['lq'], seen[0][0]), (teacher.decoder, None, seen[0][1])):
            x = teacher.encoder(data['gt']) if image is None else image
            for part in (network.feature_extraction, network.shrinking, network.mapping, network.expanding):
                x = part(x)
            torch.testing.assert_close(output.features['f'].detach(), x)


def test_a_resumed_run_keeps_its_own_weights(workspace):
    opt = options(workspace)
    model = built(opt)
    for i in range(2):
        step(model, i)
    model.save(0, 2)
    step(model, 2)
    state = workspace.root / 'models' / '2.state'
    opt['path'].update(
        pretrain_network_g=str(workspace.root / 'models' / 'net_g_2.pth'), param_key_g='params', resume_state=str(state)
    )
    resumed = built(opt)
    resumed.resume_training(torch.load(state, weights_only=True))
    step(resumed, 2)
    for part in ('net_g', 'net_g_ema', 'losses'):
        assert same(weights(getattr(model, part)), weights(getattr(resumed, part))), part


def test_transfer_alone_needs_no_losses_and_runs_no_teacher(workspace):
    opt = options(workspace, losses={'l_vid': None}, features={})
    model = built(opt)
    assert same(weights(model.net_g), decoder(opt))
    model.teacher.members[0].network.register_forward_hook(lambda *args: pytest.fail('the teacher ran'))
    step(model)
    assert set(model.get_current_log()) == {'l_pix'}
    del opt['train']['pixel_opt']
    with pytest.raises(UserError, match='no loss is left'):
        built(opt)


@pytest.mark.parametrize(
    ('how', 'expected'), [('average', [[2.5, 4.5], [10.5, 12.5]]), ('subsample', [[0, 2], [8, 10]])]
)
def test_features_of_a_teacher_without_hourglass_are_brought_to_the_students_size(workspace, how, expected):
    network = {'type': 'FSRCNN', 'upscale': 1}
    teacher = {'name': 'pisr', 'network': network, 'path': workspace.weights(network, 'b'), 'input': 'gt'}
    taps = {'f': {'student': 'expanding', 'teacher': 'expanding', 'shrink': how}}
    losses = {'l_mae': {'type': 'FitNetLoss', 'regressor': 'none'}}
    model = built(options(workspace, teachers=[teacher], features=taps, losses=losses, init_from=None))
    step(model)
    assert model.get_current_log()['l_mae'] > 0
    ramp = torch.arange(16.0).view(1, 1, 4, 4)
    assert model.teacher.members[0].changes['f'](ramp)[0, 0].tolist() == expected
    del taps['f']['shrink']
    opt = options(workspace, teachers=[teacher], features=taps, losses=losses, init_from=None)
    with pytest.raises(UserError, match=r'FitNetLoss needs maps.*\(2, 56, 16, 16\).*\(2, 56, 32, 32\)'):
        built(opt)


@pytest.mark.parametrize(('block', 'words'), [
    ({'init_from': {'teacher': 'pisa', 'module': 'decoder'}}, "no 'pisa'.*'pisr'"),
    ({'init_from': {'module': 'decoder'}}, 'init_from.teacher: missing'),
    ({'init_from': {'teacher': 'pisr', 'modul': 'decoder'}}, "init_from.modul: unknown key.*'module'"),
    ({'init_from': {'teacher': 'pisr', 'module': 'decode'}}, "init_from.module: .* has no module 'decode'.*'decoder'"),
    ({'init_from': {'teacher': 'pisr', 'module': 'encoder'}}, "0 of its 23 tensors match encoder of teacher 'pisr'"),
    ({'init_from': {'teacher': 'pisr'}}, "0 of its 23 tensors match the network of teacher 'pisr'"),
    ({'features': {'f': {**TAPS['f'], 'shrink': 'mean'}}}, 'shrink: must be one of average, subsample'),
])  # fmt: skip
def test_mistakes_are_told(workspace, block, words):
    with pytest.raises(UserError, match=words):
        built(options(workspace, **block))


def test_two_beginnings_are_one_too_many(workspace):
    opt = options(workspace)
    opt['path']['pretrain_network_g'] = workspace.weights(FSRCNN, 'other')
    with pytest.raises(UserError, match='both say how the student starts'):
        built(opt)


def test_both_stages_run_one_after_the_other(workspace):
    """Through BasicSR's pipeline; with a learning rate of 0 the student ends as the decoder that stage 1 trained."""
    first = workspace.options(
        name='stage1', model_type='PrivilegedTeacherModel', network_g=TEACHER, color='y', iterations=1
    )
    first['train']['imitation_opt'] = {'type': 'L1Loss', 'loss_weight': 1e-4}
    first['train']['ema_decay'] = 0
    teacher = workspace.train(first) / 'models' / 'net_g_latest.pth'
    second = workspace.options(name='stage2', model_type='DistillationModel', network_g=FSRCNN, color='y', iterations=1)
    second['train']['optim_g']['lr'] = 0.0
    second['distillation'] = {
        'teachers': [{'name': 'pisr', 'network': TEACHER, 'path': str(teacher), 'input': 'gt'}],
        'features': TAPS,
        'losses': VID,
        'init_from': {'teacher': 'pisr', 'module': 'decoder'},
    }
    student = torch.load(workspace.train(second) / 'models' / 'net_g_latest.pth', weights_only=True)
    trained = torch.load(teacher, weights_only=True)['params']
    fresh = build_network(TEACHER).state_dict()
    for key, tensor in student['params'].items():
        assert torch.equal(tensor, trained[f'decoder.{key}'])
        torch.testing.assert_close(student['params_ema'][key], tensor)
    assert not torch.equal(trained['decoder.expanding.0.weight'], fresh['decoder.expanding.0.weight'])
