"""The tables of values and gains of a comparison."""

from __future__ import annotations

import math
from collections.abc import Sequence

from kdsr.comparison.parts import DASH, Table
from kdsr.comparison.references import Reference
from kdsr.comparison.significance import FEWEST_SEEDS, Gain, mean_and_spread
from kdsr.comparison.summary import Column, Summary

READING = (
    'A value is the validation after the last iteration, as mean ± sample standard deviation over seeds. The best '
    'validation during training is not used, because it is chosen by looking at the test images. The gain is the '
    'difference from the baseline. p is two-sided, from a t test paired over the seeds that both have (Welch where '
    'they share fewer than two). A star marks a gain that stays significant at 0.05 after correction for the number '
    f'of rows in its column (Holm). Below {FEWEST_SEEDS} seeds there are no stars.'
)
ABOUT_REFERENCES = (
    'Bicubic and the teachers are not trained here: they were run on the same validation images, with the same metrics.'
)


def result_tables(summary: Summary, references: Sequence[Reference] = ()) -> list[Table]:
    """Return a table of values and gains for each metric, with a row for each run and each reference.

    Args:
        summary: The comparison with its results so far.
        references: Bicubic and teachers, with their values.
    """
    metrics = list(dict.fromkeys(metric for _, metric in summary.columns))
    text = ' '.join([READING, *([ABOUT_REFERENCES] if references else [])])
    return [_metric_table(summary, metric, text if metric == metrics[0] else '', references) for metric in metrics]


def _metric_table(summary: Summary, metric: str, text: str, references: Sequence[Reference]) -> Table:
    columns = [column for column in summary.columns if column[1] == metric]
    significant = {column: summary.significant(column) for column in columns}
    rows = []
    for label in summary.comparison.shown:
        row = [summary.comparison.full_title(label), str(len(summary.values(label, columns[0])))]
        for column in columns:
            row += [_value(summary, label, column), _gain_cell(summary, label, column, significant[column])]
        rows.append(row)
    for reference in references:
        row = [reference.title, DASH]
        for column in columns:
            row += _reference_cells(summary, reference, column)
        rows.append(row)
    return Table(metric, text, ('run', 'seeds', *(word for name, _ in columns for word in (name, 'gain'))), rows)


def _value(summary: Summary, label: str, column: Column) -> str:
    values = list(summary.values(label, column).values())
    mean, spread = mean_and_spread(values)
    if not values:
        return DASH
    return _number(mean, mean) + ('' if math.isnan(spread) else f' ± {_number(spread, mean)}')


def _number(value: float, size: float) -> str:
    return f'{value:.3f}' if abs(size) >= 2 else f'{value:.5f}'


def _signed(value: float, size: float) -> str:
    return f'{value:+.3f}' if abs(size) >= 2 else f'{value:+.5f}'


def _gain_cell(summary: Summary, label: str, column: Column, significant: set[str]) -> str:
    found = summary.gain(label, column)
    if found is None or label == summary.comparison.baseline:
        return ''
    size = mean_and_spread(list(summary.values(label, column).values()))[0]
    p = '' if math.isnan(found.p) else f' (p {_p_value(found.p)})'
    return f'{_signed(found.mean, size)}{p}{" *" if label in significant else ""}'


def _reference_cells(summary: Summary, reference: Reference, column: Column) -> list[str]:
    """Return the value of a reference, and its difference from the baseline; no test belongs to it."""
    value = reference.values.get(column)
    if value is None:
        return [DASH, '']
    baseline = list(summary.values(summary.comparison.baseline, column).values())
    gain = _signed(value - mean_and_spread(baseline)[0], value) if baseline else ''
    return [_number(value, value), gain]


def _p_value(p: float) -> str:
    return f'{p:.3f}' if p >= 0.001 else '< 0.001'


def gain_table(summary: Summary) -> Table:
    """Return every gain with its interval and test."""
    rows = []
    for label in summary.comparison.shown:
        for column in summary.columns:
            found = summary.gain(label, column)
            if found is None:
                continue
            size = mean_and_spread(list(summary.values(label, column).values()))[0]
            cells = ['baseline', '', '', ''] if label == summary.comparison.baseline else _gain_cells(found, size)
            best = _number(summary.best(label, column), size)
            rows.append([summary.comparison.full_title(label), *column, *cells, str(found.n), best])
    head = ('run', 'set', 'metric', 'gain', '95 % interval', 'p', 'test', 'seeds', 'best on the way')
    return Table('Gain over the baseline', '', head, rows)


def _gain_cells(found: Gain, size: float) -> list[str]:
    if math.isnan(found.p):
        return [_signed(found.mean, size), '', '', found.test]
    low, high = (_signed(found.mean + sign * found.half_width, size) for sign in (-1, 1))
    return [_signed(found.mean, size), f'{low} to {high}', _p_value(found.p), found.test]
