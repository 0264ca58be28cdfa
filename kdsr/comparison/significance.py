"""Whether two runs differ by more than chance: t tests over seeds, and Holm's correction for several tests."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import stats

LEVEL = 0.05  # of significance
FEWEST_SEEDS = 3  # two seeds give one degree of freedom, which shows nothing

Test = Literal['paired t', 'Welch', 'too few seeds']


@dataclass(frozen=True)
class Gain:
    """The difference between a run and the baseline, in the unit of the metric.

    Attributes:
        mean: Difference of the means.
        half_width: Half of the 95 % confidence interval; nan with too few seeds.
        p: Two-sided p value of "there is no difference"; nan with too few seeds.
        test: The test that was made.
        n: Seeds of the run that were used.
        fewest: Seeds of the run or of the baseline that were used, whichever are fewer.
    """

    mean: float
    half_width: float
    p: float
    test: Test
    n: int
    fewest: int

    @property
    def is_testable(self) -> bool:
        """Whether there are enough seeds to call the difference significant."""
        return self.fewest >= FEWEST_SEEDS and not math.isnan(self.p)


def compute_mean_and_spread(values: Sequence[float]) -> tuple[float, float]:
    """Return the mean and the sample standard deviation; nan for what cannot be computed."""
    mean = float(np.mean(values)) if len(values) else math.nan
    return mean, float(np.std(values, ddof=1)) if len(values) > 1 else math.nan


def compute_gain(values: Mapping[int, float], baseline: Mapping[int, float]) -> Gain | None:
    """Compare a run with the baseline.

    The test is paired over the seeds that both have, if there are at least two of them; otherwise it is Welch's test
    of independent samples.

    Args:
        values: Seed to value of the run.
        baseline: Seed to value of the baseline.

    Returns:
        The gain; None where one of the two has no values.

    Example:
        >>> found = compute_gain({0: 30.5, 1: 30.7, 2: 30.6}, {0: 30.0, 1: 30.1, 2: 30.2})
        >>> found.test, round(found.mean, 2), round(found.p, 3)
        ('paired t', 0.5, 0.013)
    """
    if not values or not baseline:
        return None
    shared = [seed for seed in values if seed in baseline]
    if len(shared) > 1:
        ours, theirs = ([of[seed] for seed in shared] for of in (values, baseline))
        return _test('paired t', ours, theirs)
    ours, theirs = list(values.values()), list(baseline.values())
    if min(len(ours), len(theirs)) > 1:
        return _test('Welch', ours, theirs)
    difference = float(np.mean(ours) - np.mean(theirs))
    return Gain(difference, math.nan, math.nan, 'too few seeds', len(ours), min(len(ours), len(theirs)))


def _test(test: Literal['paired t', 'Welch'], ours: Sequence[float], theirs: Sequence[float]) -> Gain:
    paired = test == 'paired t'
    counts = {'n': len(ours), 'fewest': min(len(ours), len(theirs))}
    difference = float(np.mean(np.subtract(ours, theirs)) if paired else np.mean(ours) - np.mean(theirs))
    spreads = [np.ptp(np.subtract(ours, theirs))] if paired else [np.ptp(ours), np.ptp(theirs)]
    if not any(spreads):  # the same difference in every seed, to the last bit: a t test would divide by 0
        return Gain(difference, 0.0, 1.0 if difference == 0 else 0.0, test, **counts)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', RuntimeWarning)  # scipy's hint that nearly equal values lose digits
        result = stats.ttest_rel(ours, theirs) if paired else stats.ttest_ind(ours, theirs, equal_var=False)
        low, high = result.confidence_interval(1 - LEVEL)
    return Gain(difference, float(high - low) / 2, float(result.pvalue), test, **counts)


def select_by_holm(p_values: Mapping[str, float], tests: int) -> set[str]:
    """Return the names whose p value is significant at 0.05 after Holm's correction.

    Args:
        p_values: Name to p value of the tests that were made.
        tests: How many tests there are in all.
    """
    significant = set()
    for rank, (p, name) in enumerate(sorted((p, name) for name, p in p_values.items())):
        if p > LEVEL / (tests - rank):
            break
        significant.add(name)
    return significant
