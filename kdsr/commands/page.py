"""The page docs/command_line.md: the table of commands and of the options that they share."""

from __future__ import annotations

import argparse
from collections.abc import Mapping

from kdsr.commands.shared import OLD_SPELLINGS, SHARED
from kdsr.markdown import markdown_table

_HEAD = """# The command line

Made by `make docs` from the commands themselves. `kdsr COMMAND --help` lists all arguments of one command.

An option has one name and one meaning in all commands. What a command works on comes without an option: `kdsr upscale
photos`, `kdsr check FILE`. Names of networks in the [zoo](zoo.md) stand for files. Methods have one set of names (`kdsr
methods`): `kd` and `response` are the same, and so are `at` and `attention_transfer`.
"""


def write_page(parsers: Mapping[str, argparse.ArgumentParser], summaries: Mapping[str, str]) -> str:
    """Return the page as Markdown.

    Args:
        parsers: Name of each command to its parser.
        summaries: Name of each command to one sentence.
    """
    meanings = markdown_table(['option', 'meaning'], [(f'`{name}`', text) for name, text in SHARED.items()])
    rows = []
    for name, parser in parsers.items():
        shared = [option for option in SHARED if option in parser._option_string_actions and _is_shown(parser, option)]
        rows.append((f'`kdsr {name}`', summaries[name], ' '.join(f'`{option}`' for option in shared)))
    commands = markdown_table(['command', 'what it does', 'shared options'], rows)
    old = [(f'`kdsr {name}`', f'`{was}`', f'`{now}`') for name, pairs in OLD_SPELLINGS.items()
           for was, now in pairs.items()]  # fmt: skip
    return (
        f'{_HEAD}\n## Commands\n\n{commands}\n\n## Shared options\n\n{meanings}\n\n## Older spellings\n\n'
        f'They still work.\n\n{markdown_table(["command", "older", "today"], old)}\n'
    )


def _is_shown(parser: argparse.ArgumentParser, option: str) -> bool:
    return parser._option_string_actions[option].help is not argparse.SUPPRESS
