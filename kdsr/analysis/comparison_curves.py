"""Validation curves of a comparison: mean over seeds with their spread, the gain over the baseline, and the cost."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np

from kdsr.analysis.comparison_summary import Column, Summary
from kdsr.analysis.training_record import Point

mpl.use('Agg')
from matplotlib import pyplot as plt

# Okabe and Ito: told apart by colour-blind readers too; the baseline is grey
COLOURS = ('#0072B2', '#D55E00', '#009E73', '#CC79A7', '#E69F00', '#56B4E9', '#000000', '#B8A000')
GREY = '#7f7f7f'
STYLES = ('-', '--', ':', '-.')


def draw_curves(summary: Summary, path: Path) -> bool:
    """Draw one line of panels per validation set, in the first metric; return whether there was anything to draw.

    Args:
        summary: Of the runs that are there, finished or not.
        path: PNG file to write.
    """
    metric = summary.columns[0][1]
    columns = [c for c in summary.columns if c[1] == metric]
    labels = [label for label in summary.comparison.shown if any(r.curve(columns[0]) for r in summary.results[label])]
    if not labels:
        return False
    figure, axes = plt.subplots(
        len(columns), 3, figsize=(14, 3.9 * len(columns) + 0.5), squeeze=False, layout='constrained'
    )
    for line, column in zip(axes, columns):
        for label in labels:
            _draw_run(line, summary, label, column)
        _finish(line, column, [curve for label in labels for curve in _curves(summary, label, column)])
    handles, names = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, names, loc='outside lower center', ncols=min(6, len(names)), frameon=False)
    figure.savefig(path, dpi=130)
    plt.close(figure)
    return True


def _curves(summary: Summary, label: str, column: Column) -> list[list[Point]]:
    return [curve for result in summary.results[label] if (curve := result.curve(column))]


def _style(summary: Summary, label: str) -> dict[str, Any]:
    comparison = summary.comparison
    if label == comparison.baseline:
        return {'color': GREY, 'linestyle': '-'}
    index = [other for other in comparison.shown if other != comparison.baseline].index(label)
    return {'color': COLOURS[index % len(COLOURS)], 'linestyle': STYLES[index // len(COLOURS) % len(STYLES)]}


def _draw_run(line: Sequence[plt.Axes], summary: Summary, label: str, column: Column) -> None:
    style, title = _style(summary, label), summary.comparison.of(label)[0].title
    by_seed = {r.run.seed: {p.iteration: p for p in r.curve(column)} for r in summary.results[label]}
    by_seed = {seed: curve for seed, curve in by_seed.items() if curve}
    if not by_seed:
        return
    steps = sorted(set.intersection(*(set(curve) for curve in by_seed.values())))
    values = np.array([[curve[i].value for i in steps] for curve in by_seed.values()])
    _band(line[0], steps, values, style, title)
    cost = np.array([[curve[i].cpu_seconds for i in steps] for curve in by_seed.values()]).mean(axis=0) / 60
    _band(line[2], list(cost), values, style, title)
    baseline = {
        r.run.seed: {p.iteration: p for p in r.curve(column)} for r in summary.results[summary.comparison.baseline]
    }
    shared = [seed for seed in by_seed if baseline.get(seed)]
    common = [i for i in steps if shared and all(i in baseline[seed] for seed in shared)]
    if common and label != summary.comparison.baseline:
        gains = np.array([[by_seed[seed][i].value - baseline[seed][i].value for i in common] for seed in shared])
        _band(line[1], common, gains, style, title)


def _band(axis: plt.Axes, x: Sequence[float], values: np.ndarray, style: dict[str, Any], title: str) -> None:
    """Draw the mean over seeds (rows) and a band of one standard deviation around it."""
    mean = values.mean(axis=0)
    axis.plot(x, mean, label=title, linewidth=1.6, marker='o', markersize=2.5, **style)
    if len(values) > 1:
        spread = values.std(axis=0, ddof=1)
        axis.fill_between(x, mean - spread, mean + spread, color=style['color'], alpha=0.15, linewidth=0)


def _finish(line: Sequence[plt.Axes], column: Column, curves: list[list[Point]]) -> None:
    name, metric = column
    for axis, title, label in zip(
        line,
        (f'{name}: {metric}', f'{name}: gain over the baseline', f'{name}: {metric} against its cost'),
        ('iteration', 'iteration', 'processor time of training [min]'),
    ):
        axis.set_title(title, fontsize=10)
        axis.set_xlabel(label, fontsize=9)
        axis.tick_params(labelsize=8)
        axis.grid(alpha=0.25, linewidth=0.6)
        axis.spines[['top', 'right']].set_visible(False)
    line[1].axhline(0, color=GREY, linewidth=1.2)
    low, high = _telling_range(curves)
    for axis in (line[0], line[2]):
        axis.set_ylim(low, high)


def _telling_range(curves: list[list[Point]]) -> tuple[float, float]:
    """Leave out the climb at the start, which would squeeze the differences into one line."""
    later = [p.value for curve in curves for p in curve[len(curve) // 4 :]]
    low, high = min(later), max(later)
    margin = 0.06 * (high - low) or 0.01 * abs(high) or 1.0
    return low - margin, high + margin
