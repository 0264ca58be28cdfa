"""The curves of a comparison: validation, gain over the baseline, validation against cost, and losses."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np

from kdsr.comparison.costs import measure_stages
from kdsr.comparison.summary import Column, RunResult, Summary
from kdsr.comparison.training_record import Point
from kdsr.experiment import read_experiment
from kdsr.experiment.loss_weights import find_loss_weights

mpl.use('Agg')
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

# Okabe and Ito's colours, which colour-blind readers can distinguish; the baseline is grey
COLOURS = ('#0072B2', '#D55E00', '#009E73', '#CC79A7', '#E69F00', '#56B4E9', '#000000', '#B8A000')
GREY = '#7f7f7f'
STYLES = ('-', '--', ':', '-.')
UNITS = (('h', 3600.0), ('min', 60.0), ('s', 1.0))

Curves = Mapping[int, Mapping[int, Point]]  # seed to iteration to point
Arrays = tuple[np.ndarray, np.ndarray, np.ndarray]  # (T,) iterations, (seeds, T) values, (T,) mean seconds


def draw_pictures(summary: Summary, folder: Path) -> dict[str, str]:
    """Draw the curves of all runs, finished or not.

    Args:
        summary: The comparison with its results so far.
        folder: Where the PNG files go.

    Returns:
        Title to file name; empty where no run has any values.
    """
    drawings = {
        'Validation during training': ('curves.png', _draw_validation),
        'Losses during training': ('losses.png', _draw_losses),
    }
    return {title: file for title, (file, draw) in drawings.items() if draw(summary, folder / file)}


def _draw_validation(summary: Summary, path: Path) -> bool:
    """Draw one row of panels per validation set, for the first metric. Return whether there was anything to draw."""
    columns = [c for c in summary.columns if c[1] == summary.columns[0][1]]
    curves = {column: _group_by_label(summary, column, _list_validations) for column in columns}
    curves = {column: found for column, found in curves.items() if found}
    if not curves:
        return False
    figure, axes = plt.subplots(
        len(curves), 4, figsize=(18, 3.7 * len(curves) + 0.6), squeeze=False, layout='constrained'
    )
    for line, (column, found) in zip(axes, curves.items()):
        _draw_set(line, summary, column, found)
    _save(figure, summary, next(iter(curves.values())), path)
    return True


def _draw_losses(summary: Summary, path: Path) -> bool:
    """Draw one panel per term of the loss, with all runs that have it; another one where it has a factor, without it.

    Return whether there was anything to draw.
    """
    names = dict.fromkeys(name for result in summary.all if result.record for name in result.record.losses)
    losses = {}
    for name in names:
        losses[f'{name} as logged'] = _group_by_label(summary, name, _list_losses)
        if any(_find_weight(result, name) != 1 for result in summary.all):
            losses[f'{name} without its factor'] = _group_by_label(summary, name, _list_unweighted)
    losses = {title: found for title, found in losses.items() if found}
    if not losses:
        return False
    width = min(3, len(losses))
    height = -(-len(losses) // width)
    figure, axes = plt.subplots(
        height, width, figsize=(4.7 * width, 3.4 * height + 0.6), squeeze=False, layout='constrained'
    )
    for axis in axes.flat[len(losses) :]:
        axis.axis('off')
    for axis, (title, found) in zip(axes.flat, losses.items()):
        for label, curves in found.items():
            steps, values, _ = _make_arrays(curves, 'seconds')
            _draw_band(axis, steps, _smooth(values), _choose_style(summary, label), marker='')
        _dress(axis, f'{title}, running mean', 'iteration')
        if all(line.get_ydata().min() > 0 for line in axis.lines):
            axis.set_yscale('log')
    _save(figure, summary, [label for label in summary.results if any(label in f for f in losses.values())], path)
    return True


def _list_validations(result: RunResult, column: Column) -> list[Point]:
    return result.curve(column)


def _list_losses(result: RunResult, name: str) -> list[Point]:
    return result.record.losses.get(name, []) if result.record else []


def _find_weight(result: RunResult, name: str) -> float:
    """Return the factor of a term in the log of a run; 1 where the run does not have it."""
    return find_loss_weights(read_experiment(result.run.opt, is_train=True)).get(name, 1.0)


def _list_unweighted(result: RunResult, name: str) -> list[Point]:
    """Return a term without its factor; nothing where that is 0."""
    weight = _find_weight(result, name)
    return [replace(point, value=point.value / weight) for point in _list_losses(result, name)] if weight else []


def _group_by_label(summary: Summary, what: Any, of: Callable[[RunResult, Any], list[Point]]) -> dict[str, Curves]:
    """Return label to curves, for the labels that have some."""
    found = {}
    for label in summary.comparison.shown:
        seeds = {r.run.seed: {p.iteration: p for p in of(r, what)} for r in summary.results[label]}
        found[label] = {seed: curve for seed, curve in seeds.items() if curve}
    return {label: curves for label, curves in found.items() if curves}


def _draw_set(line: Sequence[plt.Axes], summary: Summary, column: Column, found: Mapping[str, Curves]) -> None:
    """Draw metric, gain, cost, and gain at equal cost of one validation set."""
    clock = 'seconds' if summary.on_gpu else 'cpu_seconds'
    arrays = {
        label: _make_arrays(curves, clock, _mean_stages(summary, label, clock)) for label, curves in found.items()
    }
    unit, divisor = next(u for u in UNITS if u[1] <= max(cost[-1] for _, _, cost in arrays.values()) or u[1] == 1)
    baseline = found.get(summary.comparison.baseline, {})
    gains, timely = [], []
    for label, (steps, values, cost) in arrays.items():
        style = _choose_style(summary, label)
        _draw_band(line[0], steps, values, style)
        _draw_band(line[2], cost / divisor, values, style)
        if label != summary.comparison.baseline:
            gains += _draw_gain(line[1], found[label], baseline, style)
            timely += _draw_gain_at_cost(
                line[3], arrays[label], arrays.get(summary.comparison.baseline), divisor, style
            )
    name, metric = column
    _dress(line[0], f'{name}: {metric}', 'iteration')
    _dress(line[1], f'{name}: {metric}, gain over the baseline', 'iteration')
    kind = 'training' if summary.on_gpu else 'processor'
    time = f'{kind} time with stages and teacher caches [{unit}]'
    _dress(line[2], f'{name}: {metric} against its cost', time)
    _dress(line[3], f'{name}: {metric}, gain at equal cost', time)
    for axis, drawn in ((line[1], gains), (line[3], timely)):
        axis.axhline(0, color=GREY, linewidth=1.2)
        if drawn:
            axis.set_ylim(_find_limits([*drawn, np.zeros((1, 1))]))
    for axis in (line[0], line[2]):
        axis.set_ylim(_find_limits([values for _, values, _ in arrays.values()]))


def _draw_gain(axis: plt.Axes, curves: Curves, baseline: Curves, style: Mapping[str, str]) -> list[np.ndarray]:
    """Draw the differences of the seeds that both have; return them as (seeds, T), or nothing if there are none."""
    shared = [seed for seed in curves if seed in baseline]
    steps = sorted(set.intersection(*(curves[s].keys() & baseline[s].keys() for s in shared))) if shared else []
    if not steps:
        return []
    gains = np.array([[curves[seed][i].value - baseline[seed][i].value for i in steps] for seed in shared])
    _draw_band(axis, np.array(steps), gains, style)
    return [gains]


def _draw_gain_at_cost(
    axis: plt.Axes, run: Arrays, baseline: Arrays | None, divisor: float, style: Mapping[str, str]
) -> list[np.ndarray]:
    """Draw how far the mean of a run is above that of the baseline after the same time; return it as (1, T).

    Between its validations the baseline is a straight line. After its end it keeps its last value.
    """
    if baseline is None:
        return []
    _, values, cost = run
    _, theirs, their_cost = baseline
    began = cost >= their_cost[0]  # before its first validation the baseline is not known
    gain = values.mean(axis=0)[began] - np.interp(cost[began], their_cost, theirs.mean(axis=0))
    if not gain.size:
        return []
    _draw_band(axis, cost[began] / divisor, gain[None], style)
    return [gain[None]]


def _mean_stages(summary: Summary, label: str, clock: str) -> float:
    """Return the cost in seconds of what the runs of a label need before they start: other runs and teacher caches."""
    return float(np.mean([getattr(measure_stages(summary, result), clock) for result in summary.results[label]]))


def _make_arrays(curves: Curves, clock: str, before: float = 0.0) -> Arrays:
    """Return the (T,) iterations that all seeds have, their (seeds, T) values, and the (T,) mean time in seconds.

    Args:
        curves: Of the seeds.
        clock: Attribute of the points that is the time.
        before: Seconds that are added to all times.
    """
    steps = sorted(set.intersection(*(set(curve) for curve in curves.values())))
    values = [[curve[i].value for i in steps] for curve in curves.values()]
    cost = [[getattr(curve[i], clock) for i in steps] for curve in curves.values()]
    return np.array(steps), np.array(values), before + np.mean(cost, axis=0)


def _smooth(values: np.ndarray) -> np.ndarray:
    """Return the running mean of (seeds, T) values over a tenth of the curve."""
    width = max(1, values.shape[1] // 10)
    sums = np.cumsum(np.pad(values, ((0, 0), (1, 0))), axis=1)
    ends = np.arange(1, values.shape[1] + 1)
    starts = np.maximum(0, ends - width)
    return (sums[:, ends] - sums[:, starts]) / (ends - starts)


def _choose_style(summary: Summary, label: str) -> dict[str, str]:
    comparison = summary.comparison
    if label == comparison.baseline:
        return {'color': GREY, 'linestyle': '-'}
    index = [other for other in comparison.labels if other != comparison.baseline].index(label)
    return {'color': COLOURS[index % len(COLOURS)], 'linestyle': STYLES[index // len(COLOURS) % len(STYLES)]}


def _draw_band(axis: plt.Axes, x: np.ndarray, values: np.ndarray, style: Mapping[str, str], marker: str = 'o') -> None:
    """Draw the mean over seeds (rows) and a band of one standard deviation around it."""
    mean = values.mean(axis=0)
    axis.plot(x, mean, color=style['color'], linestyle=style['linestyle'], linewidth=1.5, marker=marker, markersize=2.5)
    if len(values) > 1:
        spread = values.std(axis=0, ddof=1)
        axis.fill_between(x, mean - spread, mean + spread, color=style['color'], alpha=0.13, linewidth=0)


def _dress(axis: plt.Axes, title: str, x: str) -> None:
    axis.set_title(title, fontsize=10)
    axis.set_xlabel(x, fontsize=9)
    axis.tick_params(which='both', labelsize=8)
    axis.grid(alpha=0.25, linewidth=0.6)
    axis.spines[['top', 'right']].set_visible(False)


def _save(figure: Figure, summary: Summary, labels: Iterable[str], path: Path) -> None:
    """Write the figure with a legend of its runs."""
    labels = list(labels)
    handles = [Line2D([], [], linewidth=2, **_choose_style(summary, label)) for label in labels]  # type: ignore[arg-type]
    titles = [summary.comparison.of(label)[0].title for label in labels]
    figure.legend(handles, titles, loc='outside lower center', ncols=min(6, len(titles)), frameon=False, fontsize=9)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def _find_limits(values: Sequence[np.ndarray]) -> tuple[float, float]:
    """Return limits of the axis without the climb at the start, which would squeeze the differences into one line."""
    later = np.concatenate([v.mean(axis=0)[v.shape[1] // 4 :] for v in values])
    later = later[np.isfinite(later)]
    if not later.size:
        return 0.0, 1.0
    low, high = float(later.min()), float(later.max())
    margin = 0.1 * (high - low) or 0.01 * abs(high) or 1.0
    return low - margin, high + margin
