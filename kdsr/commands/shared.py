"""Arguments that several commands share. Each has one spelling and one meaning in all of them."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from typing import Any, Literal

from kdsr.errors import UserError

# what each shared argument means; docs/commands.md is made of this
SHARED = {
    '--out': 'where the result goes: a folder (`DIR`) or a file (`FILE`); `-o` is the same',
    '--images': 'images that the command looks at: files or folders',
    '--count': 'how many images to take or to make',
    '--size': 'height and width in pixels: `48` is a square, `48x64` has 48 rows; `48 64` is the same',
    '--scale': 'upscaling factor, or several',
    '--workers': 'how many processes or threads work at a time',
    '--network': 'network of bare weights: a mapping, `{type: RFDN, upscale: 4}`, or an option file; `--options` too',
    '--iter': 'checkpoint of a training: an iteration, `latest` or `best`',
    '--device': 'what computes: `auto` (the default: a GPU, if there is one), `cpu`, `cuda`, `cuda:1`',
    '--force-yml': "replaces options of option files: `train:ema_decay=0`; BasicSR's `--force_yml` is the same",
}
# spellings of earlier versions, which still work: command to old and new
OLD_SPELLINGS = {
    'attribution': {'--image': '--images'},
    'complexity': {'--csv FILE': '--out FILE.csv', '--json FILE': '--out FILE.json'},
    'convert': {'SOURCE OUT': 'SOURCE --out OUT'},
    'dead-leaves': {'FOLDER': '--out FOLDER'},
    'diagnose': {'--images N': '--count N'},
    'options': {'--copy DIR': '--out DIR'},
}
_SIZES = ('--size', '--input-size', '--output-size')


def add_out(
    parser: argparse.ArgumentParser,
    kind: Literal['DIR', 'FILE', 'DIR|FILE'],
    about: str,
    default: str | None = None,
    required: bool = False,
) -> None:
    """Add `--out`.

    Args:
        parser: Of the command.
        kind: Whether it is a folder or a file.
        about: The help.
        default: Where the result goes without it.
        required: It must be given.
    """
    parser.add_argument('-o', '--out', metavar=kind, default=default, required=required, help=about)


def add_images(parser: argparse.ArgumentParser, about: str, required: bool = False, *old: str) -> None:
    """Add `--images`, with older spellings."""
    parser.add_argument('--images', nargs='+', metavar='IMAGES', default=[], required=required and not old, help=about)
    for spelling in old:
        parser.add_argument(spelling, dest='images', nargs='+', default=argparse.SUPPRESS, help=argparse.SUPPRESS)


def add_workers(parser: argparse.ArgumentParser, about: str, default: int | None = None) -> None:
    """Add `--workers`."""
    parser.add_argument('--workers', type=int, metavar='N', default=default, help=about)


def add_network(parser: argparse.ArgumentParser, about: str, repeat: bool = False) -> None:
    """Add `--network`, and its other name `--options`."""
    many: dict[str, Any] = {'action': 'append', 'default': []} if repeat else {}
    parser.add_argument('--network', '--options', metavar='OPTIONS', help=about, **many)


def add_iter(parser: argparse.ArgumentParser, about: str, default: str | None = None) -> None:
    """Add `--iter`."""
    parser.add_argument('--iter', metavar='N|latest|best', default=default, help=about)


def add_device(parser: argparse.ArgumentParser, about: str = 'what computes') -> None:
    """Add `--device`."""
    parser.add_argument(
        '--device', default='auto', help=f'{about}: auto (a GPU, if there is one; the default), cpu, cuda, cuda:1'
    )


def add_force_yml(parser: argparse.ArgumentParser) -> None:
    """Add `--force-yml`, which replaces options of an option file, and BasicSR's spelling of it."""
    parser.add_argument(
        '--force_yml',
        '--force-yml',
        nargs='+',
        default=[],
        metavar='KEY:KEY=VALUE',
        help='replace options, for example train:ema_decay=0.999',
    )


def add_size(
    parser: argparse.ArgumentParser,
    about: str,
    default: int | tuple[int, int] | None = None,
    square: bool = False,
    name: str = '--size',
) -> None:
    """Add `--size`, which is read as (height, width), or as one number where only squares are possible."""
    metavar = 'SIDE' if square else 'H[xW]'
    parser.add_argument(name, type=_read_side if square else _read_size, metavar=metavar, default=default, help=about)


def _read_size(text: str) -> tuple[int, int]:
    found = re.fullmatch(r'(\d+)(?:x(\d+))?', text)
    if not found:
        raise argparse.ArgumentTypeError(f'{text!r}: write 48, or 48x64 for 48 rows of 64 pixels')
    return int(found[1]), int(found[2] or found[1])


def _read_side(text: str) -> int:
    height, width = _read_size(text)
    if height != width:
        raise argparse.ArgumentTypeError(f'{text!r}: it must be a square, for example {height}')
    return height


def join_sizes(argv: Sequence[str]) -> list[str]:
    """Return arguments in which the two numbers of a size are one word: ``--size 48 64`` becomes ``--size 48x64``."""
    words: list[str] = []
    for word in argv:
        if word.isdigit() and len(words) > 1 and words[-1].isdigit() and words[-2] in _SIZES:
            words[-1] += f'x{word}'
        else:
            words.append(word)
    return words


def choose_old(new: str | None, old: str | None, what: str) -> str:
    """Return a value that may be given in an older place.

    Args:
        new: In the place of today, if given.
        old: In the older place, if given.
        what: The place of today, for the message.

    Raises:
        UserError: it is given twice, or not at all.
    """
    if new and old:
        raise UserError(f'{what} is given twice: {new} and {old}.')
    if not (new or old):
        raise UserError(f'{what} is missing.')
    return new or old or ''
