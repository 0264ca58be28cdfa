"""Read one YAML file together with the line of each of its keys."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from kdsr.errors import UserError
from kdsr.options.bounds import LARGEST_FILE, compose
from kdsr.options.problems import KeyPath, Place, Problem
from kdsr.options.safe_yaml import SafeLoader, build_value, copy_plainly

Places = dict[KeyPath, Place]


def read_yaml(path: str) -> dict[str, Any]:
    """Read one YAML file, without `base:`.

    Raises:
        UserError: the file is missing, is not YAML, contains Python objects or a key twice, or is not a mapping.
    """
    opt, _, problems = read_with_places(path)
    if problems:
        raise UserError('\n'.join(map(str, problems)))
    return opt


def read_with_places(path: str) -> tuple[dict[str, Any], Places, list[Problem]]:
    """Read one YAML file, without `base:`.

    Returns:
        The options; the place of each key and list item (for an alias or `<<`, where its content is written); and an
        error for each key that stands there twice, of which YAML silently takes the last.

    Raises:
        UserError: the file is missing, is not YAML, contains Python objects, or is not a mapping.
    """
    shown = shorten_path(path)
    if not os.path.isfile(path):
        raise UserError(f'option file {shown!r} does not exist (looked in {os.getcwd()!r}).')
    try:
        node = compose(_read_text(path), SafeLoader)
        problems = list(_find_repeated(node, shown))
        opt = build_value(node)
        if isinstance(opt, dict):  # build_value has merged the nodes of `<<`
            places = {p: Place(shown, line) for p, line in _find_lines(node)}
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = Place(shown, mark.line + 1 if mark else None)
        what = ', '.join(filter(None, (error.context, error.problem)))
        if 'python/' in what:
            raise UserError(f'{place}: Python objects are not allowed in option files: {what}.') from None
        raise UserError(f'{place}: not valid YAML: {what}.') from None
    except (yaml.YAMLError, ValueError) as error:  # ValueError: not UTF-8, too large, or a tag that does not fit
        raise UserError(f'{shown} is not a YAML file, or none of options: {error}') from None
    if not isinstance(opt, dict):
        raise UserError(f'{shown}: an option file must be a mapping (`name:`, `model_type:`, ...).')
    return copy_plainly(opt), places, problems


def _read_text(path: str) -> str:
    """Read a text file, and no more of a large one than is needed to refuse it."""
    with open(path, encoding='utf-8-sig') as file:
        return file.read(LARGEST_FILE + 1)


def shorten_path(path: str) -> str:
    """Return the name of a file in messages: relative to the current folder if it is inside."""
    relative = os.path.relpath(path)
    return os.path.abspath(path) if relative.startswith(os.pardir) else relative


def keep_existing(places: Mapping[KeyPath, Place], opt: Mapping[str, Any]) -> Places:
    """Return the places of the keys in `opt`, without those of a base that were replaced."""
    paths = set(_find_paths(opt))
    return {path: place for path, place in places.items() if path in paths}


def _find_paths(value: Any, path: KeyPath = ()) -> Iterator[KeyPath]:
    yield path
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _find_paths(item, (*path, key))
    elif isinstance(value, list):
        for i, item in enumerate(value):
            yield from _find_paths(item, (*path, i))


def _find_lines(node: yaml.Node | None) -> Iterator[tuple[KeyPath, int]]:
    """Yield the path and line (from 1) of every key and list item. Call it after `build_value`."""
    waiting: list[tuple[KeyPath, Any]] = [((), node)]
    while waiting:
        path, node = waiting.pop()
        children: dict[Any, tuple[int, yaml.Node]] = {}  # the later of two equal keys counts
        if isinstance(node, yaml.MappingNode):
            children = {_key(key): (key.start_mark.line + 1, value) for key, value in node.value}
        elif isinstance(node, yaml.SequenceNode):
            children = {i: (item.start_mark.line + 1, item) for i, item in enumerate(node.value)}
        for key, (line, child) in children.items():
            yield (*path, key), line
            waiting.append(((*path, key), child))


_KEYS = SafeLoader('')


def _key(node: yaml.Node) -> Any:
    return node.value if node.tag == 'tag:yaml.org,2002:str' else _KEYS.construct_object(node, deep=True)


def _find_repeated(node: yaml.Node | None, shown: str) -> Iterator[Problem]:
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
                    text = f'the key stands here twice, in {lines}; YAML would ignore the first.'
                    yield Problem((*path, name), text, place=Place(shown, line))
                if isinstance(name, str):  # other checks report other kinds of keys
                    first.setdefault(name, line)
                waiting.append(((*path, name), value))
