"""Reading one YAML file together with the line of each of its keys."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from kdsr.errors import UserError
from kdsr.options.problems import KeyPath, Place, Problem
from kdsr.options.safe_yaml import SafeLoader, plain

Places = dict[KeyPath, Place]
MOST_VALUES, DEEPEST = 10_000, 100  # aliases of aliases can stand for billions


def read_yaml(path: str) -> dict[str, Any]:
    """Read one YAML file, without `base:`.

    Raises:
        UserError: the file is missing, is not YAML, asks for Python objects, holds no mapping, or a key twice.
    """
    opt, _, problems = read_with_places(path)
    if problems:
        raise UserError('\n'.join(map(str, problems)))
    return opt


def read_with_places(path: str) -> tuple[dict[str, Any], Places, list[Problem]]:
    """Read one YAML file, without `base:`.

    Returns:
        The options; where each key and list item stands (of what an alias or `<<` brings, where that is written); and
        the keys that are there twice, of which YAML takes the last in silence.

    Raises:
        UserError: the file is missing, is not YAML, asks for Python objects, or holds no mapping.
    """
    shown = shown_path(path)
    if not os.path.isfile(path):
        raise UserError(f'option file {shown!r} does not exist (looked in {os.getcwd()!r}).')
    try:
        with open(path, encoding='utf-8') as file:
            loader = SafeLoader(file)
            try:
                node = loader.get_single_node()
                problems = list(_repeated(node, shown))
                opt = None if node is None else loader.construct_document(node)
                if isinstance(opt, dict):  # the nodes of `<<` have now been laid into those that they are merged into
                    places = {p: Place(shown, line) for p, line in _lines(node)}
            finally:
                loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = Place(shown, mark.line + 1 if mark else None)
        what = ', '.join(filter(None, (error.context, error.problem)))
        if 'python/' in what:
            raise UserError(
                f'{place}: this asks for a Python object, and nothing in a file is executed: {what}.'
            ) from None
        raise UserError(f'{place}: this is no YAML: {what}.') from None
    except (yaml.YAMLError, UnicodeDecodeError, ValueError, RecursionError) as error:
        raise UserError(f'{shown} is no YAML file: {error}') from None
    if not isinstance(opt, dict):
        raise UserError(f'{shown}: an option file is a mapping (`name:`, `model_type:`, ...), this one is not.')
    return plain(opt), places, problems


def shown_path(path: str) -> str:
    """Return how a file is named in messages: from the current folder where it is in it."""
    relative = os.path.relpath(path)
    return os.path.abspath(path) if relative.startswith(os.pardir) else relative


def existing(places: Mapping[KeyPath, Place], opt: Mapping[str, Any]) -> Places:
    """Return the places of what is there: parts of a base that were replaced are not."""
    paths = set(_paths(opt))
    return {path: place for path, place in places.items() if path in paths}


def _paths(value: Any, path: KeyPath = ()) -> Iterator[KeyPath]:
    yield path
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _paths(item, (*path, key))
    elif isinstance(value, list):
        for i, item in enumerate(value):
            yield from _paths(item, (*path, i))


def _lines(node: yaml.Node) -> Iterator[tuple[KeyPath, int]]:
    """Yield the path and line (from 1) of every key and list item, after `construct_document` has checked the keys."""
    waiting: list[tuple[KeyPath, yaml.Node]] = [((), node)]
    count = 0
    while waiting:
        path, node = waiting.pop()
        children: dict[Any, tuple[int, yaml.Node]] = {}  # of two equal keys the later one counts
        if isinstance(node, yaml.MappingNode):
            children = {_key(key): (key.start_mark.line + 1, value) for key, value in node.value}
        elif isinstance(node, yaml.SequenceNode):
            children = {i: (item.start_mark.line + 1, item) for i, item in enumerate(node.value)}
        for key, (line, child) in children.items():
            yield (*path, key), line
            waiting.append(((*path, key), child))
        count += len(children)
        if count > MOST_VALUES or len(path) > DEEPEST:
            raise ValueError('it stands for too many values; an anchor holds itself, or many others.')


_KEYS = SafeLoader('')


def _key(node: yaml.Node) -> Any:
    return node.value if node.tag == 'tag:yaml.org,2002:str' else _KEYS.construct_object(node, deep=True)


def _repeated(node: yaml.Node | None, shown: str) -> Iterator[Problem]:
    waiting: list[tuple[KeyPath, Any]] = [((), node)]
    seen: set[int] = set()
    while waiting:
        path, node = waiting.pop()
        if node is None or id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            waiting.extend(((*path, i), item) for i, item in enumerate(node.value))
        elif isinstance(node, yaml.MappingNode):
            first: dict[str, int] = {}
            for key, value in node.value:
                name, line = key.value, key.start_mark.line + 1
                if isinstance(name, str) and name in first and name != '<<':
                    lines = f'lines {first[name]} and {line}' if first[name] != line else f'line {line}'
                    text = f'it is there twice, in {lines}; the first would be ignored.'
                    yield Problem((*path, name), text, place=Place(shown, line))
                if isinstance(name, str):  # what else can be a key is a mistake that is told elsewhere
                    first.setdefault(name, line)
                waiting.append(((*path, name), value))
