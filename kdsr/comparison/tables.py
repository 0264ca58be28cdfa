"""The tables of values and gains of a comparison."""

from __future__ import annotations

import math
from collections.abc import Sequence

from kdsr.comparison.parts import DASH, Table
from kdsr.comparison.references import Reference
from kdsr.comparison.significance import FEWEST_SEEDS, Gain, compute_mean_and_spread
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


def make_result_tables(summary: Summary, references: Sequence[Reference] = ()) -> list[Table]:
    """Return a table of values and gains for each metric, with a row for each run and each reference.

    Args:
        summary: The comparison with its results so far.
        references: Bicubic and teachers, with their values.
    """
    metrics = list(dict.fromkeys(metric for _, metric in summary.columns))
    text = ' '.join([READING, *([ABOUT_REFERENCES] if references else [])])
    return [_make_metric_table(summary, metric, text if metric == metrics[0] else '', references) for metric in metrics]


def _make_metric_table(summary: Summary, metric: str, text: str, references: Sequence[Reference]) -> Table:
    columns = [column for column in summary.columns if column[1] == metric]
    significant = {column: summary.significant(column) for column in columns}
    rows = []
    for label in summary.comparison.shown:
        row = [summary.comparison.full_title(label), str(len(summary.values(label, columns[0])))]
        for column in columns:
            row += [_format_value(summary, label, column), _format_gain(summary, label, column, significant[column])]
        rows.append(row)
    for reference in references:
        row = [reference.title, DASH]
        for column in columns:
            row += _format_reference(summary, reference, column)
        rows.append(row)
    return Table(metric, text, ('run', 'seeds', *(word for name, _ in columns for word in (name, 'gain'))), rows)


def _format_value(summary: Summary, label: str, column: Column) -> str:
    values = list(summary.values(label, column).values())
    mean, spread = compute_mean_and_spread(values)
    if not values:
        return DASH
    return _format_number(mean, mean) + ('' if math.isnan(spread) else f' ± {_format_number(spread, mean)}')


def _format_number(value: float, size: float) -> str:
    return f'{value:.3f}' if abs(size) >= 2 else f'{value:.5f}'


def _format_signed(value: float, size: float) -> str:
    return f'{value:+.3f}' if abs(size) >= 2 else f'{value:+.5f}'


def _format_gain(summary: Summary, label: str, column: Column, significant: set[str]) -> str:
    found = summary.gain(label, column)
    if found is None or label == summary.comparison.baseline:
        return ''
    size = compute_mean_and_spread(list(summary.values(label, column).values()))[0]
    p = '' if math.isnan(found.p) else f' (p {_format_p_value(found.p)})'
    return f'{_format_signed(found.mean, size)}{p}{" *" if label in significant else ""}'


def _format_reference(summary: Summary, reference: Reference, column: Column) -> list[str]:
    """Return the value of a reference, and its difference from the baseline; no test belongs to it."""
    value = reference.values.get(column)
    if value is None:
        return [DASH, '']
    baseline = list(summary.values(summary.comparison.baseline, column).values())
    gain = _format_signed(value - compute_mean_and_spread(baseline)[0], value) if baseline else ''
    return [_format_number(value, value), gain]


def _format_p_value(p: float) -> str:
    return f'{p:.3f}' if p >= 0.001 else '< 0.001'


def make_gain_table(summary: Summary) -> Table:
    """Return every gain with its interval and test."""
    rows = []
    for label in summary.comparison.shown:
        for column in summary.columns:
            found = summary.gain(label, column)
            if found is None:
                continue
            size = compute_mean_and_spread(list(summary.values(label, column).values()))[0]
            cells = (
                ['baseline', '', '', '']
                if label == summary.comparison.baseline
                else _format_gain_with_test(found, size)
            )
            best = _format_number(summary.best(label, column), size)
            rows.append([summary.comparison.full_title(label), *column, *cells, str(found.n), best])
    head = ('run', 'set', 'metric', 'gain', '95 % interval', 'p', 'test', 'seeds', 'best on the way')
    return Table('Gain over the baseline', '', head, rows)


def _format_gain_with_test(found: Gain, size: float) -> list[str]:
    if math.isnan(found.p):
        return [_format_signed(found.mean, size), '', '', found.test]
    low, high = (_format_signed(found.mean + sign * found.half_width, size) for sign in (-1, 1))
    return [_format_signed(found.mean, size), f'{low} to {high}', _format_p_value(found.p), found.test]
