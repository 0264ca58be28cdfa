"""The result tables of the five papers.

`results.csv` holds every printed cell as it is printed; its column `misprint` names the value that was likely meant,
and `origin` says where a paper copied a number from. `rows.csv` names the option files of each row.
`complexity.csv` holds parameters, MultiAdds and run times. PSNR and SSIM are on Y, with S pixels cut from each border.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

FILE = Path(__file__).with_name('results.csv')
SETS = {'bsd100': 'B100', 'b100': 'B100', 'set5': 'Set5', 'set14': 'Set14', 'urban100': 'Urban100',
        'manga109': 'Manga109'}  # fmt: skip
# paper to the tables of its own results
TABLES = {'LSFD': ('2', '3', '4'), 'FACD': ('2',), 'PISR': ('2', '3'), 'MTKD': ('2', '3', '4'), 'RFDN': ('3',)}


@dataclass(frozen=True)
class Cell:
    """One cell of a table in a paper.

    Attributes:
        paper, table, network, row: As printed; `row` is the method.
        scale: S.
        set: Name of the test set.
        psnr, ssim: As printed, PSNR in dB; None where the cell has none.
        parameters_k: Parameters of the network in thousands; None where the table has none.
        kind: 'result', or another kind of number: a gain, the PSNR of features, of one image or of a crop, or the
            result of a teacher that sees the ground truth (privileged).
        origin: Where the paper took the number from: another table ('LSFD, Table 3, LFD') or publication; empty for its
            own number.
        misprint: Metric and likely value of a misprint, 'psnr 33.547'; empty where the cell looks right.
        note: A remark; empty for none.
    """

    paper: str
    table: str
    network: str
    scale: int
    row: str
    set: str
    psnr: float | None
    ssim: float | None
    parameters_k: float | None
    kind: str
    origin: str
    misprint: str
    note: str

    def likely(self, metric: Literal['psnr', 'ssim']) -> float | None:
        """Return the value of a metric, with a misprint corrected; None where the cell has none."""
        name, _, value = self.misprint.partition(' ')
        return float(value) if name == metric else getattr(self, metric)


@lru_cache(maxsize=1)
def paper_cells() -> tuple[Cell, ...]:
    """Return all cells of all tables.

    Example:
        >>> [c.psnr for c in paper_cells() if (c.table, c.row, c.set, c.scale) == ('3', 'LSFD', 'Set5', 4)]
        [32.107]
    """
    with FILE.open(encoding='utf-8', newline='') as file:
        return tuple(
            Cell(
                paper=r['paper'],
                table=r['table'],
                network=r['network'],
                scale=int(r['scale']),
                row=r['row'],
                set=r['set'],
                psnr=float(r['psnr']) if r['psnr'] else None,
                ssim=float(r['ssim']) if r['ssim'] else None,
                parameters_k=float(r['parameters_k']) if r['parameters_k'] else None,
                kind=r['kind'],
                origin=r['origin'],
                misprint=r['misprint'],
                note=r['note'],
            )
            for r in csv.DictReader(file)
        )
