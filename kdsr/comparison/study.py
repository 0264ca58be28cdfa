"""`kdsr compare`: train several methods and seeds with the same budget, and write one report."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from kdsr.comparison.conditions import make_path_portable
from kdsr.comparison.plan import read_comparison
from kdsr.comparison.planned_runs import Comparison
from kdsr.comparison.report import write_report
from kdsr.comparison.runs import check_kept, select, train_all
from kdsr.comparison.stopping import ExcludedGain, find_excluded_gain, keep_reason
from kdsr.comparison.summary import summarise
from kdsr.errors import UserError
from kdsr.pictures.folders import parse_crops
from kdsr.wording import counted


def compare(
    file: str,
    *,
    out: str | None = None,
    workers: int = 1,
    only: Sequence[str] = (),
    report_only: bool = False,
    stop_early: bool = False,
    photos: int = 0,
    crops: Sequence[str] = (),
    say: Callable[[str], None] = print,
) -> None:
    """Train the runs that are not finished, and write the report of all runs.

    Args:
        file: Comparison file, see docs/compare.md.
        out: Folder of the report; `results/<name>` when None.
        workers: How many runs to train at a time, at least 1.
        only: Labels to train, with the runs that they need; all when empty.
        report_only: Train nothing.
        stop_early: Stop the runs of a label when their gain is excluded, see :mod:`kdsr.comparison.stopping`.
        photos: How many validation images to show as crops and errors; 0 runs no network.
        crops: `IMAGE:x,y,w,h`, to show instead of the places where the methods differ most.
        say: Receives lines about the progress.

    Raises:
        UserError: the file has a mistake; or a run failed. Then the other runs are trained, and the report is written.
    """
    if workers < 1:
        raise UserError(f'--workers {workers}: it must be at least 1.')
    boxes = parse_crops(crops)
    comparison = read_comparison(file)
    runs = select(comparison, only)
    folder = Path(out or os.path.join('results', comparison.name))
    check_kept(comparison.runs)
    try:
        hopeless = _make_stopper(comparison) if stop_early else None
        failures = [] if report_only else train_all(comparison, runs, workers, say, hopeless)
    except KeyboardInterrupt:
        raise UserError('stopped. The same command continues from the last saved states.') from None
    command = f'kdsr compare {make_path_portable(file)}' + (f' --workers {workers}' if workers > 1 else '')
    command += ' --stop-early' if stop_early else ''
    for problem in write_report(summarise(comparison), folder, command, photos, boxes):
        say(problem)
    say(f'Report: {folder}/report.md and report.html')
    if failures:
        raise UserError(
            f'{len(failures)} of {counted(len(runs), "run")} did not finish: {", ".join(failures)}. The reasons are '
            'above; the same command tries again.'
        )


def _make_stopper(comparison: Comparison) -> Callable[[str], ExcludedGain | None]:
    """Return what says whether a label shall be stopped, and notes why for the report."""

    def find_and_keep(label: str) -> ExcludedGain | None:
        reason = find_excluded_gain(comparison, label)
        if reason is not None:
            keep_reason(Path('experiments') / comparison.name, label, reason)
        return reason

    return find_and_keep
