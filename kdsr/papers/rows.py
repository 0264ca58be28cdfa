"""Which option file trains or tests the network behind each row of the papers' tables.

`rows.csv` names, for every row of `results.csv` that stands in a numbered table, its option files below `options/`.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, Literal

from kdsr import options
from kdsr.experiment import Experiment, read_experiment
from kdsr.options.shipped import find_shipped_folder

FILE = Path(__file__).with_name('rows.csv')
PRINT_THREE = ('LSFD', 'FACD')  # papers with three decimals of PSNR
RowKind = Literal['trained', 'official', 'bicubic', 'derived', 'published']


@dataclass(frozen=True)
class PrintedRow:
    """One row of a table at one scale.

    Attributes:
        paper, table, network, row: As in `results.csv`.
        scale: S.
        kind: 'trained': `file` trains it; 'official': `test` scores released weights; 'bicubic'; 'derived': computed
            from other rows; 'published': from another paper, no file.
        file: Option file of the training, relative to `options/`; empty for none.
        test: Option file of the test, relative to `options/`; empty where `kdsr benchmark FILE` is the way.
        note: A remark; empty for none.
    """

    paper: str
    table: str
    network: str
    row: str
    scale: int
    kind: RowKind
    file: str
    test: str
    note: str

    def load(self) -> Experiment:
        """Return the experiment of its training."""
        return _load(self.file)


@cache
def _load(file: str) -> Experiment:
    return read_experiment(options.load(str(find_shipped_folder() / file)))


@lru_cache(maxsize=1)
def paper_rows() -> tuple[PrintedRow, ...]:
    """Return all rows of all numbered tables.

    Example:
        >>> [r.file for r in paper_rows() if (r.paper, r.table, r.row, r.scale) == ('LSFD', '4', 'LSFD', 2)]
        ['lsfd_san_x2.yml']
    """
    with FILE.open(encoding='utf-8', newline='') as file:
        return tuple(row for line in csv.DictReader(file) for row in _rows_of(line))


def find_decimals(files: Sequence[str]) -> int:
    """Return how many decimals of PSNR the papers print whose option files are among these: 3, or 2 for the others."""
    names = {'/'.join(Path(file.rpartition('=')[2]).resolve().parts) for file in files}
    precise = [file for row in paper_rows() if row.paper in PRINT_THREE for file in (row.file, row.test) if file]
    return 3 if any(name.endswith(f'/{file}') for name in names for file in precise) else 2


def _rows_of(line: Mapping[str, Any]) -> Iterator[PrintedRow]:
    for scale in line['scales'].split():
        files = {key: f'{line[key].format(scale)}.yml' if line[key] else '' for key in ('file', 'test')}
        yield PrintedRow(
            paper=line['paper'],
            table=line['table'],
            network=line['network'],
            row=line['row'],
            scale=int(scale),
            kind=line['kind'],
            note=line['note'],
            **files,
        )
