"""Commands that measure networks and draw the results."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from kdsr.commands.shared import add_force_yml
from kdsr.errors import UserError

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]


def _benchmark(args: argparse.Namespace) -> None:
    from pathlib import Path

    import torch

    from kdsr.benchmark.protocol import Protocol, Resources
    from kdsr.benchmark.scoring import benchmark
    from kdsr.data.benchmark_sets import locate_lr_cache

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
    )
    out = Path(args.out)
    resources = Resources(
        device=args.device or ('cuda' if torch.cuda.is_available() else 'cpu'),
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
    )
    print(f'\n{(out / "benchmark.md").read_text(encoding="utf-8")}')
    if args.plot is not None:
        plot_costs(tasks, results, args.plot or ['parameters', 'multi-adds'], out, resources.device)


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
        metavar='DIR',
        help='folders of test sets (default: the sets of the option files)',
    )
    benchmark.add_argument(
        '--scale', type=int, nargs='+', default=[], help='scales to test (default: the scales of the networks)'
    )
    benchmark.add_argument(
        '--network', metavar='OPTIONS', help="network of bare weights: '{type: RFDN, upscale: 4}' or a YAML file"
    )
    benchmark.add_argument(
        '--teachers',
        action='store_true',
        help='also score the teachers of the option files, and their fused image (MT)',
    )
    benchmark.add_argument(
        '--decimals', type=int, help="of PSNR in the table (default: 3 for LSFD's and FACD's option files, else 2)"
    )
    benchmark.add_argument('--iter', help='checkpoint of experiments: 5000, latest or best (default: the latest)')
    colour = benchmark.add_mutually_exclusive_group()
    colour.add_argument('--y', action='store_true', help='score the Y channel (the default)')
    colour.add_argument('--rgb', action='store_true', help='score R, G and B')
    benchmark.add_argument(
        '--crop-border', type=int, metavar='PIXELS', help='pixels to cut from each border (default: the scale)'
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
        '--plot',
        nargs='*',
        choices=['parameters', 'multi-adds', 'activations', 'latency'],
        metavar='COST',
        help='draw PSNR against parameters, multi-adds, activations or latency (default: the first two)',
    )
    benchmark.add_argument('--out', default='results/benchmark', help='folder (default: results/benchmark)')
    benchmark.add_argument('--device', help='cpu, cuda, cuda:1, ... (default: a GPU if there is one)')
    benchmark.add_argument('--workers', type=int, default=4, help='threads that read and score images (default: 4)')
    benchmark.set_defaults(run=_benchmark)


def _complexity(args: argparse.Namespace) -> None:
    from kdsr.cost import complexity_report as report
    from kdsr.cost.latency import Timing

    timing = Timing(args.device, args.repeats, precision=args.precision) if args.latency else None
    networks = [report.parse_network(text) for text in args.network]
    sizes = {'output_size': tuple(args.output_size), 'input_size': tuple(args.input_size)}
    tables = report.complexity_tables(args.option_files, networks, **sizes, timing=timing)
    print(report.markdown(tables, timing))
    if args.csv:
        report.write_csv(tables, args.csv)
    if args.json:
        report.write_json(tables, args.json, timing)


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
    complexity.add_argument(
        '--network',
        action='append',
        default=[],
        metavar='OPTIONS',
        help="'{type: RFDN, upscale: 4}'; repeat for several",
    )
    complexity.add_argument(
        '--output-size', type=int, nargs=2, default=(720, 1280), metavar=('H', 'W'), help='default: 720 1280'
    )
    complexity.add_argument(
        '--input-size', type=int, nargs=2, default=(256, 256), metavar=('H', 'W'), help='default: 256 256'
    )
    complexity.add_argument('--latency', action='store_true', help='run the networks and time them')
    complexity.add_argument('--device', default='cpu', help='where to time them (default: cpu)')
    complexity.add_argument('--repeats', type=int, default=10, help='timed runs; the median is printed (default: 10)')
    complexity.add_argument('--precision', choices=['fp32', 'bf16', 'fp16'], default='fp32', help='default: fp32')
    complexity.add_argument('--csv', metavar='FILE', help='also write the tables as CSV')
    complexity.add_argument('--json', metavar='FILE', help='also write the tables as JSON')
    complexity.set_defaults(run=_complexity)


def _estimate(args: argparse.Namespace) -> None:
    from kdsr.cost import estimate_report
    from kdsr.cost.estimate import assumptions, estimate
    from kdsr.cost.gpus import find_gpus
    from kdsr.options.shipped import find_shipped_folder

    gpus, assumed = find_gpus(args.gpu), assumptions(args.utilisation)
    files = sorted(map(str, find_shipped_folder().glob('*_x4.yml'))) if args.page else args.option_files
    if not files:
        raise UserError('name option files of trainings: kdsr estimate options/mtkd_swinir_x4.yml')
    estimates = [estimate(file, args.force_yml) for file in files]
    print((estimate_report.page if args.page else estimate_report.report)(estimates, gpus, assumed).rstrip())


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


def _diagnose(args: argparse.Namespace) -> None:
    from kdsr.inspection.diagnosis import diagnose

    text = diagnose(args.option_file, iteration=args.iter, images=args.images, pictures=args.pictures, out=args.out)
    print(text)


def add_diagnose(commands: Commands) -> None:
    """Add `kdsr diagnose`."""
    diagnose = commands.add_parser(
        'diagnose',
        help='compare student and teachers of a trained run: scores, patches, features, attention map',
        description='Runs student and teachers of a trained experiment on its validation sets. It writes their scores, '
        "the share of patches in which the teacher is worse than the student, the PSNR of the student's features "
        "against the teacher's, and a picture of LSFD's attention map, as Markdown and PNG.",
    )
    diagnose.add_argument('option_file', help='the option file of the training')
    diagnose.add_argument('--iter', default='latest', help='checkpoint, for example 5000 (default: latest)')
    diagnose.add_argument('--images', type=int, help='how many images of each validation set to take (default: all)')
    diagnose.add_argument('--pictures', type=int, default=3, help='how many images to draw (default: 3)')
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
        help='show which input pixels networks use, and how much an aggregator takes from each teacher',
        description='Draws local attribution maps (LAM) of several networks side by side, with their diffusion index. '
        'The low resolution is made from the ground truth. With --teachers, and for option files of aggregators, it '
        'also draws the teachers, their fusion, and the share of each teacher in it.',
    )
    attribution.add_argument(
        'sources', nargs='+', metavar='[NAME=]FILE', help='option file of a training or test, or a file of weights'
    )
    attribution.add_argument('--image', nargs='+', required=True, help='ground-truth images')
    attribution.add_argument(
        '--window',
        type=int,
        nargs=2,
        metavar=('X', 'Y'),
        help='top left pixel of the window (default: the most textured window)',
    )
    attribution.add_argument('--size', type=int, default=16, help='side of the window in pixels (default: 16)')
    attribution.add_argument(
        '--field',
        type=int,
        default=64,
        help='side of the LR input around the window; 0 for the whole image (default: 64)',
    )
    attribution.add_argument(
        '--steps', type=int, default=50, help='steps of the path from blurred to sharp (default: 50)'
    )
    attribution.add_argument('--sigma', type=float, default=1.2, help='sigma of the strongest blur (default: 1.2)')
    attribution.add_argument('--kernel', type=int, default=9, help='side of the kernel of the blur, odd (default: 9)')
    attribution.add_argument('--network', metavar='OPTIONS', help="network of bare weights: '{type: RFDN, upscale: 4}'")
    attribution.add_argument('--iter', default='latest', help='checkpoint of trainings (default: latest)')
    attribution.add_argument('--teachers', action='store_true', help='also take the teachers of option files')
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
        help='draw crops and error maps of images in folders',
        description='Draws ground truth, bicubic and the images of every folder side by side, with PSNR and SSIM of '
        'the crops: where the methods differ most, or where --crop says. (`kdsr compare` draws them for its own runs.)',
    )
    pictures.add_argument('gt', help='folder of the ground truth')
    pictures.add_argument(
        'folders',
        nargs='+',
        metavar='[LABEL=]FOLDER',
        help='folders of results, for example visualization/Set5 of a test',
    )
    pictures.add_argument('--scale', type=int, help='also draw bicubic at this scale, made from the ground truth')
    pictures.add_argument('--crop', nargs='+', default=[], metavar='IMAGE:X,Y,W,H', help='crops chosen by hand')
    pictures.add_argument('--count', type=int, default=3, help='how many photos to choose (default: 3)')
    pictures.add_argument('--size', type=int, default=96, help='side of the chosen crops in pixels (default: 96)')
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
