import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from kdsr.comparison.summary import gain, holm, summarise
from tests.helpers.comparisons import comparison, trained

RNG = np.random.default_rng(0)


@pytest.mark.parametrize('n', [2, 3, 10])
def test_shared_seeds_are_compared_seed_by_seed(n):
    a, b = RNG.normal(30, 0.1, n), RNG.normal(30.1, 0.1, n)
    expected = stats.ttest_rel(a, b)
    low, high = expected.confidence_interval(0.95)
    found = gain(dict(enumerate(a)), dict(enumerate(b)))
    assert found.test == 'paired t'
    assert found.mean == pytest.approx(a.mean() - b.mean())
    assert found.p == pytest.approx(expected.pvalue)
    assert (found.mean - found.half_width, found.mean + found.half_width) == pytest.approx((low, high))


def test_other_seeds_are_compared_as_independent_samples():
    a, b = RNG.normal(30, 0.1, 3), RNG.normal(30.1, 0.4, 5)
    expected = stats.ttest_ind(a, b, equal_var=False)
    low, high = expected.confidence_interval(0.95)
    found = gain(dict(enumerate(a)), {seed + 2: value for seed, value in enumerate(b)})  # one seed in common
    assert found.test == 'Welch'
    assert found.p == pytest.approx(expected.pvalue)
    assert (found.mean - found.half_width, found.mean + found.half_width) == pytest.approx((low, high))


def test_pairing_uses_only_the_seeds_that_both_have():
    found = gain({0: 31.0, 1: 31.2, 5: 99.0}, {0: 30.0, 1: 30.0, 2: 0.0})
    assert found.n == 2
    assert found.mean == pytest.approx(1.1)


def test_one_seed_gives_a_gain_and_no_significance():
    found = gain({0: 31.0}, {0: 30.0, 1: 30.5})
    assert found.mean == pytest.approx(0.75)
    assert math.isnan(found.p)
    assert found.test == 'too few seeds'
    assert gain({}, {0: 1.0}) is None


def test_equal_values_differ_by_nothing_and_constant_differences_are_certain():
    same = {0: 30.0, 1: 31.0}
    assert gain(same, same).p == 1
    assert gain({seed: value + 1 for seed, value in same.items()}, same).p == 0


def test_holm_stops_at_the_first_that_fails():
    assert holm({'a': 0.01, 'b': 0.04, 'c': 0.02}, 3) == {'a', 'c', 'b'}
    assert holm({'a': 0.01, 'b': 0.04, 'c': 0.02}, 4) == {'a'}
    assert holm({'a': 0.02, 'b': 0.04, 'c': 0.024}, 3) == set()
    assert holm({'a': 0.01, 'b': 0.04, 'c': 0.03}, 3) == {'a'}


def test_methods_that_are_not_finished_count_in_the_correction_and_single_runs_do_not(workspace):
    plan = comparison(workspace, {'plain': {}, 'fast': {}, 'slow': {}, 'teacher': {'seeds': [0]}})
    for label, values in {'plain': [30.0, 30.0, 30.0], 'fast': [30.5, 30.7, 30.35], 'teacher': [33.0]}.items():
        for run, value in zip(plan.of(label), values):
            trained(workspace, run, value)
    column = ('photos', 'psnr')
    assert 0.025 < summarise(plan).gain('fast', column).p < 0.05
    assert summarise(plan).significant(column) == set()
    slow = tuple(run for run in plan.runs if run.label != 'slow')
    assert summarise(replace(plan, runs=slow)).significant(column) == {'fast'}


def test_only_finished_runs_count_and_the_last_value_is_the_result(workspace):
    plan = comparison(workspace)
    for seed, run in enumerate(plan.of('plain')):
        trained(workspace, run, 30.0 + seed, ended=seed < 2)
    summary = summarise(plan)
    assert summary.columns == [('photos', 'psnr')]
    assert summary.values('plain', ('photos', 'psnr')) == {0: 30.0, 1: 31.0}
    assert summary.values('fast', ('photos', 'psnr')) == {}
    assert summary.gain('fast', ('photos', 'psnr')) is None
    assert summary.best('plain', ('photos', 'psnr')) == 30.5
