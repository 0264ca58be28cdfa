"""Which rows of the papers a run is comparable with: those whose own option file has its network and its method."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import torch

from kdsr.distillation.building import build_network_at
from kdsr.experiment import Experiment
from kdsr.papers.differences import find_differences, losses_of, resolve
from kdsr.papers.results import Cell, paper_cells
from kdsr.papers.rows import PrintedRow, paper_rows

# Arguments of losses that make another method; all others are settings of the same one.
METHOD_KEYS = {
    'LSFDLoss': ('selective',),
    'FAKDLoss': ('selective',),
    'FACDLoss': ('adaptive', 'domain', 'similarity', 'use_gt_l1', 'use_teacher_l1', 'use_contrast'),
    'VIDLoss': ('pdf',),
    'WaveletLoss': ('level', 'high_frequency_only'),
}
SAME_SIZE = 0.005  # a reading may change a network by so much of its parameters (SAN's non-local module by 0.0004)


@dataclass(frozen=True)
class Match:
    """A row of a paper that a run can be compared with.

    Attributes:
        row: The row.
        cells: Name of the test set to its cell.
        differences: How the run differs from the row's own option file, in words; empty where nothing is known.
        origin: Where the paper took the numbers from; empty for its own.
    """

    row: PrintedRow
    cells: Mapping[str, Cell]
    differences: tuple[str, ...]
    origin: str


def find_matches(experiment: Experiment) -> list[Match]:
    """Return the rows of the papers for the network, method and scale of an experiment.

    A row matches if its own option file (`kdsr/papers/rows.csv`) has this network and method. Where several rows of one
    table match (FAKD and FAKD*), those with the fewest differences are returned. Rows that repeat another row are left
    out.

    Args:
        experiment: A training.
    """
    found: dict[tuple[str, str], list[Match]] = {}
    copies = set()
    for row in paper_rows():
        if row.kind != 'trained' or row.scale != experiment.scale:
            continue
        cells = _cells_of(row)
        origin = next((cell.origin for cell in cells.values() if cell.origin), '')
        repeated = origin.startswith('LSFD,') or (origin, row.file) in copies
        if cells and not repeated and _is_the_same_run(experiment, row.load()):
            match = Match(row, cells, tuple(find_differences(experiment, row.load(), cells)), origin)
            found.setdefault((row.paper, row.table), []).append(match)
            if origin:
                copies.add((origin, row.file))
    return _leave_out_repeated(match for matches in found.values() for match in _closest(matches))


def _closest(matches: Sequence[Match]) -> list[Match]:
    fewest = min(len(match.differences) for match in matches)
    return [match for match in matches if len(match.differences) == fewest]


def _leave_out_repeated(matches: Iterable[Match]) -> list[Match]:
    """Leave out rows of the same file with the same numbers (FACD's Tables 2, 5 and 8)."""
    first: dict[tuple[Any, ...], Match] = {}
    for match in matches:
        first.setdefault((match.row.file, *(cell.psnr for cell in match.cells.values())), match)
    return list(first.values())


def _cells_of(row: PrintedRow) -> dict[str, Cell]:
    key = (row.paper, row.table, row.network, row.row, row.scale)
    return {
        cell.set: cell
        for cell in paper_cells()
        if cell.kind == 'result' and (cell.paper, cell.table, cell.network, cell.row, cell.scale) == key
    }


def _is_the_same_run(mine: Experiment, theirs: Experiment) -> bool:
    return describe_method(mine) == describe_method(theirs) and _is_the_same_network(
        mine.trained.opt, theirs.trained.opt
    )


def describe_method(experiment: Experiment) -> tuple[Any, ...]:
    """Return what makes a method, for comparison: role of the network, losses, views, aggregator, where it starts."""
    losses = [
        (kind, *(resolve('losses', loss).get(key) for key in METHOD_KEYS.get(kind, ())))
        for kind, loss in losses_of(experiment)
    ]
    compared = ('pixel_opt', 'perceptual_opt', 'gan_opt')
    image_losses = {key: loss.get('type') for key, loss in experiment.training.image_losses.items() if key in compared}
    return (
        experiment.model.trains,
        sorted(map(repr, losses)),
        sorted(f'{key} {kind}' for key, kind in image_losses.items() if kind),
        sorted(str(view.get('type')) for view in experiment.views.values()),
        experiment.aggregator is not None,
        experiment.init_from is not None,
        experiment.trained.weights is not None,
    )


def _is_the_same_network(mine: Mapping[str, Any], theirs: Mapping[str, Any]) -> bool:
    if mine.get('type') != theirs.get('type'):
        return False
    counts = [_count_parameters(json.dumps(network, sort_keys=True, default=str)) for network in (mine, theirs)]
    return abs(counts[0] - counts[1]) <= SAME_SIZE * counts[1]


@cache
def _count_parameters(network: str) -> int:
    with torch.random.fork_rng(devices=[]):  # SwinIR cannot be built on the meta device
        return sum(p.numel() for p in build_network_at('network_g', json.loads(network)).parameters())


def metric_of_papers(metric: Mapping[str, Any], experiment: Experiment) -> Literal['psnr', 'ssim', '']:
    """Return 'psnr' or 'ssim' if a metric of `val.metrics` is computed as in the papers; otherwise an empty text."""
    known: dict[str, Literal['psnr', 'ssim']] = {'calculate_psnr': 'psnr', 'calculate_ssim': 'ssim'}
    on_y = experiment.luminance or bool(metric.get('test_y_channel'))
    same = on_y and metric.get('crop_border') == experiment.scale
    return known.get(str(metric.get('type')), '') if same else ''
