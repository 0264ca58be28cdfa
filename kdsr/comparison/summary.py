"""What the runs of a comparison amount to: mean, spread, gain over the baseline, and whether it could be chance."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from kdsr.comparison.plan import Comparison, PlannedRun, validation_sets
from kdsr.comparison.runs import is_finished
from kdsr.comparison.training_record import Point, Record, read_record

Column = tuple[str, str]  # validation set, metric
LEVEL = 0.05


@dataclass(frozen=True)
class Gain:
    """How much better or worse than the baseline, in the metric's own unit.

    Attributes:
        mean: Difference of the means.
        half_width: Of its 95 % confidence interval; nan when there are too few seeds.
        p: Two-sided, of the hypothesis that there is no difference; nan when there are too few seeds.
        test: 'paired t', 'Welch' or 'too few seeds'.
        n: Seeds of the run that entered.
    """

    mean: float
    half_width: float
    p: float
    test: str
    n: int


@dataclass(frozen=True)
class RunResult:
    """A run with one seed, as far as it has come."""

    run: PlannedRun
    record: Record | None

    @property
    def finished(self) -> bool:
        """Whether it was trained to its end."""
        return is_finished(self.run, self.record)

    def curve(self, column: Column) -> list[Point]:
        """Return the validations of one set and metric."""
        return self.record.curves.get(column, []) if self.record else []

    def last(self, column: Column) -> float | None:
        """Return the validation after the last iteration, of a finished run."""
        curve = self.curve(column)
        return curve[-1].value if curve and self.finished else None


@dataclass(frozen=True)
class Summary:
    """A comparison with its results.

    Attributes:
        comparison: The plan.
        results: Label to its runs, a run for each seed; stages that are not shown in tables too.
    """

    comparison: Comparison
    results: Mapping[str, Sequence[RunResult]]

    @property
    def all(self) -> list[RunResult]:
        """Every run with every seed."""
        return [result for results in self.results.values() for result in results]

    @property
    def on_gpu(self) -> bool:
        """Whether a run was trained on one, where processor time says little."""
        return any(start.get('gpu') for result in self.all if result.record for start in result.record.starts)

    @property
    def columns(self) -> list[Column]:
        """The validation sets with their metrics, in the order of the options."""
        opt = self.comparison.of(self.comparison.baseline)[0].opt
        return [(name, metric) for metric in opt['val']['metrics'] for name in validation_sets(opt)]

    def values(self, label: str, column: Column) -> dict[int, float]:
        """Return seed to last value of the finished runs."""
        found = {result.run.seed: result.last(column) for result in self.results[label]}
        return {seed: value for seed, value in found.items() if value is not None}

    def best(self, label: str, column: Column) -> float:
        """Return the mean over finished seeds of the best validation during training; nan when there is none."""
        metric = self.comparison.of(self.comparison.baseline)[0].opt['val']['metrics'][column[1]]
        choose = min if metric.get('better') == 'lower' else max
        best = [choose(p.value for p in r.curve(column)) for r in self.results[label] if r.finished and r.curve(column)]
        return float(np.mean(best)) if best else math.nan

    def gain(self, label: str, column: Column) -> Gain | None:
        """Return the gain over the baseline; None where one of the two has no finished run."""
        return gain(self.values(label, column), self.values(self.comparison.baseline, column))

    def significant(self, column: Column) -> set[str]:
        """Return the labels whose difference from the baseline is significant, corrected for their number (Holm).

        A label that has no p value yet, because its runs are not finished, counts in that number.
        """
        others = [label for label in self.comparison.shown if label != self.comparison.baseline]
        gains = {label: self.gain(label, column) for label in others}
        p_values = {label: found.p for label, found in gains.items() if found and not math.isnan(found.p)}
        open_ones = [n for n in others if n not in p_values and not all(r.finished for r in self.results[n])]
        return holm(p_values, len(p_values) + len(open_ones))


def summarise(comparison: Comparison) -> Summary:
    """Read the records of all runs of a comparison."""
    results = {
        label: [RunResult(run, read_record(run.folder)) for run in comparison.of(label)] for label in comparison.labels
    }
    return Summary(comparison, results)


def mean_and_spread(values: Sequence[float]) -> tuple[float, float]:
    """Return the mean and the sample standard deviation; nan for what cannot be computed."""
    mean = float(np.mean(values)) if len(values) else math.nan
    return mean, float(np.std(values, ddof=1)) if len(values) > 1 else math.nan


def gain(values: Mapping[int, float], baseline: Mapping[int, float]) -> Gain | None:
    """Compare two runs, seed by seed where they share at least two seeds, otherwise as independent samples.

    Args:
        values: Seed to value.
        baseline: The same of the baseline.
    """
    if not values or not baseline:
        return None
    shared = [seed for seed in values if seed in baseline]
    if len(shared) > 1:
        mean, deviation = mean_and_spread([values[seed] - baseline[seed] for seed in shared])
        return _tested(mean, deviation / math.sqrt(len(shared)), len(shared) - 1, 'paired t', len(shared))
    (mean, spread), (mean_b, spread_b) = (mean_and_spread(list(v.values())) for v in (values, baseline))
    if min(len(values), len(baseline)) < 2:
        return Gain(mean - mean_b, math.nan, math.nan, 'too few seeds', len(values))
    part, part_b = spread**2 / len(values), spread_b**2 / len(baseline)
    freedom = part**2 / (len(values) - 1) + part_b**2 / (len(baseline) - 1)
    freedom = (part + part_b) ** 2 / freedom if freedom else math.inf  # Welch-Satterthwaite
    return _tested(mean - mean_b, math.sqrt(part + part_b), freedom, 'Welch', len(values))


def _tested(mean: float, error: float, freedom: float, test: str, n: int) -> Gain:
    if error == 0:  # the same to the last bit in every seed
        return Gain(mean, 0.0, 1.0 if mean == 0 else 0.0, test, n)
    p = 2 * float(stats.t.sf(abs(mean) / error, freedom))
    return Gain(mean, float(stats.t.ppf(1 - LEVEL / 2, freedom)) * error, p, test, n)


def holm(p_values: Mapping[str, float], tests: int) -> set[str]:
    """Return the names whose p value is significant at 0.05 after Holm's correction.

    Args:
        p_values: Of the tests that were made.
        tests: How many are made in all.
    """
    significant = set()
    for rank, (p, name) in enumerate(sorted((p, name) for name, p in p_values.items())):
        if p > LEVEL / (tests - rank):
            break
        significant.add(name)
    return significant
