"""The first table of a report: what a reader must know to judge the numbers, and to get them again."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import kdsr
from kdsr.comparison.costs import read_run_facts
from kdsr.comparison.parts import Table
from kdsr.comparison.planned_runs import PlannedRun
from kdsr.comparison.summary import Summary
from kdsr.data.benchmark_sets import describe_crop, find_crop_of
from kdsr.options.differences import list_option_differences

BUDGET = (
    'train.total_iter', 'datasets.train.batch_size_per_gpu', 'datasets.train.gt_size', 'datasets.train.dataroot_gt',
    'datasets.train.dataroot_lq',
)  # fmt: skip


def make_conditions_table(summary: Summary, command: str, warnings: Sequence[str] = ()) -> Table:
    """Return the command, metrics, sets, seeds, budget, code and hardware of a comparison.

    Args:
        summary: The comparison with its results so far.
        command: The command that trains the runs.
        warnings: What a reader must know first.
    """
    comparison = summary.comparison
    experiment = comparison.baseline_run.experiment
    facts = [read_run_facts(result) for result in summary.all]
    scale = experiment.scale or 1
    sets = ', '.join(
        f'{name} (`{make_path_portable(str(d.get("dataroot_gt")))}`, {describe_crop(find_crop_of(d, scale), scale)})'
        for name, d in experiment.validation_sets.items()
    )
    dates = sorted(f[key] for f in facts for key in ('started', 'ended') if f.get(key))
    stages = [label for label in comparison.labels if label not in comparison.shown]
    rows = [
        *(('**warning**', text) for text in warnings),
        ('command', f'`{command}`'),
        ('metrics', '; '.join(f'{name}: {_describe_metric(m)}' for name, m in experiment.validation.metrics.items())),
        ('validation sets', f'{sets}; x{scale}'),
        ('seeds', ', '.join(map(str, comparison.seeds))),
        ('budget', _describe_budget(summary)),
        ('baseline', comparison.baseline_run.title),
        ('stages, not shown', ', '.join(stages)),
        ('trained', f'{dates[0]} to {dates[-1]}' if dates else 'not yet'),
        (
            'code',
            f'kdsr {kdsr.__version__}, commit {_join_distinct(facts, "commit")}; '
            f'PyTorch {_join_distinct(facts, "torch")}',
        ),
        ('hardware', f'{_join_distinct(facts, "device")}; threads of a run: {_join_distinct(facts, "threads")}'),
    ]
    return Table('', '', ('', ''), [(key, value) for key, value in rows if value])


def make_path_portable(path: str) -> str:
    """Return a path without the folders of this machine: relative to the current folder, or only its last part."""
    relative = os.path.relpath(path)
    return os.path.basename(os.path.normpath(path)) if relative.startswith(os.pardir) else relative


def _describe_metric(metric: Mapping[str, Any]) -> str:
    return f'{metric.get("type")} ({", ".join(f"{k} {v}" for k, v in metric.items() if k != "type")})'


def _join_distinct(facts: Sequence[dict[str, Any]], key: str) -> str:
    return ', '.join(dict.fromkeys(str(f[key]) for f in facts if f.get(key) not in (None, ''))) or '?'


def _describe_budget(summary: Summary) -> str:
    """Return the budget of the baseline, and how other runs differ from it."""
    comparison = summary.comparison
    base = _read_budget(comparison.baseline_run)
    parts = [', '.join(f'{key.split(".")[-1]} {value}' for key, value in base.items() if 'dataroot' not in key)]
    for label in comparison.shown:
        changed = list_option_differences(base, _read_budget(comparison.of(label)[0]))
        if changed:
            parts.append(f'**{label} differs**: {", ".join(changed)}')
    return '; '.join(parts)


def _read_budget(run: PlannedRun) -> dict[str, Any]:
    values = {}
    for key in BUDGET:
        node: Any = run.opt
        for part in key.split('.'):
            node = node.get(part) if isinstance(node, dict) else None
        values[key] = node
    return values
