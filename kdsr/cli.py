"""The `kdsr` command. Each command's work lives in the room it belongs to."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import partial

import kdsr
from kdsr.errors import told_plainly


def _prepare(args: argparse.Namespace) -> None:
    from kdsr.data import prepare

    if args.raw and args.hr_folder.rstrip('/').endswith('.lmdb'):
        from kdsr.data.lmdb_to_raw import convert_lmdb

        convert_lmdb(args.hr_folder, args.out, args.workers)
    elif args.benchmark:
        prepare.prepare_benchmark_set(args.hr_folder, args.out, args.scale, workers=args.workers)
    else:
        prepare.prepare_training_set(
            args.hr_folder, args.out, args.scale, args.crop_size, args.step, args.workers, raw=args.raw
        )


def _cache(args: argparse.Namespace) -> None:
    from kdsr import options, plugins
    from kdsr.checks.experiment import refuse_errors
    from kdsr.data.teacher_cache import make_cache

    refuse_errors(options.read(args.option_file, args.force_yml), is_train=True)
    opt = options.load_experiment(args.option_file, args.force_yml)
    plugins.import_named(opt.get('import_modules') or ())
    make_cache(opt, args.workers, args.tile)


def _convert(args: argparse.Namespace) -> None:
    from kdsr.archs.convert import convert_checkpoint

    print(convert_checkpoint(args.source, args.out))


def _taps(args: argparse.Namespace) -> None:
    from kdsr.analysis.tap_listing import list_taps

    print(list_taps(args.option_file))


def _complexity(args: argparse.Namespace) -> None:
    from kdsr.analysis import complexity_report as report
    from kdsr.analysis.latency import Timing

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


def _compare(args: argparse.Namespace) -> None:
    from kdsr.analysis.comparison import compare

    say = partial(print, flush=True)
    compare(args.comparison_file, args.out, args.workers, args.only, args.report, args.pictures, args.crop, say)


def _diagnose(args: argparse.Namespace) -> None:
    from kdsr.analysis.diagnosis import diagnose

    print(diagnose(args.option_file, args.iter, args.images, args.pictures, args.out))


def _benchmark(args: argparse.Namespace) -> None:
    from pathlib import Path

    import torch

    from kdsr.analysis.benchmark import benchmark
    from kdsr.analysis.benchmark_run import Place, Protocol
    from kdsr.data.benchmark_sets import default_lr_cache

    if args.plot is not None:  # before hours of work: it may lack matplotlib
        from kdsr.analysis.benchmark_figure import plot_costs
    quadrants = None if args.quadrants is None else tuple(args.quadrants) or True
    protocol = Protocol(args.rgb, args.crop_border, args.round_gt, args.self_ensemble, quadrants, args.tile)
    out = Path(args.out)
    lr_cache = Path(args.lr_cache).expanduser() if args.lr_cache else default_lr_cache()
    device = args.device or ('cuda' if torch.cuda.is_available() else 'cpu')
    place = Place(device, args.workers, lr_cache, out / 'images' if args.save_images else None)
    tasks, results = benchmark(args.models, args.sets, out, protocol, place, args.scale, args.network, args.iter)
    print(f'\n{(out / "benchmark.md").read_text(encoding="utf-8")}')
    if args.plot is not None:
        plot_costs(tasks, results, args.plot or ['parameters', 'multi-adds'], out, device)


def _options(args: argparse.Namespace) -> None:
    from kdsr.shipped_options import copy_shipped, list_shipped

    print(copy_shipped(args.names, args.copy) if args.copy else list_shipped(args.names))


def _distil(args: argparse.Namespace) -> None:
    from kdsr.distil import distil

    print(distil(args.option_file, args.teacher, args.method, args.out))


def _attribution(args: argparse.Namespace) -> None:
    from kdsr import options
    from kdsr.analysis.attribution import attribution
    from kdsr.analysis.local_attribution import Path

    print(
        attribution(
            args.sources,
            args.image,
            args.window,
            args.size,
            args.field,
            Path(args.sigma, args.kernel, args.steps),
            options.parse_value(args.network) if args.network else None,
            args.iter,
            args.teachers,
            args.out,
        )
    )


def _pictures(args: argparse.Namespace) -> None:
    from kdsr.analysis.picture_folders import pictures

    print(pictures(args.gt, args.folders, args.scale, args.crop, args.count, args.size, args.out))


def _check(args: argparse.Namespace) -> None:
    from kdsr.analysis.option_check import check

    sys.exit(check(args.option_files, args.force_yml, not args.options_only, args.schema))


def _quickstart(args: argparse.Namespace) -> None:
    from kdsr.quickstart import quickstart

    quickstart()


def _add_completion(parser: argparse.ArgumentParser) -> None:
    try:
        import shtab
    except ImportError:
        return
    shtab.add_argument_to(parser, '--completion', help='print a completion script for this shell')


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog='kdsr', description=kdsr.__doc__.split('\n')[0])
    parser.add_argument('--version', action='version', version=f'kdsr {kdsr.__version__}')
    _add_completion(parser)
    commands = parser.add_subparsers(title='commands', required=True, metavar='COMMAND')

    prepare = commands.add_parser(
        'prepare',
        help='make training LMDBs or a test set out of a folder of HR images',
        description='HR sub-images and their bicubic LR (bit-exact MATLAB imresize) as LMDBs that BasicSR reads; '
        'with --benchmark whole images in GTmod12/ and LRbicx<scale>/. A killed run is continued by the same command.',
    )
    prepare.add_argument(
        'hr_folder', help='folder of HR images, for example datasets/DIV2K/DIV2K_train_HR; with --raw also an LMDB'
    )
    prepare.add_argument('--out', required=True, help='folder for the result, for example datasets/DIV2K')
    prepare.add_argument('--scale', type=int, nargs='+', default=[2, 3, 4], help='default: 2 3 4')
    kind = prepare.add_mutually_exclusive_group()
    kind.add_argument('--benchmark', action='store_true', help='a test set: whole images, PNG')
    kind.add_argument('--raw', action='store_true', help='raw pixels for RawPairedImageDataset instead of LMDBs')
    prepare.add_argument('--crop-size', type=int, default=480, help='side of an HR sub-image (default: 480)')
    prepare.add_argument('--step', type=int, default=240, help='distance between HR sub-images (default: 240)')
    prepare.add_argument('--workers', type=int, help='processes (default: all processors)')
    prepare.set_defaults(run=_prepare)

    cache = commands.add_parser(
        'cache',
        help="run an experiment's teachers once over its training images",
        description='Writes what the student will be taught to the folder that `distillation.cache` names in the '
        'option file; training then runs no teacher. A killed run is continued by the same command.',
    )
    cache.add_argument('option_file')
    cache.add_argument('--workers', type=int, help='processes (default: one a GPU; one without GPUs)')
    cache.add_argument(
        '--tile', type=int, help='side of tiles in LR pixels, 0 for whole images (default: 384 beyond 512x512 pixels)'
    )
    cache.add_argument('--force_yml', nargs='+', default=[], metavar='KEY:KEY=VALUE', help='as in training')
    cache.set_defaults(run=_cache)

    convert = commands.add_parser(
        'convert',
        help="bring an official checkpoint to kdsr's and BasicSR's names",
        description='Recognises official checkpoints (IMDN, E-RFDN, CARN, CARN-M, VDSR, FSRCNN of PISR, EDSR, RCAN, '
        'SAN, SwinIR) by their weights, and prints the `network:` block for a YAML. Nothing in the file is executed.',
    )
    convert.add_argument('source', help='the official file')
    convert.add_argument('out', help='the file to write, for example experiments/pretrained_models/RCAN/RCAN_x4.pth')
    convert.set_defaults(run=_convert)

    taps = commands.add_parser(
        'taps',
        help="list what can be tapped in an option file's student and teachers",
        description='Module paths with the shapes of their outputs, side by side, the points that the papers use, and '
        'the `features:` block to paste. No weights are needed.',
    )
    taps.add_argument('option_file')
    taps.set_defaults(run=_taps)

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

    compare = commands.add_parser(
        'compare',
        help='train several methods and seeds with the same budget, and report what the difference is worth',
        description='Trains every run of a comparison file with every seed as an ordinary experiment, and writes '
        'tables with mean, spread and significance, and curves. A killed comparison is continued by the same command; '
        'what is finished is not trained again. The format: docs/compare.md.',
    )
    compare.add_argument('comparison_file')
    compare.add_argument('--workers', type=int, default=1, help='trainings at a time (default: 1)')
    compare.add_argument('--only', nargs='+', default=[], metavar='LABEL', help='only these runs and what they need')
    compare.add_argument('--report', action='store_true', help='train nothing, write the report of what is there')
    compare.add_argument('--pictures', type=int, default=3, help='photos of which crops are shown (default: 3)')
    compare.add_argument('--crop', nargs='+', default=[], metavar='IMAGE:X,Y,W,H', help='show these crops instead')
    compare.add_argument('--out', help='folder of the report (default: results/<name>)')
    compare.set_defaults(run=_compare)

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

    shipped = commands.add_parser(
        'options',
        help='list the option files that come with kdsr, or copy some',
        description='Lists the option files with what they are for. With --copy DIR they are written there, with the '
        'files that they are based on.',
    )
    shipped.add_argument('names', nargs='*', help="for example 'mtkd_*' or ablations/rfdn/*.yml (default: all)")
    shipped.add_argument('--copy', metavar='DIR', help='folder to copy to, for example options')
    shipped.set_defaults(run=_options)

    distil = commands.add_parser(
        'distil',
        help='turn a BasicSR option file into one whose network learns from teachers',
        description='Writes an option file that adds a `distillation:` block to a BasicSR experiment, taps included. '
        'Files in the words of other distillation code (`network_t`, ...) are translated.',
    )
    distil.add_argument('option_file', help='the BasicSR training file of the student')
    distil.add_argument(
        '--teacher', action='append', default=[], metavar='FILE', help='its option file or checkpoint; once a teacher'
    )
    distil.add_argument('--method', help='kd (default), fitnet, at, fakd, lsfd, facd, mtkd or pisr')
    distil.add_argument('--out', help='file to write (default: <option_file>_<method>.yml)')
    distil.set_defaults(run=_distil)

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

    check = commands.add_parser(
        'check',
        help='find all mistakes in option files, before anything is built',
        description='Misspelt keys, names that are not registered, wrong values, networks, taps, scales and image sets '
        'that do not fit together, missing files: each with file, line, key and cure. Every run does the same at its '
        'start. The exit status is 1 when a run would not start.',
    )
    check.add_argument('option_files', nargs='*', help='option files and comparison files; options/**/*.yml for all')
    check.add_argument('--force_yml', nargs='+', default=[], metavar='KEY:KEY=VALUE', help='as in training')
    check.add_argument('--options-only', action='store_true', help='do not look at data and weights')
    check.add_argument('--schema', action='store_true', help='print the JSON schema for editors')
    check.set_defaults(run=_check)

    quickstart = commands.add_parser(
        'quickstart', help='distil a small network from three teachers on sample photos, in minutes'
    )
    quickstart.set_defaults(run=_quickstart)
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Run one command."""
    args = _parser().parse_args(argv)
    with told_plainly():
        args.run(args)
