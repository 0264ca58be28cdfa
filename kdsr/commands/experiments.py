"""Commands about experiments: their option files, running and comparing them."""

from __future__ import annotations

import argparse
import json
import sys
from functools import partial
from typing import TYPE_CHECKING, Literal

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
    parser.add_argument('-opt', metavar='FILE', help='the same, as BasicSR writes it')
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
        from kdsr.options import schema

        print(json.dumps(schema(), indent=1))
        return
    from kdsr.authoring.option_check import check

    sys.exit(check(args.option_files, args.force_yml, not args.options_only))


def add_check(commands: Commands) -> None:
    """Add `kdsr check`."""
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


def _options(args: argparse.Namespace) -> None:
    from kdsr.options.shipped import copy_shipped, list_shipped

    print(copy_shipped(args.names, args.copy) if args.copy else list_shipped(args.names))


def add_options(commands: Commands) -> None:
    """Add `kdsr options`."""
    shipped = commands.add_parser(
        'options',
        help='list the option files that come with kdsr, or copy some',
        description='Lists the option files with what they are for. With --copy DIR they are written there, with the '
        'files that they are based on.',
    )
    shipped.add_argument('names', nargs='*', help="for example 'mtkd_*' or ablations/rfdn/*.yml (default: all)")
    shipped.add_argument('--copy', metavar='DIR', help='folder to copy to, for example options')
    shipped.set_defaults(run=_options)


def _methods(args: argparse.Namespace) -> None:
    from kdsr.methods import list_methods, show_method

    print(show_method(args.name) if args.name else list_methods())


def add_methods(commands: Commands) -> None:
    """Add `kdsr methods`."""
    methods = commands.add_parser(
        'methods',
        help='list the methods, or show what one compares and needs, and where its option files are',
        description='What each method compares, which teachers it needs, whether a cache helps, its losses or '
        'networks, its option files and its page in docs/methods/.',
    )
    methods.add_argument('name', nargs='?', help='for example lsfd (default: a line for each)')
    methods.set_defaults(run=_methods)


def _distil(args: argparse.Namespace) -> None:
    from kdsr.authoring.distil import distil

    print(distil(args.option_file, args.teacher, args.method, args.out))


def add_distil(commands: Commands) -> None:
    """Add `kdsr distil`."""
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


def _taps(args: argparse.Namespace) -> None:
    from kdsr.authoring.tap_listing import list_taps

    print(list_taps(args.option_file))


def add_taps(commands: Commands) -> None:
    """Add `kdsr taps`."""
    taps = commands.add_parser(
        'taps',
        help="list what can be tapped in an option file's student and teachers",
        description='Module paths with the shapes of their outputs, side by side, the points that the papers use, and '
        'the `features:` block to paste. No weights are needed.',
    )
    taps.add_argument('option_file')
    taps.set_defaults(run=_taps)


def _compare(args: argparse.Namespace) -> None:
    from kdsr.comparison.study import compare

    compare(
        args.comparison_file,
        out=args.out,
        workers=args.workers,
        only=args.only,
        report_only=args.report,
        photos=args.pictures,
        crops=args.crop,
        say=partial(print, flush=True),
    )


def add_compare(commands: Commands) -> None:
    """Add `kdsr compare`."""
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


def _quickstart(args: argparse.Namespace) -> None:
    from kdsr.quickstart import quickstart

    quickstart()


def add_quickstart(commands: Commands) -> None:
    """Add `kdsr quickstart`."""
    quickstart = commands.add_parser(
        'quickstart', help='distil a small network from three teachers on sample photos, in minutes'
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
