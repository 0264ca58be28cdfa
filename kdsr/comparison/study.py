"""`kdsr compare`: several methods and seeds with the same budget, from one file to one report."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from kdsr.comparison.plan import read_comparison
from kdsr.comparison.report import write_report
from kdsr.comparison.runs import check_kept, select, train_all
from kdsr.comparison.summary import summarise
from kdsr.comparison.tables import shown_path
from kdsr.errors import UserError
from kdsr.pictures.folders import parse_crops


def compare(
    file: str,
    out: str | None = None,
    workers: int = 1,
    only: Sequence[str] = (),
    report_only: bool = False,
    photos: int = 0,
    crops: Sequence[str] = (),
    say: Callable[[str], None] = print,
) -> None:
    """Train what is not finished, and write the report of everything that is there.

    Args:
        file: Comparison file, see docs/compare.md.
        out: Folder of the report; `results/<name>` when left out.
        workers: Trainings at a time.
        only: Labels to train; all when empty. What they need is trained too.
        report_only: Train nothing.
        photos: Of how many validation images the report shows crops and errors; finished networks are run for them.
        crops: By hand, `IMAGE:x,y,w,h`, instead of where the methods differ most.
        say: Told how it goes.

    Raises:
        UserError: the file is wrong, or (after the others were trained and the report was written) a run failed.
    """
    if workers < 1:
        raise UserError(f'--workers {workers}: at least 1.')
    boxes = parse_crops(crops)
    comparison = read_comparison(file)
    runs = select(comparison, only)
    folder = Path(out or os.path.join('results', comparison.name))
    check_kept(comparison.runs)
    try:
        failures = [] if report_only else train_all(comparison, runs, workers, say)
    except KeyboardInterrupt:
        raise UserError('stopped. The same command goes on from the last saved states.') from None
    command = f'kdsr compare {shown_path(file)}' + (f' --workers {workers}' if workers > 1 else '')
    for problem in write_report(summarise(comparison), folder, command, photos, boxes):
        say(problem)
    say(f'Report: {folder}/report.md and report.html')
    if failures:
        told = f'{len(failures)} of {len(runs)} runs did not finish: {", ".join(failures)}.'
        raise UserError(f'{told} The reasons are above; the same command tries again.')
