"""The tables of a method's page: the numbers that papers print, and those measured here."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from kdsr.comparison.papers import MISPRINT
from kdsr.comparison.significance import compute_mean_and_spread
from kdsr.markdown import markdown_table
from kdsr.methods.table import Measured, Method, Rows
from kdsr.papers.results import TABLES, Cell, paper_cells

_OF_PARAMETERS = re.compile(r' exact \d+$')  # a note about the size of the network, not about the numbers
_SETS = ('Set5', 'Set14', 'B100', 'Urban100', 'Manga109')


def format_printed_table(method: Method) -> str:
    """Return the rows of the papers' tables that show a method, as Markdown; empty where there are none."""
    cells = [cell for wanted in method.rows for cell in _select_cells(wanted)]
    if not cells:
        return ''
    sets = [name for name in _SETS if any(cell.set == name for cell in cells)]
    digits = {
        rows.paper: _find_decimals(cell.psnr for cell in cells if cell.paper == rows.paper) for rows in method.rows
    }
    shown: dict[tuple[str, str, str], dict[str, str]] = {}
    for cell in cells:
        key = (f'{cell.paper}, Table {cell.table}', f'{_name_network(cell)} x{cell.scale}', _escape(cell.row))
        shown.setdefault(key, {})[cell.set] = _format_cell(cell, digits[cell.paper])
    rows = [[*key, *(found.get(name, '') for name in sets)] for key, found in shown.items()]
    return '\n'.join([markdown_table(['table', 'network', 'row', *sets], rows), *_write_remarks(cells, sets)])


def _select_cells(wanted: Rows) -> list[Cell]:
    """Return the cells of some rows, network by network, in the order of `wanted.rows`."""
    cells = [
        cell for cell in paper_cells()
        if cell.paper == wanted.paper and cell.table in TABLES[wanted.paper] and cell.scale in wanted.scales
        and cell.row in wanted.rows and cell.set in _SETS and cell.kind == 'result'
    ]  # fmt: skip
    groups = list(dict.fromkeys(_find_group(cell) for cell in cells if cell.row == wanted.own or not wanted.own))
    kept = [cell for cell in cells if _find_group(cell) in groups]
    return sorted(kept, key=lambda cell: (groups.index(_find_group(cell)), wanted.rows.index(cell.row)))


def _find_group(cell: Cell) -> tuple[str, str, int]:
    return cell.table, _name_network(cell), cell.scale


def _name_network(cell: Cell) -> str:
    return re.sub(r'_lightweight|_baseline| \(Ours\)|\*$', '', cell.network)


def _find_decimals(values: Iterable[float | None]) -> int:
    """Return the number of decimals of PSNR in a paper: the most that any of its numbers has."""
    return max(len(repr(value).partition('.')[2]) for value in values if value is not None)


def _format_cell(cell: Cell, digits: int) -> str:
    texts = [f'{cell.psnr:.{digits}f}'] if cell.psnr is not None else []
    texts += [f'{cell.ssim:.4f}'] if cell.ssim is not None else []
    return ' / '.join(texts) + (MISPRINT if cell.misprint else '')


def _escape(row: str) -> str:
    return row.replace('*', r'\*')


def _write_remarks(cells: Sequence[Cell], sets: Sequence[str]) -> Iterator[str]:
    """Yield a paragraph with the misprints and notes of the cells, after an empty line; nothing if there are none."""
    remarks = [
        f'{MISPRINT} {_name_network(c)} x{c.scale}, {_escape(c.row)}, {c.set}: likely a misprint, '
        f'{c.misprint.split()[0].upper()} {c.misprint.split()[1]} was meant.'
        for c in cells if c.misprint
    ]  # fmt: skip
    notes: dict[str, list[Cell]] = {}
    for cell in cells:
        for note in filter(None, cell.note.split('; ') if not _OF_PARAMETERS.search(cell.note) else ()):
            notes.setdefault(note, []).append(cell)
    for note, noted in notes.items():
        rows, networks, on = (list(dict.fromkeys(x)) for x in zip(*((c.row, _name_network(c), c.set) for c in noted)))
        place = '' if len(on) == len(sets) else f' on {", ".join(on)}'
        remarks.append(f'{_escape(", ".join(rows))} ({", ".join(networks)}){place}: {note}.')
    if remarks:
        yield ''
        yield ' '.join(remarks)


def format_measured_table(measured: Measured, results: Path) -> str:
    """Return the results of a comparison as Markdown.

    Args:
        measured: The comparison, and its runs to show.
        results: The folder benchmarks/results.
    """
    last = _read_last(results / measured.study / 'results.csv')
    sets = list(dict.fromkeys(name for _, name in last))
    base = next(iter(measured.runs))
    rows = []
    for label, title in measured.runs.items():
        shown = []
        for name in sets:
            mean, spread = compute_mean_and_spread(last[label, name])
            gain = mean - compute_mean_and_spread(last[base, name])[0]
            shown.append(f'{mean:.3f} ± {spread:.3f}' + (f' ({gain:+.3f})' if label != base else ''))
        rows.append([title, str(len(last[label, sets[0]])), *shown])
    return markdown_table(['run', 'seeds', *sets], rows)


def _read_last(file: Path) -> dict[tuple[str, str], list[float]]:
    """Return (run, set) to the PSNR of every seed after the last iteration."""
    found: dict[tuple[str, str, str], tuple[int, float]] = {}
    with file.open(encoding='utf-8', newline='') as lines:
        for row in csv.DictReader(lines):
            key = (row['run'], row['set'], row['seed'])
            if row['metric'] == 'psnr' and int(row['iteration']) >= found.get(key, (0, 0.0))[0]:
                found[key] = (int(row['iteration']), float(row['value']))
    values: dict[tuple[str, str], list[float]] = {}
    for (run, name, _), (_, value) in found.items():
        values.setdefault((run, name), []).append(value)
    return values
