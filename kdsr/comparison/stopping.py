"""`kdsr compare --stop-early`: labels whose gain over the baseline is excluded before all their seeds are trained."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from kdsr.comparison.parts import Table
from kdsr.comparison.planned_runs import Comparison
from kdsr.comparison.significance import Gain, compute_gain
from kdsr.comparison.summary import Column, Summary, summarise
from kdsr.durable import write_durably

FILE = 'stopped.json'  # in experiments/<name of the comparison>
TEXT = (
    'With `--stop-early`, a run ends when the 95 % interval of its gain, over at least two seeds, lies on the wrong '
    'side of 0 on every validation set, at the same iteration as the baseline, in the second half of the training. A '
    'longer training may decide otherwise. The same command without `--stop-early` trains these runs to their end.'
)


@dataclass(frozen=True)
class ExcludedGain:
    """Why the runs of a label were stopped.

    Attributes:
        iteration: Of the validations that were compared.
        gains: Validation set to the gain there.
    """

    iteration: int
    gains: Mapping[str, Gain]

    def __str__(self) -> str:
        intervals = (
            f'{name} {gain.mean - gain.half_width:+.3f} to {gain.mean + gain.half_width:+.3f}'
            for name, gain in self.gains.items()
        )
        return f'after {self.iteration:,} iterations the gain is {", ".join(intervals)} (95 %, {self.fewest} seeds)'

    @property
    def fewest(self) -> int:
        """Seeds of the set with the fewest."""
        return min(gain.fewest for gain in self.gains.values())


def find_excluded_gain(comparison: Comparison, label: str) -> ExcludedGain | None:
    """Return why a label cannot gain over the baseline; None where that is not sure, or where it is the baseline.

    Args:
        comparison: Its records are read as they are now.
        label: Of the runs in question.
    """
    summary = summarise(comparison)
    if label == comparison.baseline or label not in comparison.shown:
        return None
    columns = [column for column in summary.columns if column[1] == summary.columns[0][1]]
    half = comparison.of(label)[0].iterations / 2
    curves = {
        column: (_read_values(summary, label, column), _read_values(summary, comparison.baseline, column))
        for column in columns
    }
    common = [i for i in _list_iterations(curves[columns[0]][0]) if i >= half]
    for iteration in sorted(common, reverse=True):
        gains = {column[0]: _gain_at(*curves[column], iteration) for column in columns}
        if all(gain is not None and gain.test == 'paired t' for gain in gains.values()):
            found = {name: gain for name, gain in gains.items() if gain is not None}
            lost = all(_is_excluded(found[column[0]], summary.lower_is_better(column)) for column in columns)
            return ExcludedGain(iteration, found) if lost else None
    return None


Values = Mapping[int, Mapping[int, float]]  # seed to iteration to value


def _read_values(summary: Summary, label: str, column: Column) -> Values:
    return {r.run.seed: {p.iteration: p.value for p in r.curve(column)} for r in summary.results[label]}


def _list_iterations(values: Values) -> set[int]:
    return {iteration for curve in values.values() for iteration in curve}


def _gain_at(ours: Values, theirs: Values, iteration: int) -> Gain | None:
    here = ({seed: curve[iteration] for seed, curve in of.items() if iteration in curve} for of in (ours, theirs))
    return compute_gain(*here)


def _is_excluded(gain: Gain, lower_is_better: bool) -> bool:
    return gain.mean - gain.half_width > 0 if lower_is_better else gain.mean + gain.half_width < 0


def keep_reason(folder: Path, label: str, reason: ExcludedGain) -> None:
    """Note in the folder of a comparison why a label was stopped."""
    kept = {**read_reasons(folder), label: str(reason)}
    write_durably(folder / FILE, json.dumps(kept, indent=1).encode())


def read_reasons(folder: Path) -> dict[str, str]:
    """Return label to the reason why it was stopped; empty where none was, or the file cannot be read."""
    try:
        kept = json.loads((folder / FILE).read_text(encoding='utf-8'))
    except (OSError, ValueError):
        return {}
    return {str(label): str(reason) for label, reason in kept.items()} if isinstance(kept, dict) else {}


def make_stopped_table(summary: Summary) -> Table | None:
    """Return the labels that were stopped and not trained to their end since; None where there are none."""
    reasons = read_reasons(Path('experiments') / summary.comparison.name)
    rows = [
        [summary.comparison.full_title(label), f'{sum(r.finished for r in results)} of {len(results)}', reasons[label]]
        for label, results in summary.results.items()
        if label in reasons and not all(r.finished for r in results)
    ]
    return Table('Stopped early', TEXT, ('run', 'seeds finished', 'why'), rows) if rows else None
