"""What the runs of a comparison were and cost, as a table and for `runs.csv`."""

from __future__ import annotations

import datetime
import statistics
from typing import Any

from kdsr.comparison.parts import DASH, Table
from kdsr.comparison.runs import format_duration
from kdsr.comparison.summary import RunResult, Summary

RUN_COLUMNS = (
    'run', 'seed', 'experiment', 'finished', 'iterations', 'parameters', 'step_seconds', 'train_seconds', 'cpu_seconds',
    'resumed_at', 'commit', 'device', 'threads', 'torch', 'python', 'started', 'ended',
)  # fmt: skip
TEXT = (
    'Means over seeds. Training time is without validation. Where several runs share a machine, processor time is the '
    'fairer measure. "With stages" adds the processor time of all runs that a run needs.'
)


def make_cost_table(summary: Summary) -> Table:
    """Return parameters, iterations and times of all runs, stages included."""
    results = {result.run.name: result for result in summary.all}
    rows = []
    for label in summary.comparison.labels:
        finished = [result for result in summary.results[label] if result.finished]
        if not finished:
            continue
        facts = [read_run_facts(result) for result in finished]
        steps = [f['step_seconds'] for f in facts if f['step_seconds'] != '']
        seconds, cpu = (statistics.fmean(f[key] for f in facts) for key in ('train_seconds', 'cpu_seconds'))
        with_stages = statistics.fmean(_sum_cpu_with_stages(result, results) for result in finished)
        rows.append(
            [
                summary.comparison.full_title(label),
                f'{facts[0]["parameters"]:,}',
                f'{facts[0]["iterations"]:,}',
                f'{statistics.fmean(steps):.3f}' if steps else DASH,
                format_duration(seconds),
                format_duration(cpu),
                format_duration(with_stages),
            ]
        )
    head = ('run', 'parameters', 'iterations', 's/step', 'training time', 'processor time', 'with stages')
    return Table('Cost', TEXT, head, rows)


def _sum_cpu_with_stages(result: RunResult, results: dict[str, RunResult]) -> float:
    names, waiting = set(), [result.run.name]
    while waiting:
        name = waiting.pop()
        if name not in names:
            names.add(name)
            waiting.extend(results[name].run.needs)
    return sum(record.cpu_seconds for name in names if (record := results[name].record))


def read_run_facts(result: RunResult) -> dict[str, Any]:
    """Return what is known about one run, under the names of `RUN_COLUMNS`."""
    run, record = result.run, result.record
    facts: dict[str, Any] = {
        'run': run.label,
        'seed': run.seed,
        'experiment': run.name,
        'finished': result.finished,
        'iterations': 0,
    }
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
        started=_format_date(first['date']),
        ended=_format_date(record.ended) if record.ended else '',
    )
    return facts


def _format_date(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds).strftime('%Y-%m-%d %H:%M')
