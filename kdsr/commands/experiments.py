"""Commands about experiments: their option files, running and comparing them."""

from __future__ import annotations

import argparse
import sys
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]


def _check(args: argparse.Namespace) -> None:
    from kdsr.authoring.option_check import check

    sys.exit(check(args.option_files, args.force_yml, not args.options_only, args.schema))


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

    say = partial(print, flush=True)
    compare(args.comparison_file, args.out, args.workers, args.only, args.report, args.pictures, args.crop, say)


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
    add_check(commands)
    add_options(commands)
    add_methods(commands)
    add_distil(commands)
    add_taps(commands)
    add_compare(commands)
    add_quickstart(commands)
