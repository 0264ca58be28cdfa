"""Bad numbers stop a run and say whose they are; losses that teach nothing are told before they cost a day."""

import re

import pytest
import torch
from basicsr.utils.registry import LOSS_REGISTRY

from kdsr.distillation.distillation_loss import DistillationLoss
from kdsr.errors import UserError
from kdsr.models.watching import COLLAPSED, NumberWatch, check_reach, collapsed, norms_by_term
from tests.helpers.logs import log_of
from tests.helpers.models import FITNET, RESPONSE, TAPS, ReadValues, batch, parsed, step, student, weights

NAN, INF = float('nan'), float('inf')


def numbers(**values):
    return {name: torch.tensor(value) for name, value in values.items()}


def test_the_first_bad_numbers_are_named_in_the_order_of_the_steps():
    watch = NumberWatch()
    watch.note(1, numbers(a=1.0, b=-3e38))
    assert watch.first_bad() is None
    watch.note(2, numbers(a=NAN, b=1.0, c=-INF))
    watch.note(3, numbers(a=NAN))
    assert watch.first_bad() == (2, ['a', 'c'])
    assert watch.first_bad() == (3, ['a'])
    assert watch.first_bad() is None


class Event:
    """Of a GPU that is `steps` queries behind."""

    def __init__(self, steps):
        self.steps = steps

    def query(self):
        self.steps -= 1
        return self.steps < 0

    def synchronize(self):
        self.steps = 0


def test_numbers_that_are_on_their_way_are_not_waited_for_unless_long_overdue():
    watch = NumberWatch()
    for i in range(9):
        watch.note(i, numbers(a=NAN if i == 0 else 1.0))
        watch._pending[-1] = (*watch._pending[-1][:3], Event(100))
        assert watch.first_bad() == (None if i < 8 else (0, ['a']))
    assert watch.first_bad() is None
    assert len(watch._pending) == 8
    assert watch.first_bad(wait=True) is None
    assert not watch._pending


def test_the_scale_of_fp16_may_shrink_but_not_vanish():
    assert collapsed(torch.tensor(COLLAPSED)) == COLLAPSED
    assert collapsed(torch.tensor(COLLAPSED / 2)).isnan()


def test_norms_are_those_of_each_terms_own_gradient():
    x, y = (torch.nn.Parameter(torch.tensor([3.0, 4.0])) for _ in range(2))
    terms = {'a': (x**2).sum(), 'b': x.sum() * 0, 'c': y.sum(), 'd': torch.tensor(2.0), 'e': x.detach().sum()}
    assert norms_by_term(terms, [x]) == {'a': 10.0, 'b': 0.0, 'c': None, 'd': None, 'e': None}
    assert x.grad is None


def test_terms_that_do_not_reach_the_student_are_refused_and_those_that_hardly_count_are_told():
    with pytest.raises(UserError, match=r'the gradient of l_b, l_c does not reach the student'):
        check_reach(numbers(l_a=1.0, l_b=0.0, l_c=1.0), {'l_a': 1.0, 'l_b': None, 'l_c': None})
    terms = numbers(l_a=1.0, l_b=1.0, l_c=1.0, l_zero=0.0, l_flat=1.0)
    told = check_reach(terms, {'l_a': 300.0, 'l_b': 2.0, 'l_c': 4.0, 'l_zero': 0.0, 'l_flat': 0.0})
    assert [line.split(' is ')[0] for line in told] == ['the gradient of l_flat', 'the gradient of l_b']
    assert '150 times smaller than that of l_a in the first step (less than 1 %)' in told[1]
    assert 'If a paper gives these weights, keep them' in told[1]


@pytest.fixture
def losses():
    """Losses that are wrong, registered for one test."""

    class Detached(DistillationLoss):
        def distance(self, student, teacher, batch):
            return (student.sr.detach() - teacher.sr).abs().mean()

    class Sqrt(DistillationLoss):
        """Its value is 0, its gradient is not a number."""

        def distance(self, student, teacher, batch):
            return (student.sr - student.sr.detach()).sqrt().mean()

    for loss in (Detached, Sqrt):
        LOSS_REGISTRY._obj_map[loss.__name__] = loss
    yield
    for name in ('Detached', 'Sqrt'):
        del LOSS_REGISTRY._obj_map[name]


@pytest.mark.usefixtures('losses')
def test_a_detached_loss_stops_the_run_in_the_first_step(workspace):
    opt = workspace.options(model_type='DistillationModel')
    loss = {'l_lost': {'type': 'Detached'}, **RESPONSE}
    opt['distillation'] = {'teachers': [workspace.teacher('RCAN')], 'losses': loss}
    with pytest.raises(UserError, match='the gradient of l_lost does not reach the student'):
        workspace.train(opt)
    opt['distillation']['losses'] = {'l_kd': {'type': 'ResponseLoss', 'loss_weight': 1e-4}}
    log = log_of(workspace.train({**opt, 'name': 'small'}))
    assert re.search(r'WARNING: the gradient of l_kd is [\d.e+]+ times smaller than that of l_pix', log)


@pytest.mark.usefixtures('losses')
def test_bad_gradients_are_traced_to_their_term_and_leave_something_to_look_at(workspace):
    opt = workspace.options(model_type='DistillationModel', iterations=4)
    opt['distillation'] = {
        'teachers': [workspace.teacher('RCAN')],
        'losses': {**RESPONSE, 'l_root': {'type': 'Sqrt'}},
    }
    with pytest.raises(UserError, match=r'iteration 1: the gradient of l_root: not finite.*skip_nonfinite'):
        workspace.train(opt)
    folder = workspace.root / 'experiments' / 'run'
    assert sorted(p.name for p in (folder / 'models').iterdir()) == ['net_g_nonfinite_1.pth']
    state = torch.load(folder / 'training_states' / 'nonfinite_1.state', weights_only=False)
    assert state['lq'].shape == (2, 3, 16, 16)
    kept = torch.load(folder / 'models' / 'net_g_nonfinite_1.pth', weights_only=True)['params']
    assert all(tensor.isfinite().all() for tensor in kept.values())  # from before the step
    opt['train']['skip_nonfinite'] = 2
    with pytest.raises(UserError, match=r'iteration 3: the gradient of l_root: not finite'):
        workspace.train(opt, '--auto_resume')


def test_a_live_teacher_that_gives_numbers_that_are_not_finite_is_named(workspace):
    """Its weights are finite; its result overflows. A lower learning rate would change nothing."""
    good, bad = workspace.teacher('RCAN'), workspace.teacher('EDSR')
    content = torch.load(bad['path'], weights_only=True)
    torch.save({'params': {key: 1e38 * value.sign() for key, value in content['params'].items()}}, bad['path'])
    opt = workspace.options(model_type='DistillationModel')
    opt['distillation'] = {'teachers': [good, bad], 'losses': RESPONSE}
    with pytest.raises(UserError, match=r"l_kd.*not finite, because teacher 'edsr' gives values") as stopped:
        workspace.train(opt)
    assert 'learning rate' not in str(stopped.value)


def test_a_ground_truth_that_is_not_finite_is_named(workspace):
    model = student(workspace, skip_nonfinite=0)
    data = {'lq': torch.rand(2, 3, 16, 16), 'gt': torch.full((2, 3, 32, 32), torch.nan)}
    model.feed_data(data)
    with pytest.raises(UserError, match='not finite, because the ground truth of the batch gives values'):
        model.optimize_parameters(1)


def test_a_step_with_a_bad_loss_is_left_out_and_counted(workspace):
    model = student(workspace, skip_nonfinite=1)
    before, averaged = weights(model.net_g), weights(model.net_g_ema)
    bad = batch()
    bad['gt'][0, 0, 0, 0] = NAN
    step(model, bad)
    assert all(torch.equal(before[k], v) for k, v in model.net_g.state_dict().items())
    assert all(torch.equal(averaged[k], v) for k, v in model.net_g_ema.state_dict().items())
    assert not model.optimizer_g.state
    assert model.state_extras() == {'skipped': 1}
    step(model, batch(), 2)
    model.opt['path']['training_states'] = str(workspace.root / 'models')
    with pytest.raises(UserError, match=r'iteration 3: l_pix: not finite'):
        step(model, bad, 3)


def test_a_resumed_run_remembers_how_many_steps_were_left_out(workspace):
    model = student(workspace, skip_nonfinite=1)
    model.opt['path']['training_states'] = str(workspace.root / 'models')
    bad = batch()
    bad['gt'][0, 0, 0, 0] = NAN
    step(model, bad)
    step(model, batch(), 2)
    model.save(0, 2)
    resumed = student(workspace, skip_nonfinite=1)
    resumed.opt['path']['training_states'] = str(workspace.root / 'models')
    resumed.resume_training(torch.load(workspace.root / 'models' / '2.state', weights_only=True))
    with pytest.raises(UserError, match=r'iteration 3: l_pix: not finite'):
        step(resumed, bad, 3)


def test_no_checkpoint_is_saved_before_the_numbers_of_all_steps_are_here(workspace):
    """As on a GPU that is behind: what was noted last cannot be read yet."""
    model = student(workspace)
    model.opt['path']['training_states'] = str(workspace.root / 'models')
    model.feed_data(batch())
    model.guard.note(1, numbers(l_late=NAN))
    watch = model.guard._watch
    watch._pending[-1] = (*watch._pending[-1][:3], Event(100))
    with pytest.raises(UserError, match=r'iteration 1: l_late: not finite'):
        model.save(0, 1)
    assert not (workspace.root / 'models' / 'net_g_1.pth').exists()


def test_fp16_may_leave_out_steps_by_itself(workspace):
    model = student(workspace, amp='fp16')
    model.net_g.conv_last.weight.register_hook(lambda gradient: gradient * INF)
    step(model)
    assert model.scaler.get_scale() == 2.0**15
    model.scaler = torch.amp.GradScaler('cpu', init_scale=COLLAPSED / 2)
    model.opt['path']['training_states'] = str(workspace.root / 'models')
    with pytest.raises(UserError, match=r'the scale of `amp: fp16`: not finite.*`amp: bf16` does not overflow'):
        step(model, batch(), 2)


def test_looking_at_the_terms_changes_nothing(workspace):
    opt = parsed(workspace, losses={**RESPONSE, **FITNET}, features=TAPS)
    results = []
    for first in (1, 2):
        model = student(workspace, 'DistillationModel')
        for i in range(2):
            torch.manual_seed(i)
            step(model, batch(i), i + first)
        results.append(weights(model.net_g))
    assert opt
    assert all(torch.equal(results[0][k], v) for k, v in results[1].items())


def test_watching_reads_nothing_from_the_device_while_it_works(workspace):
    adam = {'type': 'Adam', 'lr': 1e-3, 'fused': True}
    model = student(workspace, optim_g=adam)
    step(model)
    with ReadValues() as reads:
        model.optimize_parameters(2)
    assert reads.count == 0
