"""States of optimisers that would fail in the first step are refused; a metric that a state lacks starts anew."""

import copy
import math

import pytest
import torch

from kdsr.lifecycle.saving import _complete
from kdsr.lifecycle.state_fit import check_optimizers


def stepped():
    layer = torch.nn.Linear(2, 3)
    adam = torch.optim.Adam(layer.parameters())
    layer(torch.ones(1, 2)).sum().backward()
    adam.step()
    return adam


@pytest.mark.parametrize(('damage', 'text'), [
    (lambda state: state['param_groups'][0].pop('weight_decay'), "no 'weight_decay'"),
    (lambda state: state['param_groups'][0].update(capturable=True), "'capturable'"),
    (lambda state: state['param_groups'][0].update(lr=1e300), "'lr'"),
    (lambda state: state['param_groups'][0].update(lr=math.inf), "'lr'"),
    (lambda state: state['state'][0].pop('exp_avg'), "lacks 'exp_avg'"),
    (lambda state: state['state'][1].pop('exp_avg_sq'), "lacks 'exp_avg_sq'"),
])  # fmt: skip
def test_a_damaged_state_is_named(damage, text):
    adam = stepped()
    state = copy.deepcopy(adam.state_dict())
    check_optimizers([adam])
    damage(state)
    adam.load_state_dict(state)
    with pytest.raises(ValueError, match=text):
        check_optimizers([adam])


OPTIMISERS = (
    'ASGD',
    'Adadelta',
    'Adafactor',
    'Adagrad',
    'Adam',
    'AdamW',
    'Adamax',
    'NAdam',
    'RAdam',
    'RMSprop',
    'Rprop',
    'SGD',
)


@pytest.mark.parametrize('name', OPTIMISERS)
def test_the_own_states_of_optimisers_fit(name):
    network = torch.nn.Conv2d(3, 4, 3)
    one, other = (getattr(torch.optim, name)(network.parameters(), lr=1e-3) for _ in range(2))
    for _ in range(2):
        network(torch.ones(1, 3, 8, 8)).sum().backward()
        one.step()
    other.load_state_dict(copy.deepcopy(one.state_dict()))
    check_optimizers([other])


def test_a_metric_that_is_new_starts_without_a_best_value():
    opt = {'val': {'metrics': {'psnr': {}, 'niqe': {'better': 'lower'}}}}
    saved = {'Set5': {'psnr': {'better': 'higher', 'val': 30.0, 'iter': 4}}}
    completed = _complete(saved, opt)
    assert completed['Set5']['psnr']['val'] == 30.0
    assert completed['Set5']['niqe'] == {'better': 'lower', 'val': math.inf, 'iter': -1}
