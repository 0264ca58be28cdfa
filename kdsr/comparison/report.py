"""The report of a comparison: report.md, report.html, results.csv, runs.csv and the pictures."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from kdsr.comparison.page import page
from kdsr.comparison.papers import paper_table
from kdsr.comparison.summary import RunResult, Summary
from kdsr.comparison.tables import (
    ReportPicture,
    Table,
    cost_table,
    gain_table,
    protocol_table,
    result_tables,
    run_facts,
)
from kdsr.durable import write_durably
from kdsr.errors import UserError
from kdsr.pictures.photo_rows import Box

RUN_COLUMNS = (
    'run', 'seed', 'experiment', 'finished', 'iterations', 'parameters', 'step_seconds', 'train_seconds', 'cpu_seconds',
    'resumed_at', 'commit', 'device', 'threads', 'torch', 'python', 'started', 'ended',
)  # fmt: skip


CROPS = (
    'Where the methods differ most, which is where differences look largest. PSNR and SSIM on Y of each crop; the best '
    'method is bold. Each method is shown with its first finished seed.'
)
CROPS_BY_HAND = (
    'PSNR and SSIM on Y of each crop; the best method is bold. Each method is shown with its first finished seed.'
)

ERRORS = (
    'The same parts. Beneath each its mean error, the smallest of the methods bold; teachers and bicubic do not count.'
)


def write_report(
    summary: Summary,
    folder: Path,
    command: str,
    photos: int = 0,
    crops: Mapping[str, Sequence[Box]] | None = None,
) -> list[str]:
    """Write the report.

    Args:
        summary: Of the runs that are there.
        folder: Is created.
        command: How the runs were started, for the report's head.
        photos: Of how many validation images crops and errors are shown; 0 runs no network.
        crops: By hand, image to boxes, instead of where the methods differ most.

    Returns:
        What could not be written and why.

    Raises:
        UserError: `folder` is a file; a crop is not inside an image.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f'--out {folder} is a file; name a folder.')
    folder.mkdir(parents=True, exist_ok=True)
    problems: list[str] = []
    pictures: list[ReportPicture] = []
    try:
        from kdsr.comparison.curves import draw_pictures

        pictures = [ReportPicture(title, file) for title, file in draw_pictures(summary, folder).items()]
        if photos or crops:
            pictures += _crops(summary, folder, photos, crops, problems)
    except ImportError as error:
        problems.append(f'No pictures were drawn ({error}): pip install "kdsr[plots]". The rest is written.')
    parts = sections(summary, command, pictures)
    write_durably(folder / 'results.csv', results_csv(summary).encode())
    write_durably(folder / 'runs.csv', runs_csv(summary).encode())
    write_durably(folder / 'report.md', markdown(summary, parts).encode())
    html = page(summary.comparison.name, summary.comparison.about, parts, folder)
    write_durably(folder / 'report.html', html.encode())
    return problems


def _crops(
    summary: Summary, folder: Path, count: int, crops: Mapping[str, Sequence[Box]] | None, problems: list[str]
) -> list[ReportPicture]:
    from kdsr.comparison.pictures import chosen_rows
    from kdsr.pictures.crops import draw_crops_and_errors

    rows, missing = chosen_rows(summary, count, crops=crops)
    problems += missing
    texts = (CROPS_BY_HAND if crops else CROPS, ERRORS)
    files = draw_crops_and_errors(rows, str(folder)) if rows else {}
    return [ReportPicture(title, file, text) for (title, file), text in zip(files.items(), texts)]


def sections(
    summary: Summary, command: str, pictures: Sequence[ReportPicture] = ()
) -> list[Table | ReportPicture | str]:
    """Return the parts of the report in their order.

    Args:
        summary: Of the runs that are there.
        command: How they were started.
        pictures: To be shown.
    """
    papers = paper_table(summary)
    parts: list[Table | ReportPicture | str] = [protocol_table(summary, command), *result_tables(summary)]
    parts += [*([papers] if papers else []), *pictures, gain_table(summary), cost_table(summary)]
    unfinished = [result for result in summary.all if not result.finished]
    if unfinished:
        told = ('run', 'iterations', 'of')
        parts.append(Table('Not finished', '', told, [_told_unfinished(result) for result in unfinished]))
    return [*parts, 'Every validation of every run is in `results.csv`, what the runs were and cost in `runs.csv`.']


def markdown(summary: Summary, parts: Sequence[Table | ReportPicture | str]) -> str:
    """Return the report as Markdown.

    Args:
        summary: For the title.
        parts: What :func:`sections` returned.
    """
    texts = [f'# {summary.comparison.name}', summary.comparison.about.strip(), *map(_written, parts)]
    return '\n\n'.join(text for text in texts if text) + '\n'


def _written(part: Table | ReportPicture | str) -> str:
    if isinstance(part, str):
        return part
    lines = [f'## {part.title}', ''] if part.title else []
    if isinstance(part, ReportPicture):
        return '\n'.join([*lines, *([part.text, ''] if part.text else []), f'![{part.title}]({part.file})'])
    lines += [part.text, ''] if part.text else []
    lines += [_line(part.head), f'|{"---|" * len(part.head)}', *map(_line, part.rows)]
    return '\n'.join(lines)


def _line(cells: Sequence[str]) -> str:
    return f'| {" | ".join(cell.replace("|", "/") for cell in cells)} |'


def _told_unfinished(result: RunResult) -> list[str]:
    iteration = result.record.iteration if result.record else 0
    return [result.run.name, f'{iteration:,}', f'{result.run.iterations:,}']


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
