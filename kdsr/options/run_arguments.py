"""The command-line arguments of a training or a test, as BasicSR defines them."""

from __future__ import annotations

import argparse


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of BasicSR's pipelines, without the option file."""
    parser.add_argument(
        '--launcher', choices=['none', 'pytorch', 'slurm'], default='none', help='who starts the processes of a run'
    )
    parser.add_argument(
        '--auto_resume', '--auto-resume', action='store_true', help='continue from the newest saved state, if any'
    )
    parser.add_argument('--debug', action='store_true', help='log and validate every 8 iterations')
    parser.add_argument(
        '--verbose', action='store_true', help="print BasicSR's banner, all options and all modules, not only log them"
    )
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help='set by PyTorch launchers')
    parser.add_argument(
        '--force_yml', '--force-yml', nargs='+', default=[], metavar='KEY:KEY=VALUE',
        help='replace options, for example train:ema_decay=0.999',
    )  # fmt: skip


def run_arguments(args: argparse.Namespace, option_file: str) -> list[str]:
    """Return parsed arguments as text again, for BasicSR's pipeline; `--force_yml` comes last.

    Args:
        args: What a parser with :func:`add_run_arguments` returned.
        option_file: The option file of the run.
    """
    flags = [f'--{name}' for name in ('auto_resume', 'debug', 'verbose') if getattr(args, name)]
    given = ['-opt', option_file, '--launcher', args.launcher, '--local_rank', str(args.local_rank), *flags]
    return [*given, '--force_yml', *args.force_yml] if args.force_yml else given
