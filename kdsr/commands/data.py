"""Commands that make training sets, teacher caches and checkpoints."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from kdsr.commands.shared import add_force_yml, add_out, add_size, add_workers, choose_old
from kdsr.errors import UserError

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

_VERIFY = 'afterwards read all of it and compare it with the checksums that it was written with'


def _prepare(args: argparse.Namespace) -> None:
    from kdsr.data import prepare
    from kdsr.data.verifying import verify_sets

    if args.gtmod12 and not args.benchmark:
        raise UserError('--gtmod12 is for test sets; add --benchmark.')
    if args.raw and args.hr_folder.rstrip('/').endswith('.lmdb'):
        from kdsr.data.lmdb_to_raw import convert_lmdb

        made = [convert_lmdb(args.hr_folder, args.out, args.workers)]
    elif args.benchmark:
        made = prepare.prepare_benchmark_set(
            args.hr_folder, args.out, args.scale, workers=args.workers, gtmod12=args.gtmod12
        )
    else:
        made = prepare.prepare_training_set(
            hr_folder=args.hr_folder,
            out=args.out,
            scales=args.scale,
            crop_size=args.crop_size,
            step=args.step,
            workers=args.workers,
            raw=args.raw,
        )
    if args.verify:
        verify_sets(made, args.workers)


def add_prepare(commands: Commands) -> None:
    """Add `kdsr prepare`."""
    prepare = commands.add_parser(
        'prepare',
        help='make training LMDBs, or a test set, from a folder of HR images',
        description='Cuts HR images into sub-images, makes bicubic LR images (bit for bit as MATLAB imresize), and '
        'writes both as LMDBs for BasicSR. With --benchmark it makes a test set: whole images in HR/, and '
        'LR_bicubic/X<scale>/. '
        'If the command is killed, run it again: it continues.',
    )
    prepare.add_argument(
        'hr_folder', help='folder of HR images, for example datasets/DIV2K/DIV2K_train_HR; with --raw also an LMDB'
    )
    add_out(prepare, 'DIR', 'folder for the result, for example datasets/DIV2K', required=True)
    prepare.add_argument('--scale', type=int, nargs='+', default=[2, 3, 4], help='default: 2 3 4')
    kind = prepare.add_mutually_exclusive_group()
    kind.add_argument('--benchmark', action='store_true', help='make a test set: whole images, PNG')
    prepare.add_argument(
        '--gtmod12',
        action='store_true',
        help='with --benchmark: also write GTmod12/ and LRbicx<scale>/, cropped to a multiple of 12, as MTKD used',
    )
    kind.add_argument('--raw', action='store_true', help='write raw pixels for RawPairedImageDataset instead of LMDBs')
    prepare.add_argument('--crop-size', type=int, default=480, help='side of an HR sub-image (default: 480)')
    prepare.add_argument('--step', type=int, default=240, help='distance between HR sub-images (default: 240)')
    add_workers(prepare, 'processes (default: all processors)')
    prepare.add_argument('--verify', action='store_true', help=_VERIFY)
    prepare.set_defaults(run=_prepare)


def _dead_leaves(args: argparse.Namespace) -> None:
    from kdsr.data.dead_leaves import draw_dead_leaves

    folder = choose_old(args.out, args.folder, 'the folder of the images (--out)')
    draw_dead_leaves(folder, args.count, args.size, args.first, args.workers)


def add_dead_leaves(commands: Commands) -> None:
    """Add `kdsr dead-leaves`."""
    leaves = commands.add_parser(
        'dead-leaves',
        help='draw HR training images where photos cannot be used',
        description='Draws random overlapping shapes, which have edges and a spectrum like photos. Networks of '
        '`kdsr zoo` are trained on them. If the command is killed, run it again: it continues.',
    )
    leaves.add_argument('folder', nargs='?', help=argparse.SUPPRESS)
    add_out(leaves, 'DIR', 'folder for the images, for example datasets/leaves/HR')
    leaves.add_argument('--count', type=int, metavar='N', default=400, help='number of images (default: 400)')
    add_size(leaves, 'their height and width (default: 480)', 480, square=True)
    leaves.add_argument(
        '--first', type=int, default=0, help='number of the first image; every number is a different image (default: 0)'
    )
    add_workers(leaves, 'processes (default: all processors)')
    leaves.set_defaults(run=_dead_leaves)


def _cache(args: argparse.Namespace) -> None:
    from kdsr import options, plugins
    from kdsr.checks.experiment import refuse_errors
    from kdsr.checks.pairs import refuse_bad_training_pairs
    from kdsr.data.teacher_cache import make_cache
    from kdsr.data.verifying import verify_sets
    from kdsr.experiment import read_experiment

    refuse_errors(options.read(args.option_file, args.force_yml), is_train=True)
    opt = options.load_experiment(args.option_file, args.force_yml)
    plugins.import_named(opt.get('import_modules'))
    experiment = read_experiment(opt)
    refuse_bad_training_pairs(experiment)
    made = make_cache(experiment, args.workers, args.tile)
    if args.verify:
        verify_sets([made])


def add_cache(commands: Commands) -> None:
    """Add `kdsr cache`."""
    cache = commands.add_parser(
        'cache',
        help='run the teachers of an experiment once over its training images',
        description='Writes the outputs of the teachers to the folder that `distillation.cache` names in the option '
        'file. The training then reads them and runs no teacher. If the command is killed, run it again: it continues.',
    )
    cache.add_argument('option_file', help='the training file of the student')
    add_workers(cache, 'processes (default: one per GPU; one without GPUs)')
    cache.add_argument(
        '--tile', type=int, help='side of tiles in LR pixels, 0 for whole images (default: 384 beyond 512x512 pixels)'
    )
    cache.add_argument('--verify', action='store_true', help=_VERIFY)
    add_force_yml(cache)
    cache.set_defaults(run=_cache)


def _convert(args: argparse.Namespace) -> None:
    from kdsr.archs.convert import convert_checkpoint

    print(convert_checkpoint(args.source, choose_old(args.out, args.old_out, 'the file to write (--out)')))


def add_convert(commands: Commands) -> None:
    """Add `kdsr convert`."""
    convert = commands.add_parser(
        'convert',
        help="rename the tensors of an official checkpoint to kdsr's and BasicSR's names",
        description='Recognises official checkpoints (IMDN, E-RFDN, RLFN, BSRN, PAN, EFDN, FMEN, CARN, CARN-M, VDSR, '
        'LapSRN, FSRCNN of PISR, EDSR, RCAN, SAN, SwinIR) by their weights, and prints the `network:` block for an '
        'option file. It runs no code from the file.',
    )
    convert.add_argument('source', help='the official file')
    convert.add_argument('old_out', nargs='?', help=argparse.SUPPRESS)
    add_out(convert, 'FILE', 'the file to write, for example experiments/pretrained_models/RCAN/RCAN_x4.pth')
    convert.set_defaults(run=_convert)


def add_all(commands: Commands) -> None:
    """Add the commands of this file."""
    add_prepare(commands)
    add_dead_leaves(commands)
    add_cache(commands)
    add_convert(commands)
