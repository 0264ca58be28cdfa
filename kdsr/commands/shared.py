"""Arguments that several commands share."""

from __future__ import annotations

import argparse


def add_force_yml(parser: argparse.ArgumentParser) -> None:
    """Add `--force_yml`, which replaces options of an option file."""
    parser.add_argument(
        '--force_yml',
        '--force-yml',
        nargs='+',
        default=[],
        metavar='KEY:KEY=VALUE',
        help='replace options, for example train:ema_decay=0.999',
    )
