"""Commands that make training sets, caches and checkpoints."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]


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


def add_prepare(commands: Commands) -> None:
    """Add `kdsr prepare`."""
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


def _dead_leaves(args: argparse.Namespace) -> None:
    from kdsr.data.dead_leaves import draw_dead_leaves

    draw_dead_leaves(args.folder, args.count, args.size, args.first, args.workers)


def add_dead_leaves(commands: Commands) -> None:
    """Add `kdsr dead-leaves`."""
    leaves = commands.add_parser(
        'dead-leaves',
        help='draw HR images to train with, where no photo may be used',
        description='Random overlapping shapes, which share the edges and the spectrum of photos; the networks of '
        '`kdsr zoo` have seen nothing else. A killed run is continued by the same command.',
    )
    leaves.add_argument('folder', help='where to, for example datasets/leaves/HR')
    leaves.add_argument('--count', type=int, default=400, help='images (default: 400)')
    leaves.add_argument('--size', type=int, default=480, help='their height and width (default: 480)')
    leaves.add_argument('--first', type=int, default=0, help='number of the first: others are other images')
    leaves.add_argument('--workers', type=int, help='processes (default: all processors)')
    leaves.set_defaults(run=_dead_leaves)


def _cache(args: argparse.Namespace) -> None:
    from kdsr import options, plugins
    from kdsr.checks.experiment import refuse_errors
    from kdsr.checks.pairs import refuse_bad_training_pairs
    from kdsr.data.teacher_cache import make_cache

    refuse_errors(options.read(args.option_file, args.force_yml), is_train=True)
    opt = options.load_experiment(args.option_file, args.force_yml)
    plugins.import_named(opt.get('import_modules') or ())
    refuse_bad_training_pairs(opt)
    make_cache(opt, args.workers, args.tile)


def add_cache(commands: Commands) -> None:
    """Add `kdsr cache`."""
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


def _convert(args: argparse.Namespace) -> None:
    from kdsr.archs.convert import convert_checkpoint

    print(convert_checkpoint(args.source, args.out))


def add_convert(commands: Commands) -> None:
    """Add `kdsr convert`."""
    convert = commands.add_parser(
        'convert',
        help="bring an official checkpoint to kdsr's and BasicSR's names",
        description='Recognises official checkpoints (IMDN, E-RFDN, CARN, CARN-M, VDSR, FSRCNN of PISR, EDSR, RCAN, '
        'SAN, SwinIR) by their weights, and prints the `network:` block for a YAML. Nothing in the file is executed.',
    )
    convert.add_argument('source', help='the official file')
    convert.add_argument('out', help='the file to write, for example experiments/pretrained_models/RCAN/RCAN_x4.pth')
    convert.set_defaults(run=_convert)


def add_all(commands: Commands) -> None:
    """Add the commands of this file."""
    add_prepare(commands)
    add_dead_leaves(commands)
    add_cache(commands)
    add_convert(commands)
