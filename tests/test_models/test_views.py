"""Views in a training step: one optimiser step on the sum of all terms."""

import pytest
import torch

from kdsr.errors import UserError
from tests.conftest import network_opt
from tests.helpers.models import FITNET, RESPONSE, TAPS, batch, built, model_batch, parsed, same, step, weights

VIEWS = {'zoom_in': {'type': 'ZoomIn', 'count': 2}, 'zoom_out': {'type': 'ZoomOut'}}


def with_views(workspace, views=VIEWS, **changes):
    opt = parsed(workspace, **changes)
    opt['distillation']['views'] = views
    return opt


def test_views_add_terms_of_their_own_to_one_step(workspace, monkeypatch):
    model = built(with_views(workspace, losses={**RESPONSE, **FITNET}, features=TAPS))
    steps, teacher = [], weights(model.teacher)
    monkeypatch.setattr(model.optimizer_g, 'step', lambda: steps.append(1))
    step(model)
    log = model.get_current_log()
    assert list(log) == ['l_pix', 'l_kd', 'l_fit', 'l_kd_zoom_in', 'l_pix_zoom_out', 'l_kd_zoom_out']
    assert len(steps) == 1
    assert same(teacher, weights(model.teacher))
    assert all(p.grad is None for p in model.teacher.parameters())
    assert model.output.shape == (2, 3, 32, 32)  # BasicSR's visuals are the pair's


def test_every_term_moves_the_student_and_the_step_takes_their_sum(workspace):
    model = built(with_views(workspace))
    parameters = list(model.net_g.parameters())
    model.feed_data(batch())
    torch.manual_seed(5)  # the draws of the views
    terms = model.loss_terms(model_batch(model))
    assert len(terms) == 5
    gradients = [torch.autograd.grad(term, parameters, retain_graph=True) for term in terms.values()]
    assert all(sum(g.abs().sum() for g in gradient) > 0 for gradient in gradients)
    torch.manual_seed(5)
    step(model)
    for parameter, *parts in zip(parameters, *gradients):
        torch.testing.assert_close(parameter.grad, sum(parts), rtol=1e-4, atol=1e-6)


def test_views_of_weight_zero_leave_the_student_bit_identical(workspace):
    """Building them must not move the student's random stream either."""
    off = {name: {**view, 'loss_weight': 0.0} for name, view in VIEWS.items()}
    states, trained = [], []
    for views in (off, {}):
        model = built(with_views(workspace, views))
        states.append(torch.get_rng_state())
        for i in range(2):
            step(model, batch(i), i + 1)
        trained.append(weights(model.net_g))
    assert torch.equal(*states)
    assert same(*trained)


def test_without_views_nothing_is_drawn(workspace):
    model = built(with_views(workspace, {'zoom_in': None}))
    state = torch.get_rng_state()
    step(model)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_student_with_windows_sees_views_of_any_size(workspace):
    opt = with_views(workspace, network_g=network_opt('SwinIRLight'))
    opt['datasets']['train']['gt_size'] = 24  # LR 12, zoomed out 6, windows of 4
    model = built(opt)
    step(model, {'lq': torch.rand(2, 3, 12, 12), 'gt': torch.rand(2, 3, 24, 24)})
    assert 'l_pix_zoom_out' in model.get_current_log()


def privileged(workspace):
    return {'teachers': [{**workspace.teacher('EDSR', 1), 'input': 'gt'}]}


@pytest.mark.parametrize(('views', 'change', 'words'), [
    ({'v': {'type': 'ZoomIn', 'count': 9}}, lambda w: {}, r'views\.v: `count` must be from 1 to 4'),
    ({'v': {'type': 'ZoomIn'}}, lambda w: {'losses': FITNET, 'features': TAPS}, r'views\.v: nothing is compared'),
    ({'v': {'type': 'ZoomIn'}}, privileged, r'views\.v: teacher .* needs the ground truth'),
    ({'v': {'count': 1}}, lambda w: {}, r'views\.v: needs a `type:`'),
    ({'v.1': {'type': 'ZoomIn'}}, lambda w: {}, r'views\.v\.1: the name ends those of its losses'),
    ({'v': {'type': 'ZoomIn'}}, lambda w: {'losses': {**RESPONSE, 'l_kd_v': RESPONSE['l_kd']}}, 'l_kd l_kd_v, the'),
])  # fmt: skip
def test_mistakes_are_told_before_the_first_iteration(workspace, views, change, words):
    with pytest.raises(UserError, match=words):
        built(with_views(workspace, views, **change(workspace)))
