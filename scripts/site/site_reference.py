"""The generated pages of the website: all commands, and the registered classes of a room with their docstrings."""

import argparse
import importlib
import re

from docutils import nodes
from docutils.parsers.rst import Directive
from docutils.statemachine import StringList
from sphinx.util.docutils import SphinxDirective

from kdsr.cli import command_parsers
from kdsr.plugins import import_modules

SUFFIXES = {'losses': '_loss', 'archs': '_arch', 'views': '_view', 'data': '_dataset', 'models': '_model'}


class Commands(Directive):
    """Show the help of every command, each under a heading of its own."""

    def run(self):
        """Return the sections."""
        return [_command_section(name, parser) for name, parser in sorted(command_parsers().items())]


def _command_section(name, parser):
    parser.formatter_class = lambda prog: argparse.HelpFormatter(prog, width=92)
    section = nodes.section(ids=[f'kdsr-{name}'], names=[f'kdsr {name}'])
    section += nodes.title(text=f'kdsr {name}')
    section += nodes.literal_block(text=parser.format_help(), language='none')
    return section


class Registered(SphinxDirective):
    """Document the classes that a room of kdsr registers, one after the other."""

    required_arguments = 1

    def run(self):
        """Return the parsed documentation."""
        room = self.arguments[0]
        lines = []
        for module in import_modules(f'kdsr.{room}', SUFFIXES[room]):
            content = vars(importlib.import_module(module)).values()
            own = [
                c for c in content if isinstance(c, type) and c.__module__ == module and not c.__name__.startswith('_')
            ]
            for cls in own:
                lines += [f'.. autoclass:: {module}.{cls.__name__}', '']
        container = nodes.container()
        self.state.nested_parse(StringList(lines, 'registered'), self.content_offset, container)
        return container.children


def as_rst(lines):
    """Return a docstring of kdsr as reStructuredText: names in single backticks are code, indented formulas literal."""
    out, section = [], False
    for i, line in enumerate(lines):
        if re.match(r'[A-Z]\w*:$', line):
            section = True
        elif line and not line.startswith(' ') and section and not lines[i - 1]:
            section = False
        is_formula = line.startswith('    ') and not section
        starts = is_formula and (i == 0 or not lines[i - 1].startswith('    '))
        if starts:
            if out and out[-1]:
                out.append('')
            out += ['::', '']
        elif out and not is_formula and lines[i - 1].startswith('    ') and not section and line:
            out.append('')
        out.append(line if is_formula or line.lstrip().startswith('>>>') else _inline(line))
    return out


def _inline(line):
    pieces = re.split(r'(:\w+:`[^`]*`|``.*?``|`[^`]*`|https?://\S+)', line)
    for i, piece in enumerate(pieces):
        if i % 2 and piece.startswith('`') and not piece.startswith('``'):
            pieces[i] = f'`{piece}`'
        elif not i % 2:
            pieces[i] = re.sub(r'([*|\\]|(?<=\w)_(?=\W|$))', r'\\\1', piece)
    return ''.join(pieces)


def _process(app, what, name, target, options, lines):
    lines[:] = as_rst(lines)


def setup(app):
    """Register with Sphinx."""
    app.add_directive('kdsr-commands', Commands)
    app.add_directive('kdsr-registered', Registered)
    app.connect('autodoc-process-docstring', _process, priority=100)  # before napoleon
    return {'parallel_read_safe': True}
