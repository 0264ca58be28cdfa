"""Points of the papers' pictures of PSNR against cost (PISR, Fig. 4; RFDN, Figs. 4 and 5)."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from kdsr.papers.results import SETS, paper_cells

FILE = Path(__file__).with_name('complexity.csv')
PUBLISHED_TABLES = (('RFDN', '3'), ('PISR', '2'))  # of light networks with their costs


@dataclass(frozen=True)
class PublishedPoint:
    """A network in a paper's table.

    Attributes:
        network: As printed.
        cost: Parameters in thousands, or multiply-adds in 10^9 for an output of 1280x720.
        psnr: In dB, on Y.
    """

    network: str
    cost: float
    psnr: float


def find_published(scale: int, set_name: str, cost: str) -> list[PublishedPoint]:
    """Return the published networks at a scale, on a set, with their cost; a network of two papers once.

    Args:
        scale: S.
        set_name: Name of the set.
        cost: 'parameters' or 'multi-adds'; the tables print no other, so others have no points.

    Example:
        >>> [p.psnr for p in find_published(4, 'Set5', 'parameters') if p.network == 'IMDN']
        [32.21]
    """
    name = SETS.get(set_name.lower(), set_name)
    points: dict[str, PublishedPoint] = {}
    for cell in paper_cells():
        if (cell.paper, cell.table) not in PUBLISHED_TABLES or (cell.scale, cell.set) != (scale, name):
            continue
        costs = {'parameters': cell.parameters_k, 'multi-adds': _multi_adds().get((cell.network, scale))}
        printed = costs.get(cost)
        if printed and cell.psnr is not None:
            points.setdefault(cell.network, PublishedPoint(cell.network, printed, cell.psnr))
    return list(points.values())


@lru_cache(maxsize=1)
def _multi_adds() -> dict[tuple[str, int], float]:
    with FILE.open(encoding='utf-8', newline='') as file:
        return dict(_read_multi_adds(csv.DictReader(file)))


def _read_multi_adds(lines: csv.DictReader[str]) -> Iterator[tuple[tuple[str, int], float]]:
    for line in lines:
        if (line['paper'], line['quantity'], line['unit']) == ('PISR', 'multiadds', 'G'):
            yield (line['network'], int(line['scale'])), float(line['value'])
