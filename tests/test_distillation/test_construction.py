"""Networks that would be absurdly large are refused while they are built."""

import pytest
import torch
from basicsr.archs import build_network
from torch import nn

from kdsr.checks.skeletons import find_refused_arguments
from kdsr.distillation import construction
from kdsr.distillation.building import build_network_at
from kdsr.errors import UserError
from tests.conftest import network_opt


def changed(**changes):
    return {**network_opt('EDSR'), **changes}


@pytest.mark.parametrize(
    ('changes', 'words'),
    [
        ({'num_block': 10**8}, r'g\.num_block is larger than 1,000,000'),
        ({'num_feat': 10**30}, r'g\.num_feat is larger'),
        ({'rgb_mean': [0, 10**9, 0]}, r'g\.rgb_mean\[1\] is larger'),
        ({'num_feat': -3}, 'EDSR refuses its arguments: RuntimeError: .*negative'),
        ({'num_feat': 'x'}, 'num_feat. must be a number'),
        ({'num_block': []}, 'num_block. must be a number'),
        ({'num_block': 1.5}, 'EDSR refuses its arguments: TypeError|must be a'),
        ({'upscale': 5}, 'EDSR refuses its arguments: scale 5'),
    ],
)
def test_arguments_of_absurd_sizes_are_refused(changes, words):
    with pytest.raises(UserError, match=words):
        build_network_at('g', changed(**changes))


@pytest.mark.parametrize(
    ('bound', 'value', 'changes'), [('MOST_MODULES', 40, {'num_block': 20}), ('MOST_VALUES', 9999, {'num_feat': 32})]
)
def test_a_network_is_bounded_while_it_is_built(monkeypatch, bound, value, changes):
    build_network_at('g', changed(**changes))
    monkeypatch.setattr(construction, bound, value)
    with pytest.raises(UserError, match=f'with these arguments EDSR has more than {value:,}'):
        build_network_at('g', changed(**changes))
    build_network_at('g', changed(num_feat=2, num_block=1))  # nothing is left behind


def test_a_check_refuses_too_many_modules(monkeypatch):
    monkeypatch.setattr(construction, 'MOST_MODULES', 50)
    assert 'more than 50 modules' in find_refused_arguments(changed(num_block=33))
    assert 'is larger than' in find_refused_arguments(changed(num_block=10**8))


@pytest.mark.parametrize('make', [
    lambda n: torch.empty(n, n), lambda n: torch.Tensor(n, n), lambda n: torch.zeros((n, n)),
    lambda n: torch.arange(n * n), lambda n: torch.linspace(0, 1, n * n), lambda n: nn.Conv2d(n, n, 1),
    lambda n: torch.zeros(1).new_empty(1) if n < 100 else torch.full((n, n), 1.0),
])  # fmt: skip
def test_sizes_are_seen_before_memory_is_taken(monkeypatch, make):
    monkeypatch.setattr(construction, 'MOST_VALUES', 9_000)
    with construction.bound_construction('X'):
        make(10)
    with pytest.raises(UserError, match='X has more than 9,000 values'), construction.bound_construction('X'):
        make(100)


def test_a_loop_over_a_tensor_counts(monkeypatch):
    monkeypatch.setattr(construction, 'MOST_MODULES', 50)
    with pytest.raises(UserError, match='values'), construction.bound_construction('X'):
        [float(x) for x in torch.linspace(0, 1, 60)]


@pytest.mark.parametrize('name', ['EDSR', 'RCAN', 'SwinIR', 'DCTSwin'])
def test_the_bounds_change_no_bit_of_the_first_weights(name):
    torch.manual_seed(3)
    expected = build_network(network_opt(name)).state_dict()
    torch.manual_seed(3)
    built = build_network_at('g', network_opt(name)).state_dict()
    assert all(torch.equal(expected[key], built[key]) for key in expected)
