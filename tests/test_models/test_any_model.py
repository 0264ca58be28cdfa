"""The `distillation:` block with BasicSR's own model classes, and with those of other packages."""

import contextlib
import copy
import random

import numpy as np
import pytest
import torch
from basicsr.models.sr_model import SRModel
from basicsr.utils.registry import MODEL_REGISTRY

from kdsr.distillation.health import check_teacher
from kdsr.distillation.outputs import Batch
from kdsr.distillation.teacher import FrozenNetwork, TeacherEnsemble
from kdsr.errors import UserError
from kdsr.lifecycle.pipeline import build_model
from tests.conftest import network_opt
from tests.helpers.models import FITNET, RESPONSE, TAPS, batch, parsed, same, weights
from tests.helpers.real_world import gt_batch, model_options

MODELS = ('SRModel', 'SwinIRModel', 'SRGANModel', 'ESRGANModel', 'RealESRNetModel', 'RealESRGANModel')
ZERO = {name: {**loss, 'loss_weight': 0.0} for name, loss in {**RESPONSE, **FITNET}.items()}
SWIN_TAPS = {'f': {'student': 'layers.0', 'teacher': 'body.0'}}


def options_of(workspace, model_type, **changes):
    network = {'network_g': network_opt('SwinIR')} if model_type == 'SwinIRModel' else {}
    taps = SWIN_TAPS if model_type == 'SwinIRModel' else TAPS
    opt = parsed(workspace, **{'losses': {**RESPONSE, **FITNET}, 'features': taps, **network, **changes})
    return model_options(opt, model_type)


def data_of(model_type, seed):
    return gt_batch(seed) if model_type.startswith('RealESR') else batch(seed)


def build(opt):
    torch.manual_seed(0)
    return build_model(copy.deepcopy(opt))


def run(model, count=3, first=1):
    """Steps, each with its own random numbers, as in a training."""
    for i in range(first, first + count):
        for seed in (random.seed, np.random.seed, torch.manual_seed):
            seed(i)
        model.feed_data(data_of(model.opt['model_type'], i))
        model.optimize_parameters(i)


def without_block(opt):
    return {key: value for key, value in opt.items() if key != 'distillation'}


@pytest.mark.parametrize('model_type', MODELS)
def test_with_weight_zero_every_network_is_bit_identical_to_the_model_without_the_block(workspace, model_type):
    opt = options_of(workspace, model_type, losses=ZERO)
    distilled, plain = build(opt), build(without_block(opt))
    assert type(plain) is MODEL_REGISTRY.get(model_type)
    assert isinstance(distilled, type(plain))
    for model in (distilled, plain):
        run(model)
    for name in ('net_g', 'net_g_ema', 'net_d'):
        if hasattr(plain, name):
            assert same(weights(getattr(distilled, name)), weights(getattr(plain, name))), name
    log = distilled.get_current_log()
    assert log.items() >= plain.get_current_log().items()
    assert set(log) - set(plain.get_current_log()) == set(ZERO)


@pytest.mark.parametrize('model_type', MODELS)
def test_the_gradient_is_that_of_the_model_plus_that_of_the_losses(workspace, model_type):
    """SGD without momentum: the change of the weights is the gradient. A term counts once, with its own weight."""
    changes = {}
    kd = {'l_kd': {'type': 'ResponseLoss', 'loss_weight': 3.0}}
    for weight in (0.0, 3.0):
        opt = options_of(workspace, model_type, losses={'l_kd': {**kd['l_kd'], 'loss_weight': weight}}, features={})
        model = build(opt)
        model.optimizer_g = torch.optim.SGD(model.net_g.parameters(), lr=1.0)
        model.optimizers[0] = model.optimizer_g
        before = weights(model.net_g)
        model.optimizer_g.register_step_pre_hook(model._before_optimiser)
        run(model, 1)
        changes[weight] = [before[name] - p.detach() for name, p in model.net_g.named_parameters()]
    start = build(options_of(workspace, model_type, losses=kd, features={}))
    for seed in (random.seed, np.random.seed, torch.manual_seed):
        seed(1)
    start.feed_data(data_of(model_type, 1))
    target = start.teacher.images(start.batch())
    loss = 3.0 * (start.net_g(start.lq) - target).abs().mean()
    expected = torch.autograd.grad(loss, list(start.net_g.parameters()))
    for with_kd, without, gradient in zip(changes[3.0], changes[0.0], expected):
        torch.testing.assert_close(with_kd - without, gradient, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize('model_type', ['SRModel', 'SRGANModel'])
def test_a_batch_in_parts_gives_the_same_gradients(workspace, model_type):
    found = []
    for parts in (1, 2):
        opt = options_of(workspace, model_type)
        opt['train']['accumulate'] = parts
        model = build(opt)
        networks = [model.net_d] if model_type == 'SRGANModel' else []
        for network in networks:  # spectral norms move with every pass, until they have converged
            for _ in range(100):
                network(torch.rand(1, 3, 32, 32))
        run(model, 1)
        networks = [getattr(model, name) for name in ('net_g', 'net_d') if hasattr(model, name)]
        vectors = [torch.cat([p.grad.flatten() for p in network.parameters()]) for network in networks]
        found.append((vectors, model.get_current_log()))
    for whole, in_parts in zip(found[0][0], found[1][0]):
        assert (whole - in_parts).norm() < 0.02 * whole.norm()
    assert found[1][1] == pytest.approx(found[0][1], rel=0.02)


@pytest.mark.parametrize('amp', ['bf16', 'fp16'])
def test_low_precision_is_for_the_student_and_its_gradient_is_not_scaled(workspace, amp):
    logs, moved = [], []
    for precision in (None, amp):
        opt = options_of(workspace, 'SRGANModel')
        opt['train'].update(amp=precision, clip_grad_norm=1e9)
        model = build(opt)
        dtypes = []
        model.net_g.conv_first.register_forward_hook(lambda m, i, output, seen=dtypes: seen.append(output.dtype))
        before = weights(model.net_g)
        run(model, 1)
        logs.append(model.get_current_log())
        moved.append({n: v - before[n] for n, v in weights(model.net_g).items()})
        assert {torch.bfloat16 if amp == 'bf16' else torch.float16} <= set(dtypes) if precision else True
    assert logs[1] == pytest.approx(logs[0], rel=0.1, abs=0.02)
    gradients = [p.grad.norm().item() for p in model.net_g.parameters()]
    assert 0 < max(gradients) < 10  # fp16's scale is 65,536


@pytest.mark.parametrize('features', [{}, TAPS])
def test_views_run_the_student_again_and_teach_as_in_distillation_model(workspace, features):
    """Their passes counted as the student's own, so a view ended in an error."""
    losses = {**RESPONSE, **(FITNET if features else {})}
    views = {'in': {'type': 'ZoomIn', 'count': 2, 'losses': list(RESPONSE)}}
    found = []
    for model_type in ('SRModel', 'DistillationModel'):
        opt = {**options_of(workspace, 'SRModel', losses=losses, features=features), 'model_type': model_type}
        opt['distillation'] = {**opt['distillation'], 'views': views}
        model = build(opt)
        run(model, 1)
        found.append(model.get_current_log())
    assert {f'{name}_in' for name in RESPONSE} <= set(found[0])
    assert found[0] == pytest.approx(found[1], rel=1e-5)


def test_clipping_is_for_the_student_alone(workspace):
    opt = options_of(workspace, 'SRGANModel')
    opt['train']['clip_grad_norm'] = 1e-3
    model = build(opt)
    run(model, 1)
    norm = torch.stack([p.grad.norm() for p in model.learnt()]).norm()
    assert norm.item() == pytest.approx(1e-3, rel=1e-3)
    assert torch.stack([p.grad.norm() for p in model.net_d.parameters()]).norm() > 2e-3


def test_a_step_with_numbers_that_are_not_finite_is_left_out_or_stops_the_run(workspace):
    opt = options_of(workspace, 'SRGANModel')
    opt['train']['skip_nonfinite'] = 1
    model = build(opt)
    run(model, 1)
    before, averaged = weights(model.net_g), weights(model.net_g_ema)
    data = batch(5)
    data['gt'][0, 0, 0, 0] = torch.nan
    model.feed_data(data)
    model.optimize_parameters(2)
    assert same(before, weights(model.net_g))
    assert same(averaged, weights(model.net_g_ema))
    model.feed_data(data)
    with pytest.raises(UserError, match='not finite'):
        model.optimize_parameters(3)


def test_a_saved_gan_training_goes_on_bit_for_bit(workspace):
    opt = options_of(workspace, 'RealESRGANModel')
    model = build(opt)
    run(model, 3)
    model.save(0, 3)
    run(model, 2, first=4)
    models = workspace.root / 'models'
    state = torch.load(models / '3.state', weights_only=True)
    assert state['pair_pool']['queue_ptr'] == 4
    resumed_opt = copy.deepcopy(opt)
    resumed_opt['path'].update(
        {f'pretrain_network_{n}': str(models / f'net_{n}_3.pth') for n in 'gd'}, param_key_g='params'
    )
    resumed = build(resumed_opt)
    resumed.resume_training(state)
    run(resumed, 2, first=4)
    for name in ('net_g', 'net_g_ema', 'net_d', 'losses'):
        assert same(weights(getattr(model, name)), weights(getattr(resumed, name))), name


def test_a_teacher_may_see_the_clean_image_of_the_degraded_one(workspace):
    clean = workspace.teacher('EDSR', input='lq_clean')
    opt = options_of(workspace, 'RealESRNetModel', teachers=[clean], losses=RESPONSE, features={})
    model = build(opt)
    run(model, 1)
    seen = []
    model.teacher.members[0].network.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    with torch.no_grad():
        model.teacher(model.batch())
    gt = model.gt[0].double().numpy()
    expected = matlab_half(matlab_half(gt).transpose(0, 2, 1)).transpose(0, 2, 1)
    expected = np.clip(np.round(expected * 255), 0, 255) / 255
    assert np.abs(seen[0][0].numpy() - expected).max() <= 1.01 / 255
    assert np.mean(np.abs(seen[0][0].numpy() - expected) > 1e-4) < 0.01  # single precision rounds a few otherwise
    assert (seen[0] - model.lq).abs().mean() > 0.01


def matlab_half(image):
    """Halve the last axis with MATLAB's antialiased bicubic kernel, written out: taps -3..4 around each pair."""
    distance = (np.arange(-3, 5) - 0.5) / 2
    d = np.abs(distance)
    kernel = np.where(d < 1, 1.5 * d**3 - 2.5 * d**2 + 1, -0.5 * d**3 + 2.5 * d**2 - 4 * d + 2)
    padded = np.pad(image, ((0, 0), (0, 0), (3, 4)), mode='symmetric')
    windows = np.lib.stride_tricks.sliding_window_view(padded, 8, axis=-1)[..., ::2, :]
    return windows[..., : image.shape[-1] // 2, :] @ (kernel / kernel.sum())


class OwnModel(SRModel):
    """A model class of another package, with a step of its own."""

    def optimize_parameters(self, current_iter):
        self.optimizer_g.zero_grad()
        self.output = self.net_g(self.lq)
        loss = (self.output - self.gt).square().mean()
        for _ in range(self.opt.get('backward_passes', 1)):
            loss.backward(retain_graph=True)
        self.optimizer_g.step()
        self.log_dict = self.reduce_loss_dict({'l_own': loss})


class BlindModel(SRModel):
    """A model class that never runs `net_g` in its step."""

    def optimize_parameters(self, current_iter):
        self.log_dict = {}


@pytest.fixture
def own_models():
    for model in (OwnModel, BlindModel):
        MODEL_REGISTRY._obj_map[model.__name__] = model
    yield
    for model in (OwnModel, BlindModel):
        del MODEL_REGISTRY._obj_map[model.__name__]


def test_a_model_class_of_another_package_is_distilled_without_a_line_of_code(workspace, own_models):
    opt = parsed(workspace, model_type='OwnModel')
    model = build(opt)
    before = weights(model.net_g)
    model.feed_data(batch(1))
    model.optimize_parameters(1)
    assert not same(before, weights(model.net_g))
    assert set(model.get_current_log()) == {'l_own', 'l_kd'}


@pytest.mark.parametrize(('changes', 'text'), [
    ({'model_type': 'OwnModel', 'backward_passes': 2}, 'OwnModel runs backward 2 times'),
    ({'model_type': 'BlindModel'}, 'BlindModel does not call `net_g`'),
])  # fmt: skip
def test_a_step_that_cannot_be_distilled_is_refused(workspace, own_models, changes, text):
    model = build(parsed(workspace, **changes))
    model.feed_data(batch(1))
    with pytest.raises(UserError, match=text):
        model.optimize_parameters(1)


def test_a_whole_gan_training_runs_validates_and_keeps_the_best(workspace):
    opt = workspace.options()
    opt = model_options(
        {**opt, 'distillation': {'teachers': [workspace.teacher('EDSR')], 'losses': RESPONSE}}, 'SRGANModel'
    )
    opt['distillation']['health_check'] = False
    opt['datasets']['train']['gt_size'] = 32
    workspace.train(opt)
    models = workspace.root / 'experiments' / 'run' / 'models'
    assert {'net_g_latest.pth', 'net_d_latest.pth', 'net_g_best.pth'} <= {p.name for p in models.iterdir()}


def test_the_discriminators_features_of_both_images_are_compared(workspace):
    block = {'matching': {'type': 'FitNetLoss', 'regressor': 'none', 'act': 'none', 'features': ['d1']}}
    losses = {'l_fm': block['matching'], 'l_fit': {'type': 'FitNetLoss', 'loss_weight': 0.1}}
    opt = options_of(workspace, 'SRGANModel', losses=losses)
    opt['distillation']['discriminator_features'] = {'d1': 'conv1'}
    model = build(opt)
    model.feed_data(batch(1))
    before = weights(model.net_d)
    with torch.no_grad():
        found = []
        model.net_d.eval()
        model.net_d.conv1.register_forward_hook(lambda module, args, output: found.append(output.clone()))
        for image in (model.net_g(model.lq), model.teacher.images(model.batch())):
            model.net_d(image)
        model.net_d.train()
    expected = (found[0] - found[1]).abs().mean().item()
    with torch.no_grad():
        terms = model.own_terms(model.batch())
    assert terms['l_fm'].item() == pytest.approx(expected, rel=1e-4)
    assert same(before, weights(model.net_d))  # neither trained nor run in training mode
    assert model.losses['l_fit'].features == ['early', 'trunk']
    model.optimize_parameters(1)
    assert all(p.requires_grad for p in model.net_d.parameters())


class Noisy(torch.nn.Module):
    """Bicubic upsampling with noise that costs a number of dB."""

    def __init__(self, db, error):
        super().__init__()
        self.sigma = error * (10 ** (db / 10) - 1) ** 0.5

    def forward(self, x):
        noise = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
        return torch.nn.functional.interpolate(x, scale_factor=2, mode='bicubic') + self.sigma * noise


@pytest.mark.parametrize(('db', 'slack', 'taken'), [(3, 6.0, True), (3, 0.0, False), (9, 6.0, False)])
def test_a_perceptual_teacher_may_lose_some_psnr(db, slack, taken):
    gt = 0.4 + 0.2 * torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))  # nothing is clamped
    pair = Batch(gt[..., ::2, ::2].contiguous(), gt)
    bicubic = torch.nn.functional.interpolate(pair.lq, scale_factor=2, mode='bicubic')
    teacher = TeacherEnsemble({'noisy': FrozenNetwork(Noisy(db, (bicubic - gt).square().mean().sqrt().item()))})
    with contextlib.nullcontext() if taken else pytest.raises(UserError, match='less than bicubic'):
        check_teacher(teacher, [pair], 2, slack)
