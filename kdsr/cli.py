"""The `kdsr` command. Each command's work lives in the room it belongs to."""

from __future__ import annotations

import argparse
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
    from kdsr.data.teacher_cache import make_cache

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

    compare(args.comparison_file, args.out, args.workers, args.only, args.report, partial(print, flush=True))


def _diagnose(args: argparse.Namespace) -> None:
    from kdsr.analysis.diagnosis import diagnose

    print(diagnose(args.option_file, args.iter, args.images, args.pictures, args.out))


def _benchmark(args: argparse.Namespace) -> None:
    from pathlib import Path

    from kdsr.analysis.benchmark import benchmark
    from kdsr.analysis.benchmark_run import Place, Protocol
    from kdsr.data.benchmark_sets import default_lr_cache

    quadrants = None if args.quadrants is None else tuple(args.quadrants) or True
    protocol = Protocol(args.rgb, args.crop_border, args.round_gt, args.self_ensemble, quadrants, args.tile)
    out = Path(args.out)
    lr_cache = Path(args.lr_cache).expanduser() if args.lr_cache else default_lr_cache()
    place = Place(args.device, args.workers, lr_cache, out / 'images' if args.save_images else None)
    tasks, results = benchmark(args.models, args.sets, out, protocol, place, args.scale, args.network, args.iter)
    print(f'\n{(out / "benchmark.md").read_text(encoding="utf-8")}')
    if args.plot is not None:
        from kdsr.analysis.benchmark_figure import plot_costs

        plot_costs(tasks, results, args.plot or ['parameters', 'multi-adds'], out, args.device)


def _export(args: argparse.Namespace) -> None:
    from kdsr.deployment.exporting import Wishes, export

    size = tuple(args.size) if args.size else None
    wishes = Wishes(args.formats, args.network, args.int8, args.gt, args.images, size, args.data_licence, args.repeats)
    written = export(args.checkpoint, args.out, wishes, partial(print, flush=True))
    print(f'The page about it: {written[-1]}')


def _upscale(args: argparse.Namespace) -> None:
    from kdsr.deployment.upscaler import Upscaler
    from kdsr.deployment.upscaling import Naming, upscale

    tile = int(args.tile) if args.tile.isdecimal() else args.tile
    build = partial(
        Upscaler,
        args.model,
        args.network,
        args.device,
        tile,
        args.overlap,
        args.batch,
        args.self_ensemble,
        args.precision,
    )
    naming = Naming(args.suffix, args.format or '', args.overwrite, args.skip_existing)
    print(upscale(args.input, args.out, naming, build))


def _distil(args: argparse.Namespace) -> None:
    from kdsr.distil import distil

    print(distil(args.option_file, args.teacher, args.method, args.out))


def _quickstart(args: argparse.Namespace) -> None:
    from kdsr.quickstart import quickstart

    quickstart()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog='kdsr', description=kdsr.__doc__.split('\n')[0])
    parser.add_argument('--version', action='version', version=f'kdsr {kdsr.__version__}')
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
    benchmark.add_argument('--device', default='cpu', help='default: cpu')
    benchmark.add_argument('--workers', type=int, default=4, help='threads that read and score (default: 4)')
    benchmark.set_defaults(run=_benchmark)

    export = commands.add_parser(
        'export',
        help='write a checkpoint as ONNX, safetensors, TorchScript, int8, checked against PyTorch, with a model card',
        description='Any image size and batch; a file that differs from PyTorch is an error. What is known of the '
        'network (options, training, scores) goes into the files and onto a page beside them: docs/deployment.md.',
    )
    export.add_argument('checkpoint', help='net_g_*.pth of an experiment, any .pth, .safetensors, or an option file')
    export.add_argument(
        '--network', '--options', metavar='OPTIONS', help="of bare weights: '{type: RFDN, upscale: 4}' or a YAML"
    )
    export.add_argument('--out', default='exported', metavar='DIR', help='default: exported')
    export.add_argument(
        '--formats',
        nargs='+',
        default=['onnx', 'safetensors'],
        metavar='FORMAT',
        help='onnx, safetensors, torchscript, pt2 (torch.export); default: the first two',
    )
    export.add_argument('--images', metavar='DIR', help='low-resolution images to check with, beside noise')
    export.add_argument('--int8', metavar='DIR', help='also an int8 ONNX file, calibrated on these images')
    export.add_argument('--gt', metavar='DIR', help='their ground truths, for the report of int8')
    export.add_argument('--size', type=int, nargs=2, metavar=('H', 'W'), help='only for images of this size')
    export.add_argument('--data-licence', metavar='TEXT', help='of the training data, for the card')
    export.add_argument('--repeats', type=int, default=5, help='turns of the timing, 0 for none (default: 5)')
    export.set_defaults(run=_export)

    upscale = commands.add_parser(
        'upscale',
        help='enlarge an image, a folder or a pattern with a checkpoint, a safetensors or an ONNX file',
        description='PNG, JPEG, WebP and TIFF, with 16 bits, alpha, grey, orientation and colour profile kept. '
        'Images that memory cannot hold are cut into overlapping tiles. In Python: kdsr.deployment.Upscaler.',
    )
    upscale.add_argument('input', help="an image, a folder, or a pattern in quotes, 'photos/**/*.jpg'")
    upscale.add_argument('-m', '--model', required=True, help='.pth, .safetensors or .onnx')
    upscale.add_argument('-o', '--out', required=True, help='a folder; for one image also a file')
    upscale.add_argument(
        '--network', '--options', metavar='OPTIONS', help="of bare weights: '{type: RFDN, upscale: 4}' or a YAML"
    )
    upscale.add_argument('--tile', default='auto', help='side of tiles in pixels of the input, 0 for none, or auto')
    upscale.add_argument('--overlap', type=int, default=32, help='what a tile sees around it (default: 32 pixels)')
    upscale.add_argument('--batch', type=int, default=1, help='tiles at a time (default: 1)')
    upscale.add_argument('--self-ensemble', action='store_true', help='mean over eight flips and turns')
    upscale.add_argument('--suffix', default='', help="appended to the names, for example '_x4'")
    upscale.add_argument('--format', choices=['png', 'jpg', 'webp', 'tif'], help='default: that of each image')
    there = upscale.add_mutually_exclusive_group()
    there.add_argument('--overwrite', action='store_true', help='replace results that are there')
    there.add_argument('--skip-existing', action='store_true', help='leave them, and do the others')
    upscale.add_argument('--device', default='cpu', help='default: cpu')
    precision = upscale.add_mutually_exclusive_group()
    for name in ('fp16', 'bf16'):
        precision.add_argument(f'--{name}', dest='precision', action='store_const', const=name, default='fp32')
    upscale.set_defaults(run=_upscale)

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
