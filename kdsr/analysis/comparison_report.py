"""The report of a comparison: report.md, results.csv, runs.csv, curves.png and losses.png."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from kdsr.analysis.comparison_summary import Result, Summary
from kdsr.analysis.comparison_tables import Table, cost_table, gain_table, protocol_table, result_tables, run_facts
from kdsr.data.durable import write_durably
from kdsr.errors import UserError

RUN_COLUMNS = (
    'run', 'seed', 'experiment', 'finished', 'iterations', 'parameters', 'step_seconds', 'train_seconds', 'cpu_seconds',
    'resumed_at', 'commit', 'device', 'threads', 'torch', 'python', 'started', 'ended',
)  # fmt: skip


def write_report(summary: Summary, folder: Path, command: str) -> list[str]:
    """Write the report.

    Args:
        summary: Of the runs that are there.
        folder: Is created.
        command: How the runs were started, for the report's head.

    Returns:
        What could not be written and why.

    Raises:
        UserError: `folder` is a file.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f'--out {folder} is a file; name a folder.')
    folder.mkdir(parents=True, exist_ok=True)
    problems: list[str] = []
    pictures: dict[str, str] = {}
    try:
        from kdsr.analysis.comparison_curves import draw_pictures

        pictures = draw_pictures(summary, folder)
    except ImportError as error:
        problems.append(f'The curves were not drawn ({error}): pip install "kdsr[plots]". The rest is written.')
    write_durably(folder / 'results.csv', results_csv(summary).encode())
    write_durably(folder / 'runs.csv', runs_csv(summary).encode())
    write_durably(folder / 'report.md', markdown(summary, command, pictures).encode())
    return problems


def markdown(summary: Summary, command: str, pictures: dict[str, str]) -> str:
    """Return the report.

    Args:
        summary: Of the runs that are there.
        command: How they were started.
        pictures: Title to file name.
    """
    comparison = summary.comparison
    parts = [f'# {comparison.name}', comparison.about.strip(), _table(protocol_table(summary, command))]
    parts += map(_table, result_tables(summary))
    parts += (f'## {title}\n\n![{title}]({file})' for title, file in pictures.items())
    parts += map(_table, (gain_table(summary), cost_table(summary)))
    unfinished = [result for result in summary.all if not result.finished]
    if unfinished:
        parts += ['## Not finished', '\n'.join(map(_told_unfinished, unfinished))]
    parts.append('Every validation of every run is in `results.csv`, what the runs were and cost in `runs.csv`.')
    return '\n\n'.join(part for part in parts if part) + '\n'


def _table(table: Table) -> str:
    lines = [f'## {table.title}', ''] if table.title else []
    lines += [table.text, ''] if table.text else []
    lines += [_line(table.head), f'|{"---|" * len(table.head)}', *map(_line, table.rows)]
    return '\n'.join(lines)


def _line(cells: Sequence[str]) -> str:
    return f'| {" | ".join(cell.replace("|", "/") for cell in cells)} |'


def _told_unfinished(result: Result) -> str:
    iteration = result.record.iteration if result.record else 0
    return f'* {result.run.name}: {iteration:,} of {result.run.iterations:,} iterations'


def results_csv(summary: Summary) -> str:
    """Return every validation of every run, one a line."""
    rows = (
        (
            result.run.label,
            result.run.seed,
            name,
            metric,
            p.iteration,
            p.value,
            f'{p.seconds:.3f}',
            f'{p.cpu_seconds:.3f}',
        )
        for result in summary.all
        if result.record
        for (name, metric), curve in result.record.curves.items()
        for p in curve
    )
    return _csv(('run', 'seed', 'set', 'metric', 'iteration', 'value', 'train_seconds', 'cpu_seconds'), rows)


def runs_csv(summary: Summary) -> str:
    """Return what each run was and cost, one a line."""
    return _csv(RUN_COLUMNS, ([facts.get(key, '') for key in RUN_COLUMNS] for facts in map(run_facts, summary.all)))


def _csv(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator='\n')
    writer.writerow(head)
    writer.writerows(rows)
    return text.getvalue()
