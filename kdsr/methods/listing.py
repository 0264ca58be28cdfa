"""`kdsr methods`: the table of methods in a terminal."""

from __future__ import annotations

from kdsr.errors import UserError, did_you_mean
from kdsr.methods.files import describe_networks, list_files, list_kinds_of_files
from kdsr.methods.table import METHODS, Method
from kdsr.options.method_names import normalise_method
from kdsr.wording import counted


def list_methods() -> str:
    """Return one line per method: its name, its source, and what it compares."""
    rows = [(m.word or m.name, f'{m.title} ({m.source})', m.compares) for m in METHODS]
    widths = [max(len(row[i]) for row in rows) for i in range(2)]
    lines = [f'{name:<{widths[0]}}  {source:<{widths[1]}}  {compares}' for name, source, compares in rows]
    return '\n'.join([*lines, '', 'More about one of them: kdsr methods NAME'])


def show_method(name: str) -> str:
    """Return the facts about one method, with its option files and its page.

    Args:
        name: Its name, as `kdsr distil --method` takes it, or that of its page; upper and lower case are equal.

    Raises:
        UserError: there is no such method.
    """
    method = _find(name)
    facts = {
        'paper': f'{method.source}, {method.url}',
        'compares': method.compares,
        'teachers': method.teachers,
        'cache': method.cache,
        'trains besides': method.trains,
        'in the YAML': ', '.join(method.classes),
        'networks': describe_networks(method),
        **{
            kind.partition(',')[0].partition(':')[0]: _list_files(method, kind)
            for kind, _ in list_kinds_of_files(method)
        },
        'list or copy': f'kdsr options {" ".join(repr(p) for p in method.runs)}' if method.runs else '',
        'your own file': f'kdsr distil FILE.yml --teacher TEACHER --method {method.word}' if method.word else '',
        'page': f'docs/methods/{method.name}.md: equations, every option, results, traps',
    }
    shown = [f'  {key:<18}  {text}' for key, text in facts.items() if text]
    return '\n'.join([f'{method.title}: {method.paper}', *shown])


def _find(name: str) -> Method:
    for method in METHODS:
        if normalise_method(name) in (method.word or method.name, method.title.lower()):
            return method
    names = [method.word or method.name for method in METHODS]
    raise UserError(f'unknown method {name!r}.{did_you_mean(name, names) or " Methods: " + ", ".join(names) + "."}')


def _list_files(method: Method, kind: str) -> str:
    patterns = dict(list_kinds_of_files(method))[kind]
    return f'{", ".join(patterns)} ({counted(len(list_files(patterns)), "file")})'
