"""The `kdsr` command."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Iterator, Sequence

import kdsr
from kdsr.commands import data, deployment, evaluation, experiments, inspection, page
from kdsr.commands.shared import join_sizes
from kdsr.errors import report_user_errors


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
    for room in (data, experiments, evaluation, inspection, deployment):
        room.add_all(commands)
    return parser


def command_parsers() -> dict[str, argparse.ArgumentParser]:
    """Return the parser of every command by its name; the documents are made and tested with them."""
    (commands,) = (action for action in _parser()._actions if isinstance(action, argparse._SubParsersAction))
    return dict(commands.choices)


def command_page() -> str:
    """Return docs/command_line.md."""
    (commands,) = (action for action in _parser()._actions if isinstance(action, argparse._SubParsersAction))
    summaries = {choice.dest: str(choice.help) for choice in commands._choices_actions}
    return page.write_page(command_parsers(), summaries)


@contextlib.contextmanager
def _until_nobody_reads() -> Iterator[None]:
    """End quietly when the reader of a pipe (`| head`) closes it, as other commands do."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        try:
            sys.stdout.write('\n')  # fails if standard output is the broken pipe
            sys.stdout.flush()
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the flush at exit must not fail
            sys.exit(141)
        raise  # another pipe is broken


def main(argv: Sequence[str] | None = None) -> None:
    """Run one command.

    Args:
        argv: The arguments; those of the process when None.

    Raises:
        SystemExit: with the status of a command that failed, or 130 after Ctrl-C.
    """
    args = _parser().parse_args(join_sizes(sys.argv[1:] if argv is None else argv))
    try:
        with report_user_errors(), _until_nobody_reads():
            args.run(args)
    except KeyboardInterrupt:  # before or beside what handles it better, such as while PyTorch is imported
        sys.stderr.write('\nkdsr: stopped.\n')
        sys.exit(130)
