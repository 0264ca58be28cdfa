import copy

import pytest
import torch
from basicsr.models import build_model

from kdsr.distillation.outputs import Batch
from kdsr.distillation.teacher import build_teachers
from kdsr.errors import UserError
from tests.conftest import network_opt
from tests.helpers.models import batch, same, step, weights

NAMES = ['EDSR', 'SwinIR']


def parsed(workspace, names=NAMES, **network):
    opt = workspace.options(model_type='AggregationModel', network_g={**network_opt('DCTSwin'), **network})
    opt['distillation'] = {'health_check': False, 'teachers': [workspace.teacher(n) for n in names]}
    (workspace.root / 'models').mkdir(exist_ok=True)
    opt['path'].update(models=str(workspace.root / 'models'), training_states=str(workspace.root / 'models'))
    opt.update(dist=False, rank=0, world_size=1, is_train=True)
    return opt


def built(opt):
    torch.manual_seed(0)
    return build_model(copy.deepcopy(opt))


def test_the_aggregator_learns_and_the_teachers_do_not(workspace):
    model = built(parsed(workspace))
    teachers, aggregator = weights(model.teachers), weights(model.net_g)
    step(model)
    assert same(teachers, weights(model.teachers))
    assert all(p.grad is None for p in model.teachers.parameters())
    changed = [k for k, v in model.net_g.state_dict().items() if not torch.equal(v, aggregator[k])]
    trainable = {k for k, p in model.net_g.named_parameters() if p.requires_grad}
    assert set(changed) == trainable


def test_the_loss_is_the_l1_distance_to_the_ground_truth(workspace):
    model = built(parsed(workspace, drop_path_rate=0.0))
    model.feed_data(batch())
    expected = (model.net_g(model.teacher_images) - model.gt).abs().mean().item()
    model.optimize_parameters(1)
    assert model.get_current_log()['l_pix'] == pytest.approx(expected, rel=1e-5)


def test_the_teachers_are_compared_with_bicubic_once(workspace, monkeypatch):
    checked = []
    monkeypatch.setattr('kdsr.models.aggregation_model.check_teacher', lambda *a: checked.append(a) or 'checked')
    opt = parsed(workspace)
    opt['distillation']['health_check'] = True
    model = built(opt)
    for i in range(3):
        step(model, iteration=i + 1)
    assert len(checked) == 1


@pytest.mark.parametrize('affine', ['mean_shift', 'official'])
def test_stage_two_gets_exactly_what_stage_one_gives(workspace, affine):
    """From the checkpoint file of stage 1, in stage 2: the same target, bit for bit."""
    opt = parsed(workspace, affine=affine)
    opt['train']['ema_decay'] = 0
    model = built(opt)
    step(model)
    model.save(0, 1)
    model.feed_data(batch(5))
    model.test()

    block = {
        **opt['distillation'],
        'aggregator': {'network': opt['network_g'], 'path': str(workspace.root / 'models' / 'net_g_1.pth')},
    }
    teacher = build_teachers({'distillation': block})
    assert torch.equal(teacher(Batch(batch(5)['lq'])).sr, model.output)


def test_the_checkpoint_remembers_the_teachers_and_another_order_is_refused(workspace):
    opt = parsed(workspace)
    model = built(opt)
    model.save(0, 1)
    path = str(workspace.root / 'models' / 'net_g_1.pth')
    assert torch.load(path, weights_only=True)['teachers'] == ['edsr', 'swinir']
    block = {
        'teachers': opt['distillation']['teachers'][::-1],
        'aggregator': {'network': opt['network_g'], 'path': path},
    }
    with pytest.raises(UserError, match='in this order'):
        build_teachers({'distillation': block})


def test_a_stage_one_checkpoint_resumes_in_basicsrs_own_loader(workspace):
    opt = parsed(workspace)
    model = built(opt)
    step(model)
    model.save(0, 1)
    opt['path'].update(pretrain_network_g=str(workspace.root / 'models' / 'net_g_1.pth'))
    again = built(opt)
    assert same(weights(model.net_g), weights(again.net_g))
    assert same(weights(model.net_g_ema), weights(again.net_g_ema))


def test_resuming_with_another_order_of_teachers_is_refused(workspace):
    opt = parsed(workspace)
    built(opt).save(0, 1)
    opt['path']['pretrain_network_g'] = str(workspace.root / 'models' / 'net_g_1.pth')
    opt['distillation']['teachers'].reverse()
    with pytest.raises(UserError, match='in this order'):
        built(opt)


def test_validation_takes_odd_images(workspace):
    model = built(parsed(workspace))
    model.feed_data({'lq': torch.rand(1, 3, 9, 14), 'gt': torch.rand(1, 3, 18, 28)})
    model.test()
    assert model.output.shape == (1, 3, 18, 28)
    with torch.no_grad():  # the aggregator pads the images itself, once, as in stage 2 and in `kdsr benchmark`
        assert torch.equal(model.output, model.net_g_ema(model.teacher_images))


def test_teachers_of_another_scale_are_refused(workspace):
    opt = parsed(workspace)
    opt['distillation']['teachers'] = [workspace.teacher('EDSR', 4), workspace.teacher('SwinIR', 4)]
    model = built(opt)
    with pytest.raises(UserError, match='this experiment is x2'):
        model.feed_data(batch())


def test_a_wrong_number_of_teachers_is_told(workspace):
    model = built(parsed(workspace, names=['EDSR']))
    with pytest.raises(UserError, match='for 2 teachers needs'):
        step(model)
