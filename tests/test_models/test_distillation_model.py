from types import SimpleNamespace

import pytest
import torch
from basicsr.utils.registry import ARCH_REGISTRY, LOSS_REGISTRY

from kdsr.distillation.distillation_loss import DistillationLoss
from kdsr.distillation.outputs import Batch
from kdsr.distillation.teacher import build_teachers
from kdsr.errors import UserError
from tests.conftest import network_opt
from tests.helpers.models import FITNET, RESPONSE, TAPS, batch, built, model_batch, parsed, same, step, weights


def test_teachers_are_bit_identical_after_training_and_hold_no_gradient(workspace):
    model = built(parsed(workspace, losses={**RESPONSE, **FITNET}, features=TAPS))
    before = weights(model.teacher)
    for i in range(3):
        step(model, iteration=i + 1)
    assert same(before, weights(model.teacher))
    assert all(p.grad is None for p in model.teacher.parameters())
    assert not any(m.training for m in model.teacher.modules())
    optimised = {id(p) for group in model.optimizer_g.param_groups for p in group['params']}
    assert not optimised & {id(p) for p in model.teacher.parameters()}


@pytest.mark.parametrize('losses', [RESPONSE, FITNET], ids=['image', 'feature'])
def test_each_term_alone_moves_the_student_and_its_helpers(workspace, losses):
    opt = parsed(workspace, losses=losses, features=TAPS)
    del opt['train']['pixel_opt']
    model = built(opt)
    student, helpers = weights(model.net_g), weights(model.losses)
    step(model)
    assert model.cri_pix is None
    assert set(model.get_current_log()) == set(losses)
    assert not same(student, weights(model.net_g))
    assert (not helpers) or all(not torch.equal(v, helpers[k]) for k, v in model.losses.state_dict().items())


def test_the_total_is_the_sum_of_the_logged_terms(workspace):
    model = built(parsed(workspace, losses={**RESPONSE, **FITNET}, features=TAPS))
    model.feed_data(batch())
    start, helpers = weights(model.net_g), weights(model.losses)
    model.optimize_parameters(1)
    log = model.get_current_log()
    stepped = [p.grad.clone() for p in model.net_g.parameters()]
    model.net_g.load_state_dict(start)
    output, target = model.net_g(model.lq), model.teacher.images(model_batch(model))
    terms = {'l_pix': (output - model.gt).abs().mean(), 'l_kd': (output - target).abs().mean()}
    terms['l_fit'] = fitnet_by_hand(model, helpers)
    assert log == pytest.approx({name: term.item() for name, term in terms.items()}, rel=1e-5)
    total = torch.autograd.grad(sum(terms.values()), list(model.net_g.parameters()))
    for name, expected, actual in zip(start, total, stepped):
        torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-7, msg=lambda m, name=name: f'{name}: {m}')


def fitnet_by_hand(model, helpers):
    """0.1 * sum_f mean |relu(conv1x1(student)) - teacher| of `TAPS`, by plain passes through both EDSRs."""
    student, teacher = model.net_g, model.teacher.members[0].network
    total = 0
    for name, blocks in (('early', (1, 2)), ('trunk', (3, 3))):
        features = []
        for network, count in zip((student, teacher), blocks):
            x = network.conv_first((model.lq - network.mean) * network.img_range)
            x = network.body[:count](x)
            features.append(network.conv_after_body(x) if name == 'trunk' else x)
        weight, bias = (helpers[f'l_fit.regressors.of_{name}.0.{kind}'] for kind in ('weight', 'bias'))
        regressed = torch.nn.functional.conv2d(features[0], weight, bias).relu()
        total = total + 0.1 * (regressed - features[1].detach()).abs().mean()
    return total


def test_with_weight_zero_the_student_is_bit_identical_to_its_baseline(workspace):
    """Building teachers and helpers must not move the student's random stream (initialisation, stochastic depth)."""
    zero = {'l_kd': {'type': 'ResponseLoss', 'loss_weight': 0.0}, 'l_fit': {'type': 'FitNetLoss', 'loss_weight': 0.0}}
    taps = {'f': {'student': 'layers.0', 'teacher': 'body.0'}}
    opt = parsed(workspace, network_g=network_opt('SwinIR'), losses=zero, features=taps)
    distilled = built(opt)
    plain = built({**opt, 'model_type': 'SRModel'})
    assert same(weights(distilled.net_g), weights(plain.net_g))
    for model in (distilled, plain):
        torch.manual_seed(3)
        for i in range(2):
            step(model, batch(i), i + 1)
    assert same(weights(distilled.net_g), weights(plain.net_g))
    assert same(weights(distilled.net_g_ema), weights(plain.net_g_ema))


def test_checkpoints_hold_the_bare_student_and_helpers_stand_apart(workspace):
    opt = parsed(workspace, losses=FITNET, features=TAPS)
    model = built(opt)
    step(model)
    model.save(0, 1)
    saved = torch.load(workspace.root / 'models' / 'net_g_1.pth', weights_only=True)
    assert set(saved) == {'params', 'params_ema'}
    assert same(saved['params'], weights(model.net_g))
    plain = built({**opt, 'model_type': 'SRModel'})
    plain.load_network(plain.net_g, str(workspace.root / 'models' / 'net_g_1.pth'))  # BasicSR's own loader, strict
    helpers = torch.load(workspace.root / 'models' / 'net_distill_1.pth', weights_only=True)['params']
    assert same(helpers, weights(model.losses))
    assert helpers


def test_without_helpers_there_is_no_helper_file(workspace):
    model = built(parsed(workspace))
    model.save(0, 1)
    assert not (workspace.root / 'models' / 'net_distill_1.pth').exists()


def test_resume_continues_student_ema_helpers_and_optimiser_bit_for_bit(workspace):
    opt = parsed(workspace, losses={**RESPONSE, **FITNET}, features=TAPS)
    model = built(opt)
    for i in range(2):
        step(model, batch(i), i + 1)
    model.save(0, 2)
    step(model, batch(2), 3)

    opt['path'].update(pretrain_network_g=str(workspace.root / 'models' / 'net_g_2.pth'), param_key_g='params')
    resumed = built(opt)
    resumed.resume_training(torch.load(workspace.root / 'models' / '2.state', weights_only=True))
    step(resumed, batch(2), 3)
    for part in ('net_g', 'net_g_ema', 'losses'):
        assert same(weights(getattr(model, part)), weights(getattr(resumed, part))), part


def test_ema_starts_from_the_students_weights(workspace):
    model = built(parsed(workspace))
    assert same(weights(model.net_g), weights(model.net_g_ema))
    path = workspace.weights(network_opt('EDSR'), 'pretrained', seed=7)
    opt = parsed(workspace)
    opt['path']['pretrain_network_g'] = path
    model = built(opt)
    stored = torch.load(path, weights_only=True)['params']
    assert same(weights(model.net_g), stored)
    assert same(weights(model.net_g_ema), stored)


def test_validation_takes_images_of_any_size_with_a_window_student(workspace):
    model = built(parsed(workspace, network_g=network_opt('SwinIRLight')))
    model.lq = torch.rand(1, 3, 9, 14)
    model.test()
    assert model.output.shape == (1, 3, 18, 28)
    assert model.net_g.training


def test_quadrants_are_run_one_by_one(workspace):
    model = built(parsed(workspace, network_g=network_opt('SwinIRLight')))
    model.lq = torch.rand(1, 3, 9, 14)
    model.test()
    whole = model.output
    model.in_quadrants = True
    model.test()
    assert model.output.shape == whole.shape
    assert not torch.equal(model.output, whole)
    quarter = model.lq[..., :4, :7]
    model.in_quadrants = False
    output, model.lq = model.output, quarter
    model.test()
    assert torch.equal(output[..., :8, :14], model.output)


@pytest.mark.parametrize(
    ('quadrants', 'expected'),
    [(['large'], [False, True]), (True, [True, True]), (False, [False] * 2), (None, [False] * 2)],
)
def test_quadrants_may_be_for_some_datasets_only(workspace, monkeypatch, quadrants, expected):
    opt = parsed(workspace)
    opt['val']['quadrants'] = quadrants
    model = built(opt)
    seen = []
    monkeypatch.setattr('kdsr.models.validated.validate', lambda model, *_: seen.append(model.in_quadrants))
    for name in ('small', 'large'):
        model.validation(SimpleNamespace(dataset=SimpleNamespace(opt={'name': name})), 1, None)
    assert seen == expected


def test_the_log_waits_for_the_device_only_when_it_is_asked_for(workspace, monkeypatch):
    model = built(parsed(workspace))
    calls = []
    monkeypatch.setattr(model, 'reduce_loss_dict', lambda terms: calls.append(terms) or {})
    step(model)
    assert not calls
    model.get_current_log()
    assert len(calls) == 1


def test_what_losses_measure_is_logged_and_not_minimised(workspace):
    facd = {'type': 'FACDLoss', 'use_contrast': False, 'loss_range': 1}
    model = built(parsed(workspace, losses={'l_facd': facd}))
    pair = batch()
    target = model.teacher(Batch(**pair)).sr
    with torch.no_grad():
        pair['gt'][0] = model.net_g(pair['lq'])[0]  # here the student is better
    pair['gt'][1] = target[1]
    step(model, pair)
    log = model.get_current_log()
    assert list(log) == ['l_pix', 'l_facd', 'rejected_l_facd']
    assert log['rejected_l_facd'] == 0.5
    assert set(model.loss_terms(model_batch(model))) == {'l_pix', 'l_facd'}


def test_feature_losses_alone_do_not_run_the_teacher_to_its_end_and_learn_the_same(workspace):
    early = {'early': TAPS['early']}
    stopping, running = (built(parsed(workspace, losses=FITNET, features=early)) for _ in range(2))
    running._needs_image = True
    ran = [[], []]
    for model, calls in zip((stopping, running), ran):
        for member in model.teacher.members:
            member.network.conv_last.register_forward_hook(lambda *_, calls=calls: calls.append(1))
        for i in range(2):
            step(model, batch(i), i + 2)  # the first step looks at the terms before
    assert [len(calls) for calls in ran] == [0, 2]
    assert same(weights(stopping.net_g), weights(running.net_g))


def test_one_loss_on_images_lets_the_teacher_run_to_its_end(workspace):
    model = built(parsed(workspace, losses={**FITNET, **RESPONSE}, features=TAPS))
    step(model)
    assert set(model.get_current_log()) == {'l_pix', 'l_fit', 'l_kd'}


@pytest.mark.parametrize(('student', 'teacher', 'taps'), [
    ('EDSR', 'SwinIR', {'student': 'upsample:input', 'teacher': 'conv_before_upsample:input'}),
    ('SwinIRLight', 'RCAN', {'student': 'layers.1', 'teacher': 'body.2'}),
    ('RCAN', 'EDSR', {'student': 'conv_after_body', 'teacher': 'upsample:input'}),
])  # fmt: skip
def test_features_of_different_architectures_are_compared(workspace, student, teacher, taps):
    wide = {**network_opt(teacher), **({'num_feat': 12} if teacher != 'SwinIR' else {'embed_dim': 12})}
    member = {'name': 't', 'network': wide, 'path': workspace.weights(wide, 'wide')}
    opt = parsed(workspace, network_g=network_opt(student), teachers=[member], losses=FITNET, features={'f': taps})
    model = built(opt)
    step(model)
    assert next(iter(model.losses['l_fit'].parameters())).shape[:2] == (12, 8)


def odd_crop(workspace):
    train = {**workspace.options()['datasets']['train'], 'gt_size': 36}
    return {'network_g': network_opt('SwinIRLight'), 'datasets': {'train': train}}


def misspelt_teacher(workspace):
    return {'teachers': [{**workspace.teacher('EDSR'), 'network': {**network_opt('EDSR'), 'num_feet': 8}}]}


@pytest.mark.parametrize(('change', 'words'), [
    (lambda w: {'losses': {}}, 'nothing is distilled'),
    (lambda w: {'losses': {'l_x': {'type': 'WaveletLos'}}}, "no loss is called 'WaveletLos'.*'WaveletLoss'"),
    (lambda w: {'losses': {'l_x': {'type': 'WaveletLoss', 'wavee': 1}}}, r"WaveletLoss has no option 'wavee'.*'wave'"),
    (lambda w: {'losses': {'l_x': {'type': 'WaveletLoss', 'wave': 'har'}}}, r'losses\.l_x: .*haar'),
    (lambda w: {'losses': {'l_x': {'type': 'L1Loss'}}}, r'l_x: L1Loss is not a distillation loss.*pixel_opt'),
    (lambda w: {'losses': FITNET}, r'l_fit: FitNetLoss compares features'),
    (lambda w: {'losses': FITNET, 'features': {'f': {'student': 'body.9', 'teacher': 'body.0'}}}, "no module 'body.9'"),
    (lambda w: {'teachers': [w.teacher('EDSR', 4)]}, r'`scale: 2`.*teacher \(64, 64\)'),
    (lambda w: {'network_g': network_opt('EDSR', 4)}, r'`scale: 2`.*student returns \(64, 64\)'),
    (lambda w: {'scale': 3}, r'gt_size: 32 is not a multiple of `scale: 3`; 33 is'),
    (lambda w: {'network_g': {**network_opt('EDSR'), 'num_feet': 8}}, r"network_g: EDSR has no option 'num_feet'"),
    (lambda w: {'teachers': [w.teacher('EDSR'), w.teacher('RCAN', 4)]}, r"'rcan' returns images of \(3, 64, 64\)"),
    (odd_crop, r'gt_size: 36 gives LR crops of 18, but the network needs .* 4: for example 40'),
    (misspelt_teacher, r"teachers\[0\]\.network: EDSR has no option 'num_feet'.*'num_feat'"),
    (lambda w: {'num_gpu': 2}, 'torchrun --nproc_per_node=2'),
])  # fmt: skip
def test_mistakes_are_told_before_the_first_iteration(workspace, change, words):
    with pytest.raises(UserError, match=words):
        built(parsed(workspace, **change(workspace)))


def test_every_kdsr_loss_is_a_distillation_loss():
    ours = [cls for _, cls in LOSS_REGISTRY if cls.__module__.startswith('kdsr.')]
    assert ours
    assert all(issubclass(cls, DistillationLoss) for cls in ours)


class DropoutNet(torch.nn.Sequential):
    """A network that changes what is tapped in place, but only in training."""

    def __init__(self, upscale=2):
        layers = [torch.nn.Conv2d(3, 12, 3, padding=1), torch.nn.Dropout(0.5, inplace=True)]
        super().__init__(*layers, torch.nn.PixelShuffle(upscale))


def test_a_network_that_changes_features_in_place_only_in_training_is_tapped_right(workspace, monkeypatch):
    monkeypatch.setitem(ARCH_REGISTRY._obj_map, 'DropoutNet', DropoutNet)
    taps = {'f': {'student': '0', 'teacher': 'body.0'}}
    opt = parsed(workspace, network_g={'type': 'DropoutNet', 'upscale': 2}, losses=FITNET, features=taps)
    model = built(opt)
    assert model.tap.copied == {'f'}
    step(model)


class BatchNormNet(torch.nn.Sequential):
    """A network that keeps statistics of the batches that it saw in training."""

    def __init__(self, upscale=2):
        layers = [torch.nn.Conv2d(3, 12, 3, padding=1), torch.nn.BatchNorm2d(12)]
        super().__init__(*layers, torch.nn.PixelShuffle(upscale))


def test_statistics_of_a_student_come_from_its_training_batches_only(workspace, monkeypatch):
    """Not from the run that finds out what is tapped, nor from the check of the terms in the first step."""
    monkeypatch.setitem(ARCH_REGISTRY._obj_map, 'BatchNormNet', BatchNormNet)
    taps = {'f': {'student': '0', 'teacher': 'body.0'}}
    opt = parsed(workspace, network_g={'type': 'BatchNormNet', 'upscale': 2}, losses=FITNET, features=taps)
    opt['distillation']['views'] = {'zoom_out': {'type': 'ZoomOut', 'loss_weight': 0.0, 'losses': []}}
    model = built(opt)
    norm = model.net_g[1]
    assert (norm.num_batches_tracked, norm.running_mean.tolist()) == (0, [0.0] * 12)
    del model.views['zoom_out']
    convolution = torch.nn.Conv2d(3, 12, 3, padding=1)
    convolution.load_state_dict(model.net_g[0].state_dict())
    expected = convolution(batch()['lq']).mean((0, 2, 3))
    step(model)
    assert norm.num_batches_tracked == 1
    torch.testing.assert_close(norm.running_mean, 0.1 * expected)  # BatchNorm2d's momentum


def test_the_teachers_are_compared_with_bicubic_once(workspace, monkeypatch):
    checked = []
    monkeypatch.setattr('kdsr.models.distilling.check_teacher', lambda *a: checked.append(a) or 'checked')
    opt = parsed(workspace)
    opt['distillation']['health_check'] = True
    model = built(opt)
    for i in range(3):
        step(model, iteration=i + 1)
    assert len(checked) == 1


def test_windows_by_default_are_padded_too(workspace):
    """SwinIR's `window_size` is 7 when the YAML does not say."""
    network = {k: v for k, v in network_opt('SwinIR').items() if k != 'window_size'}
    network['img_size'] = 14
    member = {'name': 's', 'network': network, 'path': workspace.weights(network, 'seven')}
    teacher = build_teachers({'distillation': {'teachers': [member]}})
    assert teacher(Batch(torch.rand(1, 3, 16, 10))).sr.shape == (1, 3, 32, 20)


def test_a_loss_that_reads_the_image_it_said_it_does_not_need_is_named(workspace):
    @LOSS_REGISTRY.register()
    class Forgetful(DistillationLoss):
        needs_teacher_image = False

        def distance(self, student, teacher, batch):
            return (student.sr - teacher.sr).abs().mean()

    try:
        with pytest.raises(UserError, match=r'l_x: Forgetful says `needs_teacher_image = False`, but fails without'):
            built(parsed(workspace, losses={'l_x': {'type': 'Forgetful'}}))
    finally:
        del LOSS_REGISTRY._obj_map['Forgetful']
