"""The results of a comparison: the value of every run, and its gain over the baseline."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from kdsr.comparison.planned_runs import Comparison, PlannedRun
from kdsr.comparison.runs import is_finished
from kdsr.comparison.significance import Gain, compute_gain, select_by_holm
from kdsr.comparison.training_record import Point, Record, read_record

Column = tuple[str, str]  # validation set, metric


@dataclass(frozen=True)
class RunResult:
    """A run with one seed, and its record so far; None where it has not started."""

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
        """Return the validation after the last iteration; None if the run is not finished."""
        curve = self.curve(column)
        return curve[-1].value if curve and self.finished else None


@dataclass(frozen=True)
class Summary:
    """A comparison with its results.

    Attributes:
        comparison: The plan.
        results: Label to its runs, one for each seed. Stages that no table shows are included.
    """

    comparison: Comparison
    results: Mapping[str, Sequence[RunResult]]

    @property
    def all(self) -> list[RunResult]:
        """Every run with every seed."""
        return [result for results in self.results.values() for result in results]

    @property
    def on_gpu(self) -> bool:
        """Whether any run was trained on a GPU, where processor time says little."""
        return any(start.get('gpu') for result in self.all if result.record for start in result.record.starts)

    @property
    def columns(self) -> list[Column]:
        """The validation sets with their metrics, in the order of the options."""
        experiment = self.comparison.baseline_run.experiment
        return [(name, metric) for metric in experiment.validation.metrics for name in experiment.validation_sets]

    def lower_is_better(self, column: Column) -> bool:
        """Return whether smaller values of a metric are better (`better: lower`)."""
        return self.comparison.baseline_run.experiment.validation.metrics[column[1]].get('better') == 'lower'

    def values(self, label: str, column: Column) -> dict[int, float]:
        """Return seed to last value, for the finished runs of a label."""
        found = {result.run.seed: result.last(column) for result in self.results[label]}
        return {seed: value for seed, value in found.items() if value is not None}

    def best(self, label: str, column: Column) -> float:
        """Return the mean over finished seeds of the best validation during training; nan where none is finished."""
        choose = min if self.lower_is_better(column) else max
        best = [choose(p.value for p in r.curve(column)) for r in self.results[label] if r.finished and r.curve(column)]
        return float(np.mean(best)) if best else math.nan

    def gain(self, label: str, column: Column) -> Gain | None:
        """Return the gain over the baseline; None where one of the two has no finished run."""
        return compute_gain(self.values(label, column), self.values(self.comparison.baseline, column))

    def significant(self, column: Column) -> set[str]:
        """Return the labels whose gain is significant after Holm's correction for their number.

        Gains over fewer than three seeds are never significant. Labels whose runs are not all finished count in the
        number of tests, because they will be tested later.
        """
        others = [label for label in self.comparison.shown if label != self.comparison.baseline]
        gains = {label: self.gain(label, column) for label in others}
        p_values = {label: found.p for label, found in gains.items() if found and found.is_testable}
        not_finished = [n for n in others if n not in p_values and not all(r.finished for r in self.results[n])]
        return select_by_holm(p_values, len(p_values) + len(not_finished))


def summarise(comparison: Comparison) -> Summary:
    """Read the records of all runs of a comparison."""
    results = {
        label: [RunResult(run, read_record(run.folder)) for run in comparison.of(label)] for label in comparison.labels
    }
    return Summary(comparison, results)
