"""PSNR against parameters, multiply-adds, activations or latency: one point for every network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from kdsr.benchmark.results import SetScores, Task
from kdsr.cost.complexity import Complexity, count
from kdsr.cost.latency import Timing
from kdsr.errors import UserError
from kdsr.networks.facts import find_lr_shape
from kdsr.papers.published_points import PublishedPoint, find_published
from kdsr.wording import installing

try:
    import matplotlib as mpl

    mpl.use('Agg')
    from matplotlib import pyplot as plt
except ImportError as error:
    raise UserError(f'drawing needs matplotlib ({error}); {installing("plots")}') from None

OUTPUT = (720, 1280)
Cost = Literal['parameters', 'multi-adds', 'activations', 'latency']
COSTS: dict[Cost, tuple[str, Callable[[Complexity], float]]] = {
    'parameters': ('parameters [K]', lambda row: row.parameters / 1e3),
    'multi-adds': ('MultiAdds [G] for 1280x720', lambda row: row.multi_adds / 1e9),
    'activations': ('activations [M] for 1280x720', lambda row: row.activations / 1e6),
    'latency': ('latency [ms] for 1280x720', lambda row: (row.seconds or 0) * 1e3),
}


def plot_costs(
    tasks: Sequence[Task],
    results: Sequence[SetScores],
    costs: Sequence[Cost],
    out: Path,
    device: str = 'cpu',
    published: bool = False,
) -> list[Path]:
    """Draw one picture per scale and cost, with one panel per set.

    Args:
        tasks: The tasks of a benchmark.
        results: Their results, in the same order.
        costs: What to draw PSNR against; 'latency' runs the networks.
        out: Folder for the PNG files.
        device: Where to time the networks.
        published: Also draw the networks of RFDN's and PISR's tables, against parameters and multi-adds.

    Returns:
        The written files.
    """
    timing = Timing(device) if 'latency' in costs else None
    rows: dict[tuple[str, int], Complexity] = {}
    for task in tasks:
        candidate = task.candidate
        name, scale, network = candidate.name, candidate.scale, candidate.network
        if network is not None and (name, scale) not in rows:
            shape = find_lr_shape(network, candidate.network_opt, [side // scale for side in OUTPUT])
            rows[name, scale] = count(name, network, shape, timing)
    paths = []
    for scale in sorted({r.scale for r in results}):
        of_scale = [r for r in results if r.scale == scale]
        for cost in costs if any((r.model, scale) in rows for r in of_scale) else ():
            paths.append(out / f'psnr_{cost}_x{scale}.png')
            of_rows = {name: row for (name, s), row in rows.items() if s == scale}
            draw_costs(of_scale, of_rows, cost, str(paths[-1]), published)
    return paths


def draw_costs(
    results: Sequence[SetScores], rows: dict[str, Complexity], cost: Cost, path: str, published: bool = False
) -> None:
    """Draw the results of one scale. Models without a row (bicubic) are named in the corner.

    Args:
        results: Results of one scale.
        rows: Model to its complexity.
        cost: What to draw PSNR against.
        path: PNG file to write.
        published: Also draw published networks (grey), where the papers print this cost.
    """
    label, value = COSTS[cost]
    sets = list(dict.fromkeys(r.set_name for r in results))
    models = list(dict.fromkeys(r.model for r in results if r.model in rows))
    colours = {model: f'C{i % 10}' for i, model in enumerate(models)}
    figure, axes = plt.subplots(1, len(sets), figsize=(4.6 * len(sets), 3.8), squeeze=False, layout='constrained')
    for axis, name in zip(axes[0], sets):
        points = [(r.model, value(rows[r.model]), r.psnr) for r in results if r.set_name == name and r.model in rows]
        others = find_published(results[0].scale, name, cost) if published else []
        _draw_panel(axis, points, colours, others)
        costless = [f'{r.model}: {r.psnr:.2f} dB' for r in results if r.set_name == name and r.model not in rows]
        axis.text(0.98, 0.03, '\n'.join(costless), transform=axis.transAxes, ha='right', fontsize=8, color='grey')
        axis.set_title(f'{name} x{results[0].scale}', fontsize=10)
        axis.set_xlabel(label)
    axes[0][0].set_ylabel('PSNR [dB]')
    figure.savefig(path, dpi=150)
    plt.close(figure)


def _draw_panel(
    axis: Any,
    points: Sequence[tuple[str, float, float]],
    colours: dict[str, str],
    published: Sequence[PublishedPoint] = (),
) -> None:
    costs = [x for _, x, _ in points] + [point.cost for point in published]
    if max(costs) > 10 * min(costs) > 0:
        axis.set_xscale('log')
    axis.margins(0.18)
    axis.grid(alpha=0.3)
    for model, x, y in points:
        axis.scatter([x], [y], s=36, color=colours[model], zorder=3)
    for point in published:
        axis.scatter([point.cost], [point.psnr], s=18, facecolors='none', edgecolors='grey', marker='s', zorder=2)
        axis.annotate(
            point.network,
            (point.cost, point.psnr),
            xytext=(3, -8),
            textcoords='offset points',
            fontsize=5,
            color='grey',
        )
    axis.autoscale_view()
    left, right = axis.get_xlim()
    for model, x, y in points:
        position = axis.transAxes.inverted().transform(axis.transData.transform((x, y)))[0] if right > left else 0
        beyond = position > 0.6
        axis.annotate(
            model,
            (x, y),
            xytext=(-6 if beyond else 6, 4),
            textcoords='offset points',
            ha='right' if beyond else 'left',
            fontsize=8,
            color=colours[model],
        )
