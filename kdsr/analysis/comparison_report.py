"""The report of a comparison: report.md, results.csv, runs.csv and curves.png."""

from __future__ import annotations

import csv
import datetime
import io
import math
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import kdsr
from kdsr.analysis.comparison_plan import Run, differences, validation_sets
from kdsr.analysis.comparison_runs import duration
from kdsr.analysis.comparison_summary import Column, Gain, Result, Summary, mean_and_spread
from kdsr.data.durable import write_durably
from kdsr.errors import UserError

RUN_COLUMNS = (
    'run', 'seed', 'experiment', 'finished', 'iterations', 'parameters', 'step_seconds', 'train_seconds', 'cpu_seconds',
    'resumed_at', 'commit', 'device', 'threads', 'torch', 'python', 'started', 'ended',
)  # fmt: skip
BUDGET = (
    'train.total_iter',
    'datasets.train.batch_size_per_gpu',
    'datasets.train.gt_size',
    'datasets.train.dataroot_gt',
)


def write_report(summary: Summary, folder: Path, command: str) -> list[str]:
    """Write the report.

    Args:
        summary: Of the runs that are there.
        folder: Is created.
        command: How the runs were started, for the report's head.

    Returns:
        What could not be written and why.
    """
    folder.mkdir(parents=True, exist_ok=True)
    problems = []
    picture = ''
    try:
        from kdsr.analysis.comparison_curves import draw_curves

        picture = 'curves.png' if draw_curves(summary, folder / 'curves.png') else ''
    except ImportError as error:
        problems.append(f'curves.png was not drawn ({error}): pip install "kdsr[plots]"; the rest is there.')
    write_durably(folder / 'results.csv', results_csv(summary).encode())
    write_durably(folder / 'runs.csv', runs_csv(summary).encode())
    write_durably(folder / 'report.md', markdown(summary, command, picture).encode())
    return problems


def results_csv(summary: Summary) -> str:
    """Return every validation of every run, one a line."""
    rows = [
        (label, result.run.seed, name, metric, p.iteration, repr(p.value), p.seconds, p.cpu_seconds)
        for label, results in summary.results.items()
        for result in results
        if result.record
        for (name, metric), curve in result.record.curves.items()
        for p in curve
    ]
    return _csv(('run', 'seed', 'set', 'metric', 'iteration', 'value', 'train_seconds', 'cpu_seconds'), rows)


def runs_csv(summary: Summary) -> str:
    """Return what each run was and cost, one a line."""
    rows = [[facts.get(key, '') for key in RUN_COLUMNS] for facts in map(run_facts, _all(summary))]
    return _csv(RUN_COLUMNS, rows)


def _csv(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator='\n')
    writer.writerow(head)
    writer.writerows(rows)
    return text.getvalue()


def _all(summary: Summary) -> list[Result]:
    return [result for results in summary.results.values() for result in results]


def run_facts(result: Result) -> dict[str, Any]:
    """Return what is known of one run, by the names of :data:`RUN_COLUMNS`."""
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


def markdown(summary: Summary, command: str, picture: str = '') -> str:
    """Return the report.

    Args:
        summary: Of the runs that are there.
        command: How they were started.
        picture: File name of the curves; empty for none.
    """
    comparison = summary.comparison
    lines = [f'# {comparison.name}', '']
    if comparison.about:
        lines += [comparison.about.strip(), '']
    lines += [*_head(summary, command), '', *_reading(summary)]
    for metric in dict.fromkeys(metric for _, metric in summary.columns):
        lines += ['', f'## {metric}', '', *_metric_table(summary, metric)]
    if picture:
        lines += ['', '## Curves', '', f'![validation during training]({picture})']
    lines += ['', '## Gain over the baseline', '', *_gain_table(summary)]
    lines += ['', '## Cost', '', *_cost_table(summary)]
    unfinished = [r for r in _all(summary) if not r.finished]
    if unfinished:
        lines += ['', '## Not finished', '', *map(_told_unfinished, unfinished)]
    return '\n'.join(lines) + '\n'


def _head(summary: Summary, command: str) -> list[str]:
    comparison = summary.comparison
    opt = comparison.of(comparison.baseline)[0].opt
    facts = [run_facts(result) for result in _all(summary)]
    sets = ', '.join(f'{name} (`{d.get("dataroot_gt", "")}`)' for name, d in validation_sets(opt).items())
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
    return ['| | |', '|---|---|', *(f'| {key} | {value} |' for key, value in rows if value)]


def _metric(opt: dict[str, Any]) -> str:
    return f'{opt.get("type")} ({", ".join(f"{k} {v}" for k, v in opt.items() if k != "type")})'


def _distinct(facts: Sequence[dict[str, Any]], key: str) -> str:
    return ', '.join(dict.fromkeys(str(f[key]) for f in facts if f.get(key) not in (None, ''))) or '?'


def _budget(summary: Summary) -> str:
    """Say what all runs were given, and who was given something else."""
    comparison = summary.comparison
    base = _budget_of(comparison.of(comparison.baseline)[0])
    told = ', '.join(f'{key.split(".")[-1]} {value}' for key, value in base.items() if key != BUDGET[-1])
    for label in comparison.shown:
        changed = differences(base, _budget_of(comparison.of(label)[0]))
        if changed:
            told += f'; **{label} differs**: {", ".join(changed)}'
    return told


def _budget_of(run: Run) -> dict[str, Any]:
    values = {}
    for key in BUDGET:
        node: Any = run.opt
        for part in key.split('.'):
            node = node.get(part) if isinstance(node, dict) else None
        values[key] = node
    return values


def _reading(summary: Summary) -> list[str]:
    return [
        'A value is that of the validation after the last iteration, as mean ± sample standard deviation over seeds;',
        'the best one on the way would be chosen by looking at the test images. The gain is the difference from the',
        'baseline. p is two-sided, from a t test paired over the seeds that both share (Welch where they share less',
        f'than two). A star marks what stays significant at 0.05 among the {max(1, len(summary.comparison.shown) - 1)} '
        'rows of its column (Holm).',
    ]


def _metric_table(summary: Summary, metric: str) -> list[str]:
    columns = [c for c in summary.columns if c[1] == metric]
    head = ''.join(f' {name} | gain |' for name, _ in columns)
    lines = [f'| run | seeds |{head}', f'|---|---|{"---|---|" * len(columns)}']
    significant = {column: summary.significant(column) for column in columns}
    for label in summary.comparison.shown:
        cells = [f'{len(summary.values(label, columns[0]))}']
        for column in columns:
            cells += [value_cell(summary, label, column), _gain_cell(summary, label, column, significant[column])]
        lines.append(f'| {_titled(summary, label)} | {" | ".join(cells)} |')
    return lines


def _titled(summary: Summary, label: str) -> str:
    run = summary.comparison.of(label)[0]
    return f'{run.title} ({run.note})' if run.note else run.title


def value_cell(summary: Summary, label: str, column: Column) -> str:
    """Return `mean ± spread` of one run, or a dash."""
    values = list(summary.values(label, column).values())
    mean, spread = mean_and_spread(values)
    if not values:
        return '–'  # noqa: RUF001
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


def _gain_table(summary: Summary) -> list[str]:
    head = '| run | set | metric | gain | 95 % interval | p | test | seeds | best on the way |'
    lines = [head, '|---|---|---|---|---|---|---|---|---|']
    for label in summary.comparison.shown:
        for column in summary.columns:
            found = summary.gain(label, column)
            if found is None:
                continue
            values = list(summary.values(label, column).values())
            size = mean_and_spread(values)[0]
            best = _number(summary.best(label, column), size)
            cells = ['baseline', '', '', ''] if label == summary.comparison.baseline else _gain_cells(found, size)
            row = [_titled(summary, label), *column, *cells, str(found.n), best]
            lines.append(f'| {" | ".join(row)} |')
    return lines


def _gain_cells(found: Gain, size: float) -> list[str]:
    if math.isnan(found.p):
        return [_signed(found.mean, size), '', '', found.test]
    low, high = (_signed(found.mean + sign * found.half_width, size) for sign in (-1, 1))
    return [_signed(found.mean, size), f'{low} to {high}', _p(found.p), found.test]


def _cost_table(summary: Summary) -> list[str]:
    """Return what the runs cost; with the stages that they need, each counted whole."""
    lines = [
        'Means over seeds. Training time is without validation; where several runs share a machine, processor time is',
        'the fairer measure. "With stages" adds the runs that a run needs.',
        '',
        '| run | parameters | iterations | s/step | training time | processor time | with stages |',
        '|---|---|---|---|---|---|---|',
    ]
    results = {result.run.name: result for result in _all(summary)}
    for label in summary.comparison.labels:
        done = [r for r in summary.results[label] if r.record and r.finished]
        if not done:
            continue
        facts = [run_facts(r) for r in done]
        steps = [f['step_seconds'] for f in facts if f['step_seconds'] != '']
        seconds, cpu = (statistics.fmean(f[key] for f in facts) for key in ('train_seconds', 'cpu_seconds'))
        total = statistics.fmean(_cpu_with_stages(r, results) for r in done)
        lines.append(
            f'| {_titled(summary, label)} | {facts[0]["parameters"]:,} | {facts[0]["iterations"]:,} | '
            f'{statistics.fmean(steps) if steps else math.nan:.3f} | {duration(seconds)} | {duration(cpu)} | '
            f'{duration(total)} |'
        )
    return lines


def _cpu_with_stages(result: Result, results: dict[str, Result]) -> float:
    names, waiting = set(), [result.run.name]
    while waiting:
        name = waiting.pop()
        if name not in names:
            names.add(name)
            waiting.extend(results[name].run.needs)
    return sum(record.cpu_seconds for name in names if (record := results[name].record))


def _told_unfinished(result: Result) -> str:
    iteration = result.record.iteration if result.record else 0
    return f'* {result.run.name}: {iteration:,} of {result.run.iterations:,} iterations'


def check_out(folder: Path) -> None:
    """Refuse a report folder that is a file.

    Raises:
        UserError: it is one.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f'--out {folder} is a file; name a folder.')
