"""The report of a comparison: report.md, report.html, results.csv, runs.csv and the pictures."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from kdsr.comparison.conditions import make_conditions_table
from kdsr.comparison.costs import RUN_COLUMNS, make_cost_table, read_run_facts
from kdsr.comparison.page import format_page
from kdsr.comparison.papers import paper_table
from kdsr.comparison.parts import Part, ReportPicture, Table
from kdsr.comparison.references import Reference, find_below_bicubic, score_references
from kdsr.comparison.stopping import make_stopped_table
from kdsr.comparison.summary import RunResult, Summary
from kdsr.comparison.tables import make_gain_table, make_result_tables
from kdsr.durable import write_durably
from kdsr.errors import UserError
from kdsr.markdown import escape_html, markdown_table
from kdsr.pictures.photo_rows import Box
from kdsr.wording import installing

CROPS = (
    'The places where the methods differ most, so that differences look larger than they are on average. PSNR and SSIM '
    'on Y of each crop; the best method is bold. Each method is shown with its first finished seed.'
)
CROPS_BY_HAND = (
    'PSNR and SSIM on Y of each crop; the best method is bold. Each method is shown with its first finished seed.'
)
ERRORS = (
    'The errors in the same crops, with their mean beneath. The smallest mean of the methods is bold; teachers and '
    'bicubic are not compared.'
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
        summary: The comparison with its results so far.
        folder: Is created if missing.
        command: The command that trains the runs, for the head of the report.
        photos: How many validation images to show as crops and errors; 0 runs no network.
        crops: Image to boxes, to show instead of the places where the methods differ most.

    Returns:
        Warnings about the results, and what could not be written and why.

    Raises:
        UserError: `folder` is a file, or a crop is not inside an image.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f'--out {folder} is a file; name a folder.')
    folder.mkdir(parents=True, exist_ok=True)
    references, problems = score_references(summary, run_teachers=bool(photos or crops))
    pictures: list[ReportPicture] = []
    try:
        from kdsr.comparison.curves import draw_pictures  # matplotlib is optional

        pictures = [ReportPicture(title, file) for title, file in draw_pictures(summary, folder).items()]
        if photos or crops:
            pictures += _draw_crops(summary, folder, photos, crops, problems)
    except ImportError as error:
        problems.append(f'No pictures were drawn ({error}). The rest is written. For pictures, {installing("plots")}')
    parts = make_sections(summary, command, pictures, references)
    write_durably(folder / 'results.csv', format_results_csv(summary).encode())
    write_durably(folder / 'runs.csv', format_runs_csv(summary).encode())
    write_durably(folder / 'report.md', format_report(summary, parts).encode())
    html = format_page(summary.comparison.name, summary.comparison.about, parts, folder)
    write_durably(folder / 'report.html', html.encode())
    return [*find_below_bicubic(summary, references), *problems]


def _draw_crops(
    summary: Summary, folder: Path, count: int, crops: Mapping[str, Sequence[Box]] | None, problems: list[str]
) -> list[ReportPicture]:
    from kdsr.comparison.pictures import choose_rows  # matplotlib is optional
    from kdsr.pictures.crops import draw_crops_and_errors

    rows, missing = choose_rows(summary, count, crops=crops)
    problems += missing
    texts = (CROPS_BY_HAND if crops else CROPS, ERRORS)
    files = draw_crops_and_errors(rows, str(folder)) if rows else {}
    return [ReportPicture(title, file, text) for (title, file), text in zip(files.items(), texts)]


def make_sections(
    summary: Summary,
    command: str,
    pictures: Sequence[ReportPicture] = (),
    references: Sequence[Reference] = (),
) -> list[Part]:
    """Return the parts of the report in their order.

    Args:
        summary: The comparison with its results so far.
        command: The command that trains the runs.
        pictures: Curves and crops.
        references: Bicubic and teachers, with their values.
    """
    papers = paper_table(summary)
    parts: list[Part] = [make_conditions_table(summary, command, find_below_bicubic(summary, references))]
    parts += [*make_result_tables(summary, references), *([papers] if papers else []), *pictures]
    parts += [make_gain_table(summary), make_cost_table(summary)]
    stopped = make_stopped_table(summary)
    parts += [stopped] if stopped else []
    unfinished = [result for result in summary.all if not result.finished]
    if unfinished:
        parts.append(Table('Not finished', '', ('run', 'iterations', 'of'), [_list_progress(r) for r in unfinished]))
    return [*parts, '`results.csv` holds every validation of every run, `runs.csv` what each run was and cost.']


def format_report(summary: Summary, parts: Sequence[Part]) -> str:
    """Return the report as Markdown.

    Args:
        summary: For the title.
        parts: See :func:`make_sections`.
    """
    about = escape_html(summary.comparison.about.strip())
    texts = [f'# {summary.comparison.name}', about, *map(_format_part, parts)]
    return '\n\n'.join(text for text in texts if text) + '\n'


def _format_part(part: Part) -> str:
    if isinstance(part, str):
        return part
    blocks = [f'## {part.title}'] if part.title else []
    blocks += [part.text] if part.text else []
    if isinstance(part, ReportPicture):
        return '\n\n'.join([*blocks, f'![{part.title}]({part.file})'])
    rows = [[escape_html(cell) for cell in row] for row in part.rows]
    return '\n\n'.join([*blocks, markdown_table([escape_html(cell) for cell in part.head], rows)])


def _list_progress(result: RunResult) -> list[str]:
    iteration = result.record.iteration if result.record else 0
    return [result.run.name, f'{iteration:,}', f'{result.run.iterations:,}']


def format_results_csv(summary: Summary) -> str:
    """Return every validation of every run, one per line."""
    rows = (
        [
            *(result.run.label, result.run.seed, name, metric, p.iteration, p.value),
            *(f'{p.seconds:.3f}', f'{p.cpu_seconds:.3f}'),
        ]
        for result in summary.all
        if result.record
        for (name, metric), curve in result.record.curves.items()
        for p in curve
    )
    return _format_csv(('run', 'seed', 'set', 'metric', 'iteration', 'value', 'train_seconds', 'cpu_seconds'), rows)


def format_runs_csv(summary: Summary) -> str:
    """Return what each run was and cost, one per line."""
    return _format_csv(
        RUN_COLUMNS, ([facts.get(key, '') for key in RUN_COLUMNS] for facts in map(read_run_facts, summary.all))
    )


def _format_csv(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator='\n')
    writer.writerow(head)
    writer.writerows(rows)
    return text.getvalue()
