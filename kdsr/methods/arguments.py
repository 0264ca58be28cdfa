"""The options of a loss, network or view, from its constructor and its docstring."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from basicsr.utils.registry import ARCH_REGISTRY, LOSS_REGISTRY

from kdsr.distillation.views import VIEW_REGISTRY
from kdsr.errors import UserError
from kdsr.markdown import markdown_table

REQUIRED = 'required'
_ELSEWHERE = re.compile(r'See :class:`(\w+)`')


@dataclass(frozen=True)
class Argument:
    """One option: its name, its default as written in YAML ('required' where it has none), and its meaning."""

    name: str
    default: str
    about: str


def find_registered(name: str) -> type:
    """Return the loss, network or view that is registered under a name.

    Raises:
        UserError: nothing is registered under that name.
    """
    for registry in (LOSS_REGISTRY, ARCH_REGISTRY, VIEW_REGISTRY):
        if name in registry:
            return registry.get(name)
    raise UserError(f'no loss, network or view is called {name!r}.')


def list_arguments(cls: type) -> list[Argument]:
    """Return the arguments of a class in the order of its constructor; `about` is empty where there is no text."""
    texts = _read_explanations(cls)
    cited = _list_citations(cls)
    return [
        Argument(name, _format_in_yaml(parameter.default), _insert_names(texts.get(name, ''), cited))
        for name, parameter in inspect.signature(cls).parameters.items()
    ]


def _read_explanations(cls: type) -> dict[str, str]:
    """Return argument to text; `See :class:` is replaced by the text of that base class."""
    own = _parse_section(cls, 'Args')
    for name, text in own.items():
        found = _ELSEWHERE.match(text)
        if found:
            base = next(c for c in cls.__mro__ if c.__name__ == found[1])
            own[name] = _parse_section(base, 'Args')[name].rstrip('.') + text[found.end() :]
    return own


def _parse_section(cls: type, title: str) -> dict[str, str]:
    """Return the entries of a docstring's section, `name: text` or `[1] text`, each as one line."""
    found = re.search(rf'^{title}:\n(.*?)(?=^\S|\Z)', inspect.getdoc(cls) or '', re.MULTILINE | re.DOTALL)
    entries: dict[str, str] = {}
    name = ''
    for line in found[1].splitlines() if found else ():
        start = re.match(r' {4}(?:(\w+): |\[(\d+)\] )(.*)', line)
        if start:
            name = start[1] or start[2]
            entries[name] = start[3]
        elif line.strip():
            entries[name] += f' {line.strip()}'
    return entries


def _list_citations(cls: type) -> dict[str, str]:
    """Return the number of each reference in a docstring to its authors."""
    names = {number: text.split('. ')[0].split(', ') for number, text in _parse_section(cls, 'References').items()}
    return {n: ' and '.join(who) if len(who) < 3 else f'{who[0]} et al.' for n, who in names.items()}


def _insert_names(text: str, cited: Mapping[str, str]) -> str:
    """Replace the numbers of references by their authors."""

    def authors(found: re.Match[str]) -> str:
        numbers = found[1].split(', ')
        return f'[{"; ".join(cited[n] for n in numbers)}]' if all(n in cited for n in numbers) else found[0]

    return re.sub(r'\[(\d+(?:, \d+)*)\]', authors, text)


def _format_in_yaml(default: Any) -> str:
    if default is inspect.Parameter.empty:
        return REQUIRED
    if default is None:
        return '~'
    if isinstance(default, bool):
        return str(default).lower()
    return f'[{", ".join(map(_format_in_yaml, default))}]' if isinstance(default, (list, tuple)) else str(default)


def format_argument_table(classes: Iterable[str]) -> str:
    """Return the options of some classes as Markdown, one table per class."""
    blocks: list[str] = []
    for name in classes:
        rows = [
            (f'`{a.name}`', _format_default(a), a.about.replace('*', r'\*'))
            for a in list_arguments(find_registered(name))
        ]
        blocks += [f'`{name}`', markdown_table(['option', 'default', ''], rows)]
    return '\n\n'.join(blocks)


def _format_default(argument: Argument) -> str:
    return argument.default if argument.default == REQUIRED else f'`{argument.default}`'
