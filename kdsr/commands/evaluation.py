"""Commands that measure networks."""

from __future__ import annotations

import argparse
from functools import partial
from typing import TYPE_CHECKING

from kdsr.commands.shared import (
    add_device,
    add_force_yml,
    add_iter,
    add_network,
    add_out,
    add_size,
    add_workers,
)
from kdsr.errors import UserError

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]


def _benchmark(args: argparse.Namespace) -> None:
    from pathlib import Path

    from kdsr.benchmark.protocol import Protocol, Resources, name_metrics
    from kdsr.benchmark.scoring import benchmark
    from kdsr.data.benchmark_sets import locate_lr_cache
    from kdsr.networks.devices import find_device

    if args.plot is not None:  # matplotlib may be missing: fail now, not after hours of work
        from kdsr.benchmark.figure import plot_costs
    quadrants = None if args.quadrants is None else tuple(args.quadrants) or True
    protocol = Protocol(
        rgb=args.rgb,
        crop_border=args.crop_border,
        round_gt=args.round_gt,
        self_ensemble=args.self_ensemble,
        quadrants=quadrants,
        tile=args.tile,
        metrics=name_metrics(args.metrics, args.download),
    )
    out = Path(args.out)
    resources = Resources(
        device=str(find_device(args.device)),
        workers=args.workers,
        lr_cache=Path(args.lr_cache).expanduser() if args.lr_cache else locate_lr_cache(),
        pictures=out / 'images' if args.save_images else None,
    )
    tasks, results = benchmark(
        args.models,
        args.sets,
        out,
        protocol,
        resources,
        scales=args.scale,
        network=args.network,
        iteration=args.iter,
        teachers=args.teachers,
        decimals=args.decimals,
        overrides=args.force_yml,
    )
    print(f'\n{(out / "benchmark.md").read_text(encoding="utf-8")}')
    if args.runtime:
        from kdsr.benchmark.runtime import write_runtimes

        print(write_runtimes(tasks, protocol, resources, out))
    if args.plot is not None:
        costs = args.plot or ['parameters', 'multi-adds']
        plot_costs(tasks, results, costs, out, resources.device, published=args.published)


def add_benchmark(commands: Commands) -> None:
    """Add `kdsr benchmark`."""
    benchmark = commands.add_parser(
        'benchmark',
        help='PSNR and SSIM of option files or checkpoints on test sets',
        description='Scores option files (with their weights), files of weights, and bicubic, and writes tables with '
        'their protocol as Markdown, CSV and JSON. Missing LR images are made as MATLAB does, and kept. Finished '
        'results are not computed again. docs/benchmark.md describes the layouts of test sets.',
    )
    benchmark.add_argument(
        'models',
        nargs='+',
        metavar='[LABEL=]MODEL',
        help='option file, .pth, .safetensors, .onnx, a network of the zoo, or bicubic',
    )
    benchmark.add_argument(
        '--sets',
        nargs='+',
        default=[],
        metavar='DIR|FILE',
        help='folders of test sets, or option files that name some (default: the sets of the option files)',
    )
    benchmark.add_argument(
        '--scale', type=int, nargs='+', default=[], help='scales to test (default: the scales of the networks)'
    )
    add_network(benchmark, "network of bare weights: '{type: RFDN, upscale: 4}' or a YAML file")
    add_iter(benchmark, 'checkpoint of experiments: 5000, latest or best (default: the latest)')
    benchmark.add_argument(
        '--teachers',
        action='store_true',
        help='also score the teachers of the option files, and their fused image (MT)',
    )
    benchmark.add_argument(
        '--decimals', type=int, help="of PSNR in the table (default: 3 for LSFD's and FACD's option files, else 2)"
    )
    colour = benchmark.add_mutually_exclusive_group()
    colour.add_argument('--y', action='store_true', help='score the Y channel (the default)')
    colour.add_argument('--rgb', action='store_true', help='score R, G and B')
    benchmark.add_argument(
        '--crop-border', type=int, metavar='PIXELS', help='pixels to cut from each border (default: the scale)'
    )
    benchmark.add_argument(
        '--metrics',
        nargs='+',
        default=[],
        metavar='NAME',
        help='more metrics, in colour: niqe, or those of pyiqa: lpips, dists, musiq, ... (pip install -e ".[pyiqa]")',
    )
    benchmark.add_argument(
        '--download', action='store_true', help='let pyiqa download the weights of --metrics that are missing'
    )
    benchmark.add_argument(
        '--round-gt', action='store_true', help='round the luminance of the ground truth (for luminance networks)'
    )
    benchmark.add_argument('--self-ensemble', action='store_true', help='average over eight flips and turns')
    benchmark.add_argument(
        '--quadrants', nargs='*', metavar='SET', help='run images in four quarters: of all sets, or of these'
    )
    benchmark.add_argument(
        '--tile',
        type=int,
        default=0,
        metavar='PIXELS',
        help='cut LR images into tiles of this side (default: 0, whole images)',
    )
    benchmark.add_argument(
        '--lr-cache', metavar='DIR', help='folder for LR images that are made (default: ~/.cache/kdsr/lr)'
    )
    benchmark.add_argument('--save-images', action='store_true', help='write the super-resolved images to OUT/images')
    benchmark.add_argument(
        '--runtime', action='store_true', help='also measure time and peak memory per image, averaged over each set'
    )
    benchmark.add_argument(
        '--published', action='store_true', help="with --plot: also draw the networks of RFDN's and PISR's tables"
    )
    benchmark.add_argument(
        '--plot',
        nargs='*',
        choices=['parameters', 'multi-adds', 'activations', 'latency'],
        metavar='COST',
        help='draw PSNR against parameters, multi-adds, activations or latency (default: the first two)',
    )
    add_out(benchmark, 'DIR', 'folder (default: results/benchmark)', 'results/benchmark')
    add_device(benchmark)
    add_workers(benchmark, 'threads that read and score images (default: 4)', 4)
    add_force_yml(benchmark)
    benchmark.set_defaults(run=_benchmark)


def _with_ending(old: str, file: str) -> str:
    """Return the file of `--csv` or `--json`, which may have any ending, as `--out` reads it."""
    return f'{old[2:]}:{file}'


def _complexity(args: argparse.Namespace) -> None:
    from kdsr.cost import complexity_report as report
    from kdsr.cost.latency import Timing
    from kdsr.networks.devices import find_device
    from kdsr.networks.weight_files import read_network_opt

    device = str(find_device(args.device)) if args.latency else 'cpu'
    timing = Timing(device, args.repeats, precision=args.precision) if args.latency else None
    tables = report.make_complexity_tables(
        args.option_files,
        [read_network_opt(text) for text in args.network],
        output_size=args.output_size,
        input_size=args.input_size,
        timing=timing,
        overrides=args.force_yml,
    )
    print(report.format_tables(tables, timing))
    for file in args.out:
        report.write_tables(tables, file, timing)


def add_complexity(commands: Commands) -> None:
    """Add `kdsr complexity`."""
    complexity = commands.add_parser(
        'complexity',
        help='parameters, multiply-adds, activations, memory and latency of networks',
        description='Counts the networks of option files and of --network as papers and challenges do, for an input of '
        '256x256 and for an output of 1280x720, and prints Markdown. Networks run only with --latency. '
        'docs/benchmark.md explains what is counted.',
    )
    complexity.add_argument('option_files', nargs='*', help='their students, teachers and aggregators are counted')
    add_network(complexity, "'{type: RFDN, upscale: 4}' or a YAML; repeat for several", repeat=True)
    add_size(complexity, 'default: 720x1280', (720, 1280), name='--output-size')
    add_size(complexity, 'default: 256x256', (256, 256), name='--input-size')
    complexity.add_argument('--latency', action='store_true', help='run the networks and time them')
    add_device(complexity, 'where to time them')
    complexity.add_argument('--repeats', type=int, default=10, help='timed runs; the median is printed (default: 10)')
    complexity.add_argument('--precision', choices=['fp32', 'bf16', 'fp16'], default='fp32', help='default: fp32')
    complexity.add_argument(
        '-o',
        '--out',
        action='append',
        default=[],
        metavar='FILE',
        help='also write the tables, as CSV, JSON or Markdown (.csv, .json, .md); repeat for several',
    )
    for old in ('--csv', '--json'):
        complexity.add_argument(
            old, dest='out', action='append', type=partial(_with_ending, old), help=argparse.SUPPRESS
        )
    add_force_yml(complexity)
    complexity.set_defaults(run=_complexity)


def _estimate(args: argparse.Namespace) -> None:
    from kdsr.cost import estimate_report
    from kdsr.cost.estimate import estimate, make_assumptions
    from kdsr.cost.gpus import find_gpus
    from kdsr.options.shipped import find_shipped_folder

    gpus, assumed = find_gpus(args.gpu), make_assumptions(args.utilisation)
    files = sorted(map(str, find_shipped_folder().glob('*_x4.yml'))) if args.page else args.option_files
    if not files:
        raise UserError('name option files of trainings: kdsr estimate options/mtkd_swinir_x4.yml')
    estimates = [estimate(file, args.force_yml) for file in files]
    print(
        (estimate_report.format_page if args.page else estimate_report.format_report)(estimates, gpus, assumed).rstrip()
    )


def add_estimate(commands: Commands) -> None:
    """Add `kdsr estimate`."""
    estimate = commands.add_parser(
        'estimate',
        help='estimate the memory and the time of trainings on common GPUs',
        description='Counts one training step of each option file without computing it, and estimates memory and time '
        'on common GPUs. It needs neither weights nor data. These are estimates, not measurements: docs/estimates.md '
        'explains what is counted and what is assumed.',
    )
    estimate.add_argument('option_files', nargs='*', help='option files of trainings')
    estimate.add_argument(
        '--gpu', nargs='+', default=[], metavar='NAME', help="cards, for example 'RTX 4090' T4 (default: all known)"
    )
    estimate.add_argument(
        '--utilisation',
        type=float,
        nargs=2,
        metavar=('LOW', 'HIGH'),
        help='share of the peak performance that is reached (default: 0.15 0.4)',
    )
    add_force_yml(estimate)
    estimate.add_argument(
        '--page', action='store_true', help="print the page docs/estimates.md, for the papers' runs at x4"
    )
    estimate.set_defaults(run=_estimate)


def add_all(commands: Commands) -> None:
    """Add the commands of this file."""
    add_benchmark(commands)
    add_complexity(commands)
    add_estimate(commands)
