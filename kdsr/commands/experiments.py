"""Commands for experiments: write, check, run and compare option files."""

from __future__ import annotations

import argparse
import json
import sys
from functools import partial
from typing import TYPE_CHECKING, Literal

from kdsr.commands.shared import add_force_yml, add_out, add_workers
from kdsr.errors import UserError
from kdsr.options.run_arguments import add_run_arguments, run_arguments

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]


def _run(kind: Literal['train', 'test'], parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    from kdsr.pipelines import run_pipeline

    if bool(args.option_file) == bool(args.opt):
        parser.error('name one option file')
    run_pipeline(kind, run_arguments(args, args.option_file or args.opt))


def _add_pipeline(commands: Commands, kind: Literal['train', 'test'], summary: str, description: str) -> None:
    parser = commands.add_parser(kind, help=summary, description=description)
    parser.add_argument('option_file', nargs='?', metavar='FILE', help='option file')
    parser.add_argument('-opt', metavar='FILE', help='the option file, in the spelling of BasicSR')
    add_run_arguments(parser)
    parser.set_defaults(run=partial(_run, kind, parser))


def add_train(commands: Commands) -> None:
    """Add `kdsr train`."""
    _add_pipeline(
        commands,
        'train',
        'train the network of an option file',
        "Runs BasicSR's training pipeline with an option file of kdsr or BasicSR. `python kdsr/train.py -opt FILE` and "
        '`python -m kdsr.train -opt FILE` do the same. With --auto_resume a stopped run continues exactly: '
        'docs/resuming.md.',
    )


def add_test(commands: Commands) -> None:
    """Add `kdsr test`."""
    _add_pipeline(
        commands,
        'test',
        'test a network with the metrics of an option file',
        "Runs BasicSR's test pipeline with an option file of kdsr or BasicSR, for example options/test/edsr_x4.yml.",
    )


def _run_script(args: argparse.Namespace) -> None:
    from kdsr.pipelines import run_script

    run_script(args.script, args.arguments)


def add_run(commands: Commands) -> None:
    """Add `kdsr run`."""
    run = commands.add_parser(
        'run',
        help="run a script that imports BasicSR, such as BasicSR's own, on today's libraries",
        description="Runs a Python script with BasicSR repaired: BasicSR's scripts/data_preparation/create_lmdb.py, "
        'scripts/metrics/calculate_psnr_ssim.py, or one of yours.',
    )
    run.add_argument('script', metavar='SCRIPT', help='the Python file')
    run.add_argument('arguments', nargs=argparse.REMAINDER, metavar='...', help="the script's own arguments")
    run.set_defaults(run=_run_script)


def _check(args: argparse.Namespace) -> None:
    if args.schema:
        from kdsr.options import build_schema

        print(json.dumps(build_schema(), indent=1))
        return
    from kdsr.authoring.option_check import check

    sys.exit(check(args.option_files, args.force_yml, files=not args.options_only, quick=args.quick))


def add_check(commands: Commands) -> None:
    """Add `kdsr check`."""
    check = commands.add_parser(
        'check',
        help='find all mistakes in option files, before a run starts',
        description='Finds misspelt keys, unknown names, wrong values, missing files, and networks, taps, scales and '
        'image sets that do not fit together. Each mistake is reported with file, line, key and cure. It also '
        'compares all weights with their networks, takes one training step on shapes alone, and shows two pairs to the '
        'teachers. Every run makes the same check at its start. The exit status is 1 if a run would not start.',
    )
    check.add_argument(
        'option_files', nargs='*', help='option files and comparison files, for example options/**/*.yml'
    )
    add_force_yml(check)
    how = check.add_mutually_exclusive_group()
    how.add_argument('--quick', action='store_true', help='read no weights of teachers, and try nothing')
    how.add_argument('--options-only', action='store_true', help='do not look at data and weights at all')
    check.add_argument('--schema', action='store_true', help='print the JSON schema for editors')
    check.set_defaults(run=_check)


def _options(args: argparse.Namespace) -> None:
    from kdsr.options.shipped import copy_shipped, list_shipped

    if args.out and args.copy:
        raise UserError(f'the folder is given twice: {args.out} and {args.copy}.')
    folder = args.out or args.copy
    print(copy_shipped(args.names, folder) if folder else list_shipped(args.names))


def add_options(commands: Commands) -> None:
    """Add `kdsr options`."""
    shipped = commands.add_parser(
        'options',
        help='list the option files that come with kdsr, or copy some of them',
        description='Lists the option files and their purpose. With --out DIR it copies them to a folder, together '
        'with the files that they are based on.',
    )
    shipped.add_argument('names', nargs='*', help="for example 'mtkd_*' or ablations/rfdn/*.yml (default: all)")
    add_out(shipped, 'DIR', 'folder for copies, for example options')
    shipped.add_argument('--copy', help=argparse.SUPPRESS)
    shipped.set_defaults(run=_options)


def _methods(args: argparse.Namespace) -> None:
    from kdsr.methods import list_methods, show_method

    print(show_method(args.name) if args.name else list_methods())


def add_methods(commands: Commands) -> None:
    """Add `kdsr methods`."""
    methods = commands.add_parser(
        'methods',
        help='list the distillation methods, or show the facts about one',
        description='Shows what a method compares, the teachers that it needs, whether a cache helps, its losses or '
        'networks, its option files, and its page in docs/methods/.',
    )
    methods.add_argument('name', nargs='?', help='a method, for example lsfd (default: list all methods)')
    methods.set_defaults(run=_methods)


def _distil(args: argparse.Namespace) -> None:
    from kdsr.authoring.distil import distil

    print(distil(args.option_file, args.teacher, args.method, args.out, args.cache))


def add_distil(commands: Commands) -> None:
    """Add `kdsr distil`."""
    distil = commands.add_parser(
        'distil',
        help='add teachers to a BasicSR option file',
        description='Writes an option file that adds a `distillation:` block with taps to a BasicSR experiment. '
        'Option files of other distillation code (`network_t`, ...) are translated.',
    )
    distil.add_argument('option_file', help='the BasicSR training file of the student')
    distil.add_argument(
        '--teacher',
        action='append',
        default=[],
        metavar='FILE',
        help='option file or checkpoint of a teacher; repeat for several teachers',
    )
    distil.add_argument('--method', help='kd (default), fitnet, at, fakd, lsfd, facd, mtkd, dukd, csd or pisr')
    add_out(distil, 'FILE', 'file to write (default: <option_file>_<method>.yml)')
    distil.add_argument(
        '--cache',
        nargs='?',
        const='auto',
        metavar='DIR',
        help="let the training read the teachers' images from a cache (default: datasets/cache/<name>.raw)",
    )
    distil.set_defaults(run=_distil)


def _taps(args: argparse.Namespace) -> None:
    from kdsr.authoring.tap_listing import list_taps

    print(list_taps(args.option_file, args.force_yml))


def add_taps(commands: Commands) -> None:
    """Add `kdsr taps`."""
    taps = commands.add_parser(
        'taps',
        help='list the modules whose features can be compared',
        description='Lists the module paths of student and teachers side by side, with the shapes of their outputs, '
        'the points that the papers use, and a `features:` block to paste. It needs no weights.',
    )
    taps.add_argument('option_file', help='the training file of a student')
    add_force_yml(taps)
    taps.set_defaults(run=_taps)


def _compare(args: argparse.Namespace) -> None:
    from kdsr.comparison.study import compare

    compare(
        args.comparison_file,
        out=args.out,
        workers=args.workers,
        only=args.only,
        report_only=args.report,
        stop_early=args.stop_early,
        photos=args.pictures,
        crops=args.crop,
        say=partial(print, flush=True),
    )


def add_compare(commands: Commands) -> None:
    """Add `kdsr compare`."""
    compare = commands.add_parser(
        'compare',
        help='train several methods and seeds with the same budget, and test the differences',
        description='Trains every run of a comparison file with every seed as an ordinary experiment. Then it writes a '
        'report with means, spreads, significance, bicubic and the teachers, and curves. If the command is killed, run '
        'it again: finished runs are not trained again. docs/compare.md describes the file.',
    )
    compare.add_argument('comparison_file', help='YAML file, see docs/compare.md')
    add_workers(compare, 'how many runs to train at a time (default: 1)', 1)
    compare.add_argument(
        '--only', nargs='+', default=[], metavar='LABEL', help='train only these runs, and the runs that they need'
    )
    compare.add_argument('--report', action='store_true', help='train nothing; write the report of the results so far')
    compare.add_argument(
        '--stop-early',
        action='store_true',
        help='stop the runs of a label when the 95 %% interval of its gain over the baseline excludes a gain',
    )
    compare.add_argument(
        '--pictures', type=int, default=3, help='photos to show as crops; 0 runs no network (default: 3)'
    )
    compare.add_argument('--crop', nargs='+', default=[], metavar='IMAGE:X,Y,W,H', help='show these crops instead')
    add_out(compare, 'DIR', 'folder of the report (default: results/<name>)')
    compare.set_defaults(run=_compare)


def _quickstart(args: argparse.Namespace) -> None:
    from kdsr.quickstart import quickstart

    quickstart()


def add_quickstart(commands: Commands) -> None:
    """Add `kdsr quickstart`."""
    quickstart = commands.add_parser(
        'quickstart',
        help='distil a small network from three teachers on sample photos, in minutes',
        description='Trains three small teachers and two students on sample photos, and compares the students. Run it '
        'in the folder of the checkout.',
    )
    quickstart.set_defaults(run=_quickstart)


def add_all(commands: Commands) -> None:
    """Add the commands of this file."""
    add_train(commands)
    add_test(commands)
    add_run(commands)
    add_check(commands)
    add_options(commands)
    add_methods(commands)
    add_distil(commands)
    add_taps(commands)
    add_compare(commands)
    add_quickstart(commands)
