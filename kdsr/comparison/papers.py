"""The papers' own rows beside the runs of a comparison with the same student, method, scale, set and metric."""

from __future__ import annotations

from collections.abc import Mapping

from kdsr.comparison.parts import DASH, Table
from kdsr.comparison.significance import compute_mean_and_spread
from kdsr.comparison.summary import Summary
from kdsr.papers.matching import find_matches, metric_of_papers
from kdsr.papers.results import SETS, Cell

TEXT = (
    'Numbers printed in the papers for the same student, method, scale, test set and metric, with the value measured '
    'here in parentheses. The last column names every difference between the options here and the option file of the '
    'row (options/README.md). Where it is not empty, two different numbers do not contradict each other. Rows that '
    'repeat another row are left out.'
)
MISPRINT = '\u2020'


def paper_table(summary: Summary) -> Table | None:
    """Return the rows of the papers that belong to the runs of a comparison; None where there are none."""
    comparison, rows, misprints = summary.comparison, [], []
    experiment = comparison.baseline_run.experiment
    sets = {name: SETS.get(name.lower(), name) for name in experiment.validation_sets}
    metrics = {name: metric_of_papers(m, experiment) for name, m in experiment.validation.metrics.items()}
    for label in comparison.shown:
        run = comparison.of(label)[0]
        for match in find_matches(run.experiment):
            cells, copied = match.cells, f' (copied from {match.origin})' if match.origin else ''
            row = f'{match.row.paper}, Table {match.row.table}: {match.row.row}{copied}'
            for metric, kind in metrics.items():
                texts = [_cell(summary, label, name, metric, kind, cells.get(sets[name])) for name in sets]
                if not any(texts):
                    continue
                different = '; '.join(match.differences) or 'nothing known'
                texts = [text or DASH for text in texts]
                rows.append([run.title, row, metric, *texts, different])
                misprints += _misprints(cells, kind, list(sets.values()))
    if not rows:
        return None
    text = ' '.join([TEXT, *dict.fromkeys(misprints)])
    return Table("The papers' rows", text, ('run', 'row', 'metric', *sets, 'differs here'), rows)


def _cell(summary: Summary, label: str, name: str, metric: str, kind: str, cell: Cell | None) -> str:
    printed = getattr(cell, kind, None) if kind else None
    if printed is None:
        return ''
    values = list(summary.values(label, (name, metric)).values())
    digits = 3 if kind == 'psnr' else 4
    mark = MISPRINT if cell is not None and cell.misprint.startswith(kind) else ''
    here = f'{compute_mean_and_spread(values)[0]:.{digits}f}' if values else 'not finished'
    return f'{printed:.{digits}f}{mark} ({here})'


def _misprints(cells: Mapping[str, Cell], kind: str, sets: list[str]) -> list[str]:
    return [
        f'{MISPRINT} {c.paper}, Table {c.table}, {c.row}, {c.set}: likely a misprint of {c.misprint.split()[1]}.'
        for c in cells.values()
        if c.misprint.startswith(kind) and kind and c.set in sets
    ]
