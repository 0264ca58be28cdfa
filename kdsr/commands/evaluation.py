"""Commands that measure and show what networks are worth."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from kdsr.errors import UserError

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]


def _benchmark(args: argparse.Namespace) -> None:
    from pathlib import Path

    import torch

    from kdsr.benchmark.protocol import Protocol, Resources
    from kdsr.benchmark.scoring import benchmark
    from kdsr.data.benchmark_sets import default_lr_cache

    if args.plot is not None:  # before hours of work: it may lack matplotlib
        from kdsr.benchmark.figure import plot_costs
    quadrants = None if args.quadrants is None else tuple(args.quadrants) or True
    protocol = Protocol(
        rgb=args.rgb,
        crop_border=args.crop_border,
        round_gt=args.round_gt,
        self_ensemble=args.self_ensemble,
        quadrants=quadrants,
        tile=args.tile,
    )
    out = Path(args.out)
    resources = Resources(
        device=args.device or ('cuda' if torch.cuda.is_available() else 'cpu'),
        workers=args.workers,
        lr_cache=Path(args.lr_cache).expanduser() if args.lr_cache else default_lr_cache(),
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
    )
    print(f'\n{(out / "benchmark.md").read_text(encoding="utf-8")}')
    if args.plot is not None:
        plot_costs(tasks, results, args.plot or ['parameters', 'multi-adds'], out, resources.device)


def add_benchmark(commands: Commands) -> None:
    """Add `kdsr benchmark`."""
    benchmark = commands.add_parser(
        'benchmark',
        help='PSNR and SSIM of checkpoints or option files on test sets, with the protocol',
        description='Tests option files (with their weights), files of weights, and bicubic, and writes Markdown, CSV '
        'and JSON. LR images that a set lacks are made as MATLAB does, and kept. What is finished is not computed '
        'again. Layouts of sets, options, a table: docs/benchmark.md.',
    )
    benchmark.add_argument(
        'models', nargs='+', metavar='[LABEL=]MODEL', help='option file, .pth, .safetensors, bicubic'
    )
    benchmark.add_argument('--sets', nargs='+', default=[], metavar='DIR', help='default: those of the option files')
    benchmark.add_argument('--scale', type=int, nargs='+', default=[], help="default: the networks' own")
    benchmark.add_argument('--network', metavar='OPTIONS', help="of bare weights: '{type: RFDN, upscale: 4}' or a YAML")
    benchmark.add_argument('--iter', help='checkpoint of experiments: 5000, latest, best (default: the latest)')
    colour = benchmark.add_mutually_exclusive_group()
    colour.add_argument('--y', action='store_true', help='score the Y channel (the default)')
    colour.add_argument('--rgb', action='store_true', help='score R, G and B')
    benchmark.add_argument('--crop-border', type=int, metavar='PIXELS', help='left out (default: the scale)')
    benchmark.add_argument('--round-gt', action='store_true', help='round the ground truth of luminance networks')
    benchmark.add_argument('--self-ensemble', action='store_true', help='mean over eight flips and turns')
    benchmark.add_argument('--quadrants', nargs='*', metavar='SET', help='in four quarters, all sets or these')
    benchmark.add_argument('--tile', type=int, default=0, metavar='PIXELS', help='cut LR images (default: 0, whole)')
    benchmark.add_argument('--lr-cache', metavar='DIR', help='LR images that are made (default: ~/.cache/kdsr/lr)')
    benchmark.add_argument('--save-images', action='store_true', help='write them to OUT/images')
    benchmark.add_argument(
        '--plot',
        nargs='*',
        choices=['parameters', 'multi-adds', 'activations', 'latency'],
        metavar='COST',
        help='draw PSNR against parameters, multi-adds, activations, latency (default: the first two)',
    )
    benchmark.add_argument('--out', default='results/benchmark', help='default: results/benchmark')
    benchmark.add_argument('--device', help='cpu, cuda, cuda:1 (default: a GPU, if there is one)')
    benchmark.add_argument('--workers', type=int, default=4, help='threads that read and score (default: 4)')
    benchmark.set_defaults(run=_benchmark)


def _complexity(args: argparse.Namespace) -> None:
    from kdsr.cost import complexity_report as report
    from kdsr.cost.latency import Timing

    timing = Timing(args.device, args.repeats, precision=args.precision) if args.latency else None
    networks = [report.parse_network(text) for text in args.network]
    tables = report.complexity_tables(
        args.option_files, networks, tuple(args.output_size), tuple(args.input_size), timing
    )
    print(report.markdown(tables, timing))
    if args.csv:
        report.write_csv(tables, args.csv)
    if args.json:
        report.write_json(tables, args.json, timing)


def add_complexity(commands: Commands) -> None:
    """Add `kdsr complexity`."""
    complexity = commands.add_parser(
        'complexity',
        help='parameters, multiply-adds, activations, memory and latency, as papers and challenges count them',
        description='Counts the networks of option files, or given by --network, for an input of 256x256 and an output '
        'of 1280x720, and prints Markdown. Only --latency runs them. What is counted: docs/benchmark.md.',
    )
    complexity.add_argument('option_files', nargs='*')
    complexity.add_argument(
        '--network', action='append', default=[], metavar='OPTIONS', help="'{type: RFDN, upscale: 4}'; several times"
    )
    complexity.add_argument('--output-size', type=int, nargs=2, default=(720, 1280), metavar=('H', 'W'))
    complexity.add_argument('--input-size', type=int, nargs=2, default=(256, 256), metavar=('H', 'W'))
    complexity.add_argument('--latency', action='store_true', help='run them, too')
    complexity.add_argument('--device', default='cpu', help='where to run them (default: cpu)')
    complexity.add_argument('--repeats', type=int, default=10, help='runs, of which the median is told (default: 10)')
    complexity.add_argument('--precision', choices=['fp32', 'bf16', 'fp16'], default='fp32')
    complexity.add_argument('--csv', metavar='FILE')
    complexity.add_argument('--json', metavar='FILE')
    complexity.set_defaults(run=_complexity)


def _estimate(args: argparse.Namespace) -> None:
    from kdsr.cost import estimate_report
    from kdsr.cost.estimate import assumptions, estimate
    from kdsr.cost.gpus import find_gpus
    from kdsr.options.shipped import shipped_folder

    gpus, assumed = find_gpus(args.gpu), assumptions(args.utilisation)
    files = sorted(map(str, shipped_folder().glob('*_x4.yml'))) if args.page else args.option_files
    if not files:
        raise UserError('name option files of trainings: kdsr estimate options/mtkd_swinir_x4.yml')
    estimates = [estimate(file, args.force_yml) for file in files]
    print((estimate_report.page if args.page else estimate_report.report)(estimates, gpus, assumed).rstrip())


def add_estimate(commands: Commands) -> None:
    """Add `kdsr estimate`."""
    estimate = commands.add_parser(
        'estimate',
        help='how much memory and how many days trainings take on common GPUs, before they are started',
        description='Counts a training step of option files without running it, and estimates memory and time on '
        'common GPUs. Neither weights nor data need be there. Estimates, not measurements: docs/estimates.md says what '
        'is counted and what is assumed.',
    )
    estimate.add_argument('option_files', nargs='*')
    estimate.add_argument('--gpu', nargs='+', default=[], metavar='NAME', help="'RTX 4090', T4, ... (default: all)")
    estimate.add_argument(
        '--utilisation', type=float, nargs=2, metavar=('LOW', 'HIGH'), help='share of the peak (default: 0.15 0.4)'
    )
    estimate.add_argument('--force_yml', nargs='+', default=[], metavar='KEY:KEY=VALUE', help='as in training')
    estimate.add_argument('--page', action='store_true', help="print docs/estimates.md, of the papers' runs at x4")
    estimate.set_defaults(run=_estimate)


def _diagnose(args: argparse.Namespace) -> None:
    from kdsr.inspection.diagnosis import diagnose

    print(diagnose(args.option_file, args.iter, args.images, args.pictures, args.out))


def add_diagnose(commands: Commands) -> None:
    """Add `kdsr diagnose`."""
    diagnose = commands.add_parser(
        'diagnose',
        help='what the papers look at in a trained run: where the teacher is worse, features, the selective map',
        description='Runs student and teachers of a trained experiment over its validation sets: the share of patches '
        "in which the teacher is worse than the student, the PSNR of the student's features against the teacher's, and "
        "a picture of LSFD's attention map. Written as Markdown and PNG.",
    )
    diagnose.add_argument('option_file', help='the file that the run was trained with')
    diagnose.add_argument('--iter', default='latest', help='checkpoint, for example 5000 (default: latest)')
    diagnose.add_argument('--images', type=int, help='at most so many of each validation set (default: all)')
    diagnose.add_argument('--pictures', type=int, default=3, help='images to draw (default: 3)')
    diagnose.add_argument('--out', help='folder (default: experiments/<name>/diagnosis)')
    diagnose.set_defaults(run=_diagnose)


def _attribution(args: argparse.Namespace) -> None:
    from kdsr import options
    from kdsr.inspection.attribution import attribution
    from kdsr.inspection.local_attribution import BlurPath

    text = attribution(
        args.sources,
        args.image,
        position=args.window,
        size=args.size,
        field=args.field,
        path=BlurPath(args.sigma, args.kernel, args.steps),
        network_opt=options.parse_value(args.network) if args.network else None,
        iteration=args.iter,
        with_teachers=args.teachers,
        out=args.out,
    )
    print(text)


def add_attribution(commands: Commands) -> None:
    """Add `kdsr attribution`."""
    attribution = commands.add_parser(
        'attribution',
        help='which pixels networks use for a window of their image, and what each teacher gives to an aggregator',
        description='Local attribution maps (LAM) with their diffusion index, of several networks side by side. The '
        'low resolution is made from the ground truth. With --teachers, and for option files of aggregators, also '
        "the teachers, what is fused of them, and each teacher's part in that.",
    )
    attribution.add_argument(
        'sources', nargs='+', metavar='[NAME=]FILE', help='option file of a run or test, or weights (official or any)'
    )
    attribution.add_argument('--image', nargs='+', required=True, help='ground-truth images')
    attribution.add_argument('--window', type=int, nargs=2, metavar=('X', 'Y'), help='default: where most texture is')
    attribution.add_argument('--size', type=int, default=16, help='side of the window (default: 16)')
    attribution.add_argument('--field', type=int, default=64, help='LR pixels shown around it, 0: all (default: 64)')
    attribution.add_argument('--steps', type=int, default=50, help='of the path (default: 50)')
    attribution.add_argument('--sigma', type=float, default=1.2, help="of the path's blur (default: 1.2)")
    attribution.add_argument('--kernel', type=int, default=9, help="side of the blur's kernel, odd (default: 9)")
    attribution.add_argument('--network', metavar='YAML', help="of weights not recognised: '{type: RFDN, upscale: 4}'")
    attribution.add_argument('--iter', default='latest', help='checkpoint of runs (default: latest)')
    attribution.add_argument('--teachers', action='store_true', help='also the teachers of option files')
    attribution.add_argument('--out', default='results/attribution', help='folder (default: results/attribution)')
    attribution.set_defaults(run=_attribution)


def _pictures(args: argparse.Namespace) -> None:
    from kdsr.pictures.folders import pictures

    text = pictures(
        args.gt,
        args.folders,
        scale=args.scale,
        crops=args.crop,
        count=args.count,
        size=args.size,
        out=args.out,
    )
    print(text)


def add_pictures(commands: Commands) -> None:
    """Add `kdsr pictures`."""
    pictures = commands.add_parser(
        'pictures',
        help='crop comparisons and error maps, as papers print them, of folders of images',
        description='Ground truth, bicubic and the images of every folder side by side, with PSNR and SSIM of the '
        'crop, where the methods differ most or where --crop says. (`kdsr compare` draws them of its own runs.)',
    )
    pictures.add_argument('gt', help='folder of the ground truth')
    pictures.add_argument(
        'folders', nargs='+', metavar='[LABEL=]FOLDER', help="for example a test's visualization/Set5"
    )
    pictures.add_argument('--scale', type=int, help='also show bicubic, made from the ground truth')
    pictures.add_argument('--crop', nargs='+', default=[], metavar='IMAGE:X,Y,W,H', help='crops chosen by hand')
    pictures.add_argument('--count', type=int, default=3, help='photos that are looked for (default: 3)')
    pictures.add_argument('--size', type=int, default=96, help='side of the crops that are looked for (default: 96)')
    pictures.add_argument('--out', default='results/pictures', help='folder (default: results/pictures)')
    pictures.set_defaults(run=_pictures)


def add_all(commands: Commands) -> None:
    """Add the commands of this file."""
    add_benchmark(commands)
    add_complexity(commands)
    add_estimate(commands)
    add_diagnose(commands)
    add_attribution(commands)
    add_pictures(commands)
