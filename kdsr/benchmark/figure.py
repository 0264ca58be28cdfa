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
from kdsr.papers.published_points import find_published
from kdsr.wording import installing

try:
    import matplotlib as mpl

    mpl.use('Agg')
    from matplotlib import pyplot as plt

    from kdsr.benchmark.labels import Label, place_labels
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
    panels = []
    for axis, name in zip(axes[0], sets):
        own = [
            Label(r.model, value(rows[r.model]), r.psnr, colours[r.model], size=8)
            for r in results
            if r.set_name == name and r.model in rows
        ]
        others = find_published(results[0].scale, name, cost) if published else []
        printed = [Label(point.network, point.cost, point.psnr) for point in others]
        costless = [f'{r.model}: {r.psnr:.2f} dB' for r in results if r.set_name == name and r.model not in rows]
        notes = [*costless, *(['grey squares: published'] if printed else [])]
        axis.text(0.98, 0.03, '\n'.join(notes), transform=axis.transAxes, ha='right', fontsize=8, color='grey')
        axis.set_title(f'{name} x{results[0].scale}', fontsize=10)
        axis.set_xlabel(label)
        _draw_points(axis, own, printed)
        panels.append((axis, [*own, *printed]))
    axes[0][0].set_ylabel('PSNR [dB]')
    for axis, labels in panels:  # last: the places of the names depend on the whole picture
        place_labels(axis, labels)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def _draw_points(axis: Any, own: Sequence[Label], printed: Sequence[Label]) -> None:
    costs = [point.x for point in (*own, *printed)]
    if max(costs) > 10 * min(costs) > 0:
        axis.set_xscale('log')
    axis.margins(0.18)
    axis.grid(alpha=0.3)
    for point in own:
        axis.scatter([point.x], [point.y], s=36, color=point.colour, zorder=3)
    for point in printed:
        axis.scatter([point.x], [point.y], s=18, facecolors='none', edgecolors=point.colour, marker='s', zorder=2)
    axis.autoscale_view()
