"""The tables of a comparison's report, as plain text cells; how they are written down is the report's matter."""

from __future__ import annotations

import datetime
import math
import os
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import kdsr
from kdsr.comparison.plan import PlannedRun, differences, validation_sets
from kdsr.comparison.runs import duration
from kdsr.comparison.summary import Column, Gain, RunResult, Summary, mean_and_spread

BUDGET = (
    'train.total_iter', 'datasets.train.batch_size_per_gpu', 'datasets.train.gt_size', 'datasets.train.dataroot_gt',
    'datasets.train.dataroot_lq',
)  # fmt: skip
READING = (
    'A value is that of the validation after the last iteration, as mean ± sample standard deviation over seeds; the '
    'best one on the way would be chosen by looking at the test images. The gain is the difference from the baseline. '
    'p is two-sided, from a t test paired over the seeds that both share (Welch where they share less than two). A '
    'star marks a gain that stays significant at 0.05 when corrected for the number of rows in its column (Holm).'
)
COST = (
    'Means over seeds. Training time is without validation; where several runs share a machine, processor time is the '
    'fairer measure. "With stages" adds the processor time of the runs that a run needs.'
)
DASH = '\u2013'


@dataclass(frozen=True)
class Table:
    """A table of the report.

    Attributes:
        title: Above it; empty for none.
        text: How to read it; empty for none.
        head: Names of the columns.
        rows: Cells.
    """

    title: str
    text: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class ReportPicture:
    """A picture of the report.

    Attributes:
        title: Above it.
        file: Beside the report.
        text: How to read it; empty for none.
    """

    title: str
    file: str
    text: str = ''


def result_tables(summary: Summary) -> list[Table]:
    """Return a table of values and gains for each metric."""
    metrics = list(dict.fromkeys(metric for _, metric in summary.columns))
    return [_metric_table(summary, metric, READING if metric == metrics[0] else '') for metric in metrics]


def protocol_table(summary: Summary, command: str) -> Table:
    """Return what a reader must know to judge the numbers, and to get them again.

    Args:
        summary: Of the runs that are there.
        command: How they were started.
    """
    comparison = summary.comparison
    opt = comparison.of(comparison.baseline)[0].opt
    facts = [run_facts(result) for result in summary.all]
    sets = ', '.join(f'{name} (`{shown_path(str(d.get("dataroot_gt")))}`)' for name, d in validation_sets(opt).items())
    dates = sorted(f[key] for f in facts for key in ('started', 'ended') if f.get(key))
    stages = [label for label in comparison.labels if label not in comparison.shown]
    rows = [
        ('command', f'`{command}`'),
        ('metrics', '; '.join(f'{name}: {_metric(m)}' for name, m in opt['val']['metrics'].items())),
        ('validation sets', f'{sets}; x{opt.get("scale", "?")}'),
        ('seeds', ', '.join(map(str, comparison.seeds))),
        ('budget', _budget(summary)),
        ('baseline', comparison.of(comparison.baseline)[0].title),
        ('stages, not shown', ', '.join(stages)),
        ('trained', f'{dates[0]} to {dates[-1]}' if dates else 'not yet'),
        ('code', f'kdsr {kdsr.__version__}, commit {_distinct(facts, "commit")}; PyTorch {_distinct(facts, "torch")}'),
        ('hardware', f'{_distinct(facts, "device")}; threads a run: {_distinct(facts, "threads")}'),
    ]
    return Table('', '', ('', ''), [(key, value) for key, value in rows if value])


def shown_path(path: str) -> str:
    """Return a path as another machine may have it: relative to the current folder, or its last part."""
    relative = os.path.relpath(path)
    return os.path.basename(os.path.normpath(path)) if relative.startswith(os.pardir) else relative


def _metric(opt: dict[str, Any]) -> str:
    return f'{opt.get("type")} ({", ".join(f"{k} {v}" for k, v in opt.items() if k != "type")})'


def _distinct(facts: Sequence[dict[str, Any]], key: str) -> str:
    return ', '.join(dict.fromkeys(str(f[key]) for f in facts if f.get(key) not in (None, ''))) or '?'


def _budget(summary: Summary) -> str:
    """Say what all runs were given, and who was given something else."""
    comparison = summary.comparison
    base = _budget_of(comparison.of(comparison.baseline)[0])
    told = ', '.join(f'{key.split(".")[-1]} {value}' for key, value in base.items() if 'dataroot' not in key)
    for label in comparison.shown:
        changed = differences(base, _budget_of(comparison.of(label)[0]))
        if changed:
            told += f'; **{label} differs**: {", ".join(changed)}'
    return told


def _budget_of(run: PlannedRun) -> dict[str, Any]:
    values = {}
    for key in BUDGET:
        node: Any = run.opt
        for part in key.split('.'):
            node = node.get(part) if isinstance(node, dict) else None
        values[key] = node
    return values


def _metric_table(summary: Summary, metric: str, text: str) -> Table:
    columns = [c for c in summary.columns if c[1] == metric]
    significant = {column: summary.significant(column) for column in columns}
    rows = []
    for label in summary.comparison.shown:
        cells = [_titled(summary, label), str(len(summary.values(label, columns[0])))]
        for column in columns:
            cells += [_value(summary, label, column), _gain_cell(summary, label, column, significant[column])]
        rows.append(cells)
    return Table(metric, text, ('run', 'seeds', *(word for name, _ in columns for word in (name, 'gain'))), rows)


def _titled(summary: Summary, label: str) -> str:
    run = summary.comparison.of(label)[0]
    return f'{run.title} ({run.note})' if run.note else run.title


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
    p = '' if math.isnan(found.p) else f' (p {_p(found.p)})'
    return f'{_signed(found.mean, size)}{p}{" *" if label in significant else ""}'


def _p(p: float) -> str:
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
            rows.append([_titled(summary, label), *column, *cells, str(found.n), best])
    head = ('run', 'set', 'metric', 'gain', '95 % interval', 'p', 'test', 'seeds', 'best on the way')
    return Table('Gain over the baseline', '', head, rows)


def _gain_cells(found: Gain, size: float) -> list[str]:
    if math.isnan(found.p):
        return [_signed(found.mean, size), '', '', found.test]
    low, high = (_signed(found.mean + sign * found.half_width, size) for sign in (-1, 1))
    return [_signed(found.mean, size), f'{low} to {high}', _p(found.p), found.test]


def cost_table(summary: Summary) -> Table:
    """Return what the runs cost, stages too."""
    results = {result.run.name: result for result in summary.all}
    rows = []
    for label in summary.comparison.labels:
        done = [r for r in summary.results[label] if r.finished]
        if not done:
            continue
        facts = [run_facts(r) for r in done]
        step = [f['step_seconds'] for f in facts if f['step_seconds'] != '']
        seconds, cpu = (statistics.fmean(f[key] for f in facts) for key in ('train_seconds', 'cpu_seconds'))
        with_stages = statistics.fmean(_cpu_with_stages(r, results) for r in done)
        rows.append([
            _titled(summary, label), f'{facts[0]["parameters"]:,}', f'{facts[0]["iterations"]:,}',
            f'{statistics.fmean(step):.3f}' if step else DASH, duration(seconds), duration(cpu), duration(with_stages),
        ])  # fmt: skip
    head = ('run', 'parameters', 'iterations', 's/step', 'training time', 'processor time', 'with stages')
    return Table('Cost', COST, head, rows)


def _cpu_with_stages(result: RunResult, results: dict[str, RunResult]) -> float:
    names, waiting = set(), [result.run.name]
    while waiting:
        name = waiting.pop()
        if name not in names:
            names.add(name)
            waiting.extend(results[name].run.needs)
    return sum(record.cpu_seconds for name in names if (record := results[name].record))


def run_facts(result: RunResult) -> dict[str, Any]:
    """Return what is known of one run, by the names of runs.csv."""
    run, record = result.run, result.record
    facts: dict[str, Any] = {
        'run': run.label, 'seed': run.seed, 'experiment': run.name, 'finished': result.finished, 'iterations': 0,
    }  # fmt: skip
    if record is None or not record.starts:
        return facts
    first, last = record.starts[0], record.starts[-1]
    facts.update({key: last.get(key) for key in ('parameters', 'commit', 'device', 'threads', 'torch', 'python')})
    facts.update(
        iterations=record.iteration,
        step_seconds=round(statistics.median(record.step_seconds), 4) if record.step_seconds else '',
        train_seconds=round(record.seconds, 1),
        cpu_seconds=round(record.cpu_seconds, 1),
        resumed_at=' '.join(str(start['iter']) for start in record.starts[1:]),
        started=_date(first['date']),
        ended=_date(record.ended) if record.ended else '',
    )
    return facts


def _date(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds).strftime('%Y-%m-%d %H:%M')
