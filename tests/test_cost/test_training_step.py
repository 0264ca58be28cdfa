"""Costs of a training step: arithmetic counted by hand, memory against the allocator of a step that is really taken."""

import copy
from collections import Counter

import pytest
import torch
from basicsr.archs import build_network
from torch import nn

from kdsr import options
from kdsr.cost.complexity import count_multi_adds
from kdsr.cost.gan_step import DEGRADATION, DISCRIMINATOR
from kdsr.cost.operation_counter import CONVOLUTION, HALF, PRODUCT, OperationCounter, count_flop
from kdsr.cost.training_step import LOSSES, STUDENT, TEACHERS, count_step
from kdsr.errors import UserError
from kdsr.models.distillation_model import DistillationModel
from tests.conftest import network_opt
from tests.helpers.real_world import model_options

BATCH, SIDE = 4, 16
EDSR_BLOCK = 2 * 9 * 8 * 8  # multiply-adds a pixel
EDSR_FIRST = 9 * 3 * 8


def training(workspace, student='EDSR', model='SRModel', train=None, **changes):
    opt = workspace.options(student, model_type=model, **changes)
    opt['datasets']['train'].update(gt_size=2 * SIDE, batch_size_per_gpu=BATCH)
    opt['train'].update(train or {})
    return opt


def distilling(workspace, losses, features=None, train=None, **block):
    teacher = {'name': 'big', 'network': {**network_opt('EDSR'), 'num_feat': 16}, 'path': 'not/there.pth'}
    block = {'teachers': [teacher], 'losses': losses, **({'features': features} if features else {}), **block}
    return training(workspace, model='DistillationModel', train=train, distillation=block)


def flop(cost, part):
    return count_flop([cost.operations.get(part, Counter())])


def test_a_student_is_three_times_its_multiply_adds(workspace):
    opt = training(workspace)
    forward = count_multi_adds(build_network(opt['network_g']), (3, SIDE, SIDE))
    not_needed = EDSR_FIRST * SIDE * SIDE  # the gradient of the image
    assert flop(count_step(opt), STUDENT) == 2 * BATCH * (3 * forward - not_needed)


def test_a_teacher_runs_forward_and_its_weights_need_not_be_there(workspace):
    opt = distilling(workspace, {'l_kd': {'type': 'ResponseLoss'}})
    teacher = build_network(opt['distillation']['teachers'][0]['network'])
    cost = count_step(opt)
    assert flop(cost, TEACHERS) == 2 * BATCH * count_multi_adds(teacher, (3, SIDE, SIDE))
    assert cost.parameters[TEACHERS] == sum(p.numel() for p in teacher.parameters())
    assert flop(cost, LOSSES) == 0


@pytest.mark.parametrize('model', ['SRModel', 'SwinIRModel'])
def test_the_teachers_of_basicsrs_models_are_counted(workspace, model):
    opt = distilling(workspace, {'l_kd': {'type': 'ResponseLoss'}})
    if model == 'SwinIRModel':
        opt['network_g'] = network_opt('SwinIR')
    expected = count_step(opt).operations[TEACHERS]
    assert expected
    assert count_step({**opt, 'model_type': model}).operations[TEACHERS] == expected


def test_a_tapped_teacher_stops_early_and_regressors_are_trained(workspace):
    features = {'early': {'student': 'body.0', 'teacher': 'body.1'}}
    cost = count_step(distilling(workspace, {'l_fit': {'type': 'FitNetLoss'}}, features))
    pixels = BATCH * SIDE * SIDE
    assert flop(cost, TEACHERS) == 2 * pixels * (9 * 3 * 16 + 2 * 2 * 9 * 16 * 16)  # two blocks
    assert flop(cost, LOSSES) == 2 * 3 * pixels * 8 * 16  # 1x1 regressor: forward, and the gradients of both
    assert cost.parameters[LOSSES] == 8 * 16 + 16


def test_with_a_cache_no_teacher_runs(workspace):
    live = distilling(workspace, {'l_kd': {'type': 'ResponseLoss'}})
    cached = count_step(distilling(workspace, {'l_kd': {'type': 'ResponseLoss'}}, cache='not/there'))
    assert cached.parameters[TEACHERS] == flop(cached, TEACHERS) == 0
    assert cached.memory < count_step(live).memory


def test_the_aggregation_model_trains_on_images_of_teachers(workspace):
    teachers = [{'name': n, 'network': network_opt('EDSR'), 'path': 'not/there.pth'} for n in ('a', 'b')]
    cost = count_step(
        training(workspace, 'DCTSwin', 'AggregationModel', distillation={'teachers': teachers, 'losses': None})
    )
    assert flop(cost, TEACHERS) == 2 * 2 * BATCH * count_multi_adds(build_network(network_opt('EDSR')), (3, SIDE, SIDE))
    assert flop(cost, STUDENT) > 0


def test_a_view_is_an_extra_batch(workspace):
    losses = {'l_kd': {'type': 'ResponseLoss'}}
    plain = count_step(distilling(workspace, losses))
    viewed = count_step(distilling(workspace, losses, views={'in': {'type': 'ZoomIn', 'consistency': 0.3}}))
    assert [flop(viewed, part) for part in (STUDENT, TEACHERS)] == [
        2 * flop(plain, part) for part in (STUDENT, TEACHERS)
    ]
    assert viewed.memory > plain.memory


def test_accumulation_costs_the_same_and_keeps_less(workspace):
    whole, parts = (count_step(training(workspace, train={'accumulate': n})) for n in (1, 4))
    assert flop(whole, STUDENT) == flop(parts, STUDENT)
    assert parts.memory < 0.6 * whole.memory


@pytest.mark.parametrize(('student', 'kinds'), [('EDSR', {CONVOLUTION}), ('SwinIR', {CONVOLUTION, PRODUCT})])
def test_low_precision_keeps_less_and_changes_no_arithmetic(workspace, student, kinds):
    single, half = (count_step(training(workspace, student, 'StudentModel', {'amp': amp})) for amp in (None, 'bf16'))
    assert {o.kind for o in single.operations[STUDENT] if o.flop} == kinds
    assert {o.kind for o in half.operations[STUDENT] if o.flop} == {HALF}
    assert flop(single, STUDENT) == flop(half, STUDENT)
    assert half.memory < 0.85 * single.memory


def test_optimiser_and_moving_average_keep_copies_of_the_weights(workspace):
    weights = 4 * sum(p.numel() for p in build_network(network_opt('EDSR')).parameters())
    adam = count_step(training(workspace))
    sgd = count_step(training(workspace, train={'ema_decay': 0, 'optim_g': {'type': 'SGD', 'lr': 1e-3}}))
    assert adam.memory - sgd.memory == 2 * weights  # of the two moments one, and the average


def measured_peak(opt):
    """Return the most bytes that a step on the CPU has allocated at a time, as PyTorch's allocator tells it."""
    network = build_network(opt['network_g']).train()
    size, scale = opt['datasets']['train']['gt_size'], opt['scale']
    lq, gt = (torch.rand(BATCH, 3, side, side) for side in (size // scale, size))
    nn.functional.l1_loss(network(lq), gt).backward()  # once before: what libraries allocate for good
    network.zero_grad()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        nn.functional.l1_loss(network(lq), gt).backward()
    alive = peak = 0
    for event in profile.profiler.kineto_results.events():
        if event.name() == '[memory]':
            alive += event.nbytes()
            peak = max(peak, alive)
    weights = 4 * sum(p.numel() for p in network.parameters())
    return weights + 4 * (lq.numel() + gt.numel()) + peak


@pytest.mark.parametrize('student', ['EDSR', 'RCAN', 'SwinIR'])
def test_memory_is_about_what_a_real_step_allocates(workspace, student):
    opt = training(workspace, student, train={'ema_decay': 0, 'optim_g': {'type': 'SGD', 'lr': 1e-3}})
    momentum = 4 * sum(p.numel() for p in build_network(opt['network_g']).parameters())
    measured = measured_peak(opt)  # with the workspaces of the CPU's convolutions, which are not counted
    assert 0.6 * measured < count_step(opt).memory - momentum < 1.1 * measured


def test_backward_passes_of_special_convolutions():
    counter = OperationCounter()
    x = torch.empty(2, 4, 5, 7, device='meta', requires_grad=True)
    grouped = nn.Conv2d(4, 8, 3, padding=1, groups=4, device='meta')
    enlarging = nn.ConvTranspose2d(4, 3, 9, stride=4, padding=4, output_padding=3, device='meta')
    for layer, weights in ((grouped, 8 * 1 * 9), (enlarging, 4 * 3 * 81)):
        counter.operations.clear()
        with counter:
            layer(x).sum().backward()
        assert count_flop(counter.operations.values()) == 2 * 3 * 2 * 35 * weights


def test_products_are_counted_in_place_too():
    counter = OperationCounter()
    batch, total = torch.empty(2, 3, 4, device='meta'), torch.empty(2, 3, 3, device='meta')
    with counter:
        total.baddbmm_(batch, batch.mT)
        total[0].addmm_(batch[0], batch[0].T)
    assert count_flop(counter.operations.values()) == 3 * 2 * 9 * 4


def test_views_of_tensors_are_free_and_the_rest_moves_bytes():
    counter = OperationCounter()
    x = torch.empty(2, 3, 4, device='meta')
    with counter:
        x.flatten(1).transpose(0, 1)[1:]
        assert not counter.operations
        x + 1
    ((operation, times),) = counter.operations[''].items()
    assert (operation.flop, operation.moved, times) == (0, 2 * 4 * 24, 1)


def test_what_cannot_be_counted_is_told(workspace):
    with pytest.raises(UserError, match='StyleGAN2Model'):
        count_step(training(workspace, model='StyleGAN2Model'))
    opt = distilling(workspace, {'l_kd': {'type': 'ResponseLoss'}})
    opt['distillation']['teachers'][0] = {'name': 's', 'network': {'type': 'Spandrel', 'path': 'not/there.pth'}}
    with pytest.raises(UserError, match=r'not/there\.pth'):
        count_step(opt)


def test_the_random_numbers_of_others_stay(workspace):
    opt = options.complete(distilling(workspace, {'l_kd': {'type': 'ResponseLoss'}}), 'run.yml')
    before = torch.random.get_rng_state()
    count_step(opt)
    assert torch.equal(before, torch.random.get_rng_state())


def test_the_step_of_the_model_itself_is_counted(workspace, monkeypatch):
    """Whatever a model does in its step is in the estimate: here, a second run of the student."""
    opt = distilling(workspace, {'l_kd': {'type': 'ResponseLoss'}})
    once = count_step(opt)
    terms = DistillationModel.loss_terms

    def with_another_run(self, batch):
        return {**terms(self, batch), 'l_again': self.run(batch.lq).mean()}

    monkeypatch.setattr(DistillationModel, 'loss_terms', with_another_run)
    twice = count_step(opt)
    assert flop(twice, STUDENT) == 2 * flop(once, STUDENT)
    assert flop(twice, TEACHERS) == flop(once, TEACHERS)


def test_counting_changes_no_option(workspace):
    opt = distilling(workspace, {'l_kd': {'type': 'ResponseLoss'}}, train={'optim_g': {'type': 'Adam', 'lr': 1e-3}})
    before = copy.deepcopy(opt)
    count_step(opt)
    assert opt == before


@pytest.mark.parametrize(('model', 'forwards'), [('SRGANModel', 4), ('ESRGANModel', 6)])
def test_the_discriminators_passes_are_counted_by_hand(workspace, model, forwards):
    """Student: forward, gradient of the image. Itself: forward, both gradients but the image's, on real and fake.

    ESRGAN's loss runs it forward on the other image too, in both.
    """
    discriminator = {'type': 'UNetDiscriminatorSN', 'num_in_ch': 3, 'num_feat': 16, 'skip_connection': True}
    opt = model_options(training(workspace), model)
    opt['network_d'] = discriminator
    cost = count_step(opt)
    once = count_multi_adds(build_network(discriminator), (3, 2 * SIDE, 2 * SIDE))
    first = 9 * 3 * 16 * (2 * SIDE) ** 2
    gradients = 5 * once - 2 * first  # of the image once; of weights and inputs twice
    expected = 2 * BATCH * (forwards - 1) * once + 2 * BATCH * gradients
    assert flop(cost, DISCRIMINATOR) == pytest.approx(expected, rel=0.02)  # spectral norms are products, too
    plain = count_step(training(workspace))
    assert flop(cost, STUDENT) == flop(plain, STUDENT)
    assert cost.memory > plain.memory + 12 * cost.parameters[DISCRIMINATOR]  # weights, two moments


def test_the_perceptual_loss_runs_vgg_on_both_images_and_back_to_one(workspace):
    perceptual = {'type': 'PerceptualLoss', 'layer_weights': {'conv1_2': 1.0}, 'vgg_type': 'vgg19'}
    cost = count_step(training(workspace, train={'perceptual_opt': perceptual}))
    of_image = (2 * SIDE) ** 2 * (9 * 3 * 64 + 9 * 64 * 64)
    assert flop(cost, LOSSES) == 2 * BATCH * 3 * of_image


@pytest.mark.parametrize('model', ['RealESRNetModel', 'RealESRGANModel'])
def test_the_degradation_of_the_step_is_counted(workspace, model):
    opt = model_options(training(workspace), model)
    before = torch.random.get_rng_state()
    cost = count_step(opt)
    sharpening = 2 * 51 * 51 * 3 * 400 * 400 * BATCH  # USM blurs twice with 51x51 pixels
    blur = 21 * 21 * 3 * 400 * 400 * BATCH
    assert 2 * (sharpening + blur) < flop(cost, DEGRADATION) < 2 * (sharpening + 4 * blur)
    assert torch.equal(before, torch.random.get_rng_state())
    assert (DISCRIMINATOR in cost.operations) == (model == 'RealESRGANModel')
    assert DEGRADATION not in count_step({**opt, 'high_order_degradation': False}).operations


def test_a_video_model_is_not_estimated(workspace):
    with pytest.raises(UserError, match='only image models that derive from SRModel'):
        count_step({**training(workspace), 'model_type': 'VideoRecurrentModel'})
