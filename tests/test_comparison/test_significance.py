"""T tests against their definition, and Holm's correction."""

import math

import numpy as np
import pytest
from scipy import stats

from kdsr.comparison.significance import compute_gain, select_by_holm

RNG = np.random.default_rng(0)


def student_t(mean, error, freedom):
    """Return the p value and the limits of the 95 % interval from the distribution itself."""
    half = stats.t.ppf(0.975, freedom) * error
    return 2 * stats.t.sf(abs(mean) / error, freedom), (mean - half, mean + half)


def test_a_paired_test_worked_out_by_hand():
    """Differences 0.5, 0.6, 0.4: t = 0.5 / (0.1 / sqrt(3)), two degrees of freedom, p = 1 - t / sqrt(t^2 + 2)."""
    found = compute_gain({0: 30.5, 1: 30.7, 2: 30.6}, {0: 30.0, 1: 30.1, 2: 30.2})
    assert (found.test, found.n, found.fewest) == ('paired t', 3, 3)
    assert found.mean == pytest.approx(0.5)
    assert found.p == pytest.approx(0.013072, abs=1e-6)
    assert found.half_width == pytest.approx(4.302653 * 0.1 / 3**0.5, abs=1e-6)


def test_welchs_test_worked_out_by_hand():
    """Variances 0.02 and 0.02 of two values each: error sqrt(0.02), two degrees of freedom."""
    found = compute_gain({0: 30.0, 1: 30.2}, {5: 29.0, 6: 29.2})
    assert (found.test, found.n, found.fewest) == ('Welch', 2, 2)
    assert found.p == pytest.approx(0.019419, abs=1e-6)
    assert found.half_width == pytest.approx(4.302653 * 0.02**0.5, abs=1e-6)


@pytest.mark.parametrize('n', [2, 3, 10])
def test_shared_seeds_are_compared_seed_by_seed(n):
    a, b = RNG.normal(30, 0.1, n), RNG.normal(30.1, 0.1, n)
    p, limits = student_t((a - b).mean(), (a - b).std(ddof=1) / n**0.5, n - 1)
    found = compute_gain(dict(enumerate(a)), dict(enumerate(b)))
    assert found.test == 'paired t'
    assert found.mean == pytest.approx(a.mean() - b.mean())
    assert found.p == pytest.approx(p)
    assert (found.mean - found.half_width, found.mean + found.half_width) == pytest.approx(limits)


def test_other_seeds_are_compared_as_independent_samples():
    a, b = RNG.normal(30, 0.1, 3), RNG.normal(30.1, 0.4, 5)
    parts = [x.var(ddof=1) / len(x) for x in (a, b)]
    freedom = sum(parts) ** 2 / sum(part**2 / (len(x) - 1) for part, x in zip(parts, (a, b)))
    p, limits = student_t(a.mean() - b.mean(), sum(parts) ** 0.5, freedom)
    found = compute_gain(dict(enumerate(a)), {seed + 2: value for seed, value in enumerate(b)})  # one seed in common
    assert (found.test, found.fewest) == ('Welch', 3)
    assert found.p == pytest.approx(p)
    assert (found.mean - found.half_width, found.mean + found.half_width) == pytest.approx(limits)


def test_pairing_uses_only_the_seeds_that_both_have():
    found = compute_gain({0: 31.0, 1: 31.2, 5: 99.0}, {0: 30.0, 1: 30.0, 2: 0.0})
    assert found.n == 2
    assert found.mean == pytest.approx(1.1)


def test_one_seed_gives_a_gain_and_no_significance():
    found = compute_gain({0: 31.0}, {0: 30.0, 1: 30.5})
    assert found.mean == pytest.approx(0.75)
    assert math.isnan(found.p)
    assert found.test == 'too few seeds'
    assert compute_gain({}, {0: 1.0}) is None


def test_equal_values_differ_by_nothing_and_constant_differences_are_certain():
    same = {0: 30.0, 1: 31.0}
    assert compute_gain(same, same).p == 1
    assert compute_gain({seed: value + 1 for seed, value in same.items()}, same).p == 0


def test_holm_stops_at_the_first_that_fails():
    assert select_by_holm({'a': 0.01, 'b': 0.04, 'c': 0.02}, 3) == {'a', 'c', 'b'}
    assert select_by_holm({'a': 0.01, 'b': 0.04, 'c': 0.02}, 4) == {'a'}
    assert select_by_holm({'a': 0.02, 'b': 0.04, 'c': 0.024}, 3) == set()
    assert select_by_holm({'a': 0.01, 'b': 0.04, 'c': 0.03}, 3) == {'a'}
