"""What the runs of a comparison were and cost, as a table and for `runs.csv`."""

from __future__ import annotations

import datetime
import statistics
from dataclasses import dataclass
from typing import Any

from kdsr.comparison.parts import DASH, Table
from kdsr.comparison.runs import format_duration
from kdsr.comparison.summary import RunResult, Summary
from kdsr.comparison.training_record import Record
from kdsr.data.raw_images import RawImages
from kdsr.errors import UserError

RUN_COLUMNS = (
    'run', 'seed', 'experiment', 'finished', 'iterations', 'parameters', 'step_seconds', 'train_seconds', 'cpu_seconds',
    'resumed_at', 'commit', 'device', 'threads', 'torch', 'python', 'started', 'ended',
)  # fmt: skip
TEXT = (
    'Means over seeds. Training time is without validation. Where several runs share a machine, processor time is the '
    'fairer measure. "With stages" adds the processor time of all runs that a run needs, and of the teacher caches '
    'that these read, each counted in full.'
)
UNKNOWN = ' The time of a cache made by an older version is not known and not counted: {}.'


def make_cost_table(summary: Summary) -> Table:
    """Return parameters, iterations and times of all runs, stages included."""
    rows = []
    for label in summary.comparison.labels:
        finished = [result for result in summary.results[label] if result.finished]
        if not finished:
            continue
        facts = [read_run_facts(result) for result in finished]
        steps = [f['step_seconds'] for f in facts if f['step_seconds'] != '']
        own = [f['cpu_seconds'] for f in facts]
        with_stages = statistics.fmean(
            cpu + measure_stages(summary, result).cpu_seconds for result, cpu in zip(finished, own)
        )
        rows.append(
            [
                summary.comparison.full_title(label),
                f'{facts[0]["parameters"]:,}',
                f'{facts[0]["iterations"]:,}',
                f'{statistics.fmean(steps):.3f}' if steps else DASH,
                format_duration(statistics.fmean(f['train_seconds'] for f in facts)),
                format_duration(statistics.fmean(own)),
                format_duration(with_stages),
            ]
        )
    head = ('run', 'parameters', 'iterations', 's/step', 'training time', 'processor time', 'with stages')
    unknown = dict.fromkeys(path for result in summary.all for path in measure_stages(summary, result).unknown)
    return Table('Cost', TEXT + (UNKNOWN.format(', '.join(unknown)) if unknown else ''), head, rows)


@dataclass(frozen=True)
class Stages:
    """What had to be computed before a run could start.

    Attributes:
        seconds, cpu_seconds: Of all runs that it needs, without validation, and of the teacher caches that they and the
            run itself read.
        unknown: Caches whose time is not known.
    """

    seconds: float
    cpu_seconds: float
    unknown: tuple[str, ...]


def measure_stages(summary: Summary, result: RunResult) -> Stages:
    """Return the cost of everything that a run needs; caches that several runs share count in full."""
    results = {other.run.name: other for other in summary.all}
    names, waiting = set(), [result.run.name]
    while waiting:
        name = waiting.pop()
        if name not in names:
            names.add(name)
            waiting.extend(results[name].run.needs)
    costs: list[Record | RawImages] = []
    unknown = []
    for path in dict.fromkeys(cache.path for name in names if (cache := results[name].run.experiment.used_cache)):
        cached = _open_if_there(path)
        if cached is None or cached.seconds is None or cached.cpu_seconds is None:
            unknown.append(path)
        else:
            costs.append(cached)
    costs += [record for name in names - {result.run.name} if (record := results[name].record)]
    seconds, cpu = (sum(getattr(cost, clock) for cost in costs) for clock in ('seconds', 'cpu_seconds'))
    return Stages(seconds, cpu, tuple(unknown))


def _open_if_there(path: str) -> RawImages | None:
    try:
        return RawImages(path)
    except UserError:  # moved away since: the report is still written
        return None


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
