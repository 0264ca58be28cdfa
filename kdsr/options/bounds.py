"""Bounds on YAML before its values are built: a short text can stand for billions of values, or nest without end."""

from __future__ import annotations

from typing import Any

import yaml

LARGEST_FILE = 1_000_000  # bytes
MOST_VALUES = 10_000  # with what aliases and `<<` stand for
DEEPEST = 100
LARGEST_NUMBER = 2**63
LONGEST_NUMBER = 40  # characters

_STANDARD = 'tag:yaml.org,2002:'
_NOT_OPTIONS = tuple(f'{_STANDARD}{kind}' for kind in ('binary', 'omap', 'pairs', 'set', 'timestamp'))
_KEYS = tuple(f'{_STANDARD}{kind}' for kind in ('str', 'int', 'float', 'bool', 'merge'))


def compose(text: str, loader: Any) -> yaml.Node | None:
    """Read the nodes of a YAML text whose values can be built quickly.

    Args:
        text: The text.
        loader: A class of PyYAML.

    Returns:
        The node of the document; None for an empty one.

    Raises:
        yaml.YAMLError: it is not YAML, or there are keys or values that options cannot have.
        ValueError: it is too large, too deep, or stands for too many values.
    """
    if len(text) > LARGEST_FILE:
        raise ValueError(f'it has more than {LARGEST_FILE:,} characters.')
    _check_events(text, loader)
    reader = loader(text)
    try:
        node: yaml.Node | None = reader.get_single_node()
    finally:
        reader.dispose()
    if node is not None:
        _Sizes().measure(node, 0)
    return node


def construct_integer(loader: Any, node: yaml.ScalarNode) -> int:
    """Build a whole number of 64 bits.

    Raises:
        yaml.YAMLError: it is larger.
    """
    if len(node.value) <= LONGEST_NUMBER:
        value: int = loader.construct_yaml_int(node)
        if -LARGEST_NUMBER <= value < LARGEST_NUMBER:
            return value
    raise yaml.constructor.ConstructorError(
        None, None, f'the number {node.value[:20]}... is too large; write it in quotes if it is a text', node.start_mark
    )


def _check_events(text: str, loader: Any) -> None:
    """Stop at the event that is too many or too deep. Composing the nodes instead would recurse for each level."""
    depth = count = 0
    for event in yaml.parse(text, Loader=loader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        count += isinstance(event, yaml.NodeEvent)
        if count > 2 * MOST_VALUES or depth > DEEPEST:
            raise ValueError('it has too many values, or they are nested too deeply.')


class _Sizes:
    """The number of values that each node stands for, and its depth."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[int, int]] = {}
        self._open: set[int] = set()

    def measure(self, node: yaml.Node, depth: int) -> tuple[int, int]:
        """Return how many values a node stands for, and how deep they are nested in it.

        Raises:
            ValueError: there are too many, or it contains itself.
            yaml.YAMLError: it has a kind of key or value that options cannot have.
        """
        if id(node) in self._open:
            raise ValueError('it has too many values: an anchor contains itself.')
        if id(node) not in self._known:
            self._open.add(id(node))
            self._known[id(node)] = self._measure_children(node, depth)
            self._open.discard(id(node))
        count, height = self._known[id(node)]
        if count > MOST_VALUES or depth + height > DEEPEST:
            raise ValueError('it has too many values, or they are nested too deeply: anchors stand for many others.')
        return count, height

    def _measure_children(self, node: yaml.Node, depth: int) -> tuple[int, int]:
        if node.tag in _NOT_OPTIONS:
            kind = node.tag[len(_STANDARD) :]
            raise yaml.constructor.ConstructorError(None, None, f'an option cannot be a {kind}', node.start_mark)
        children = node.value if isinstance(node, yaml.SequenceNode) else []
        if isinstance(node, yaml.MappingNode):
            for key, _ in node.value:
                _check_key(key)
            children = [value for _, value in node.value]
        count, height = 1, 0
        for child in children:
            more, deeper = self.measure(child, depth + 1)
            count, height = count + more, max(height, deeper + 1)
            if count > MOST_VALUES:
                break
        return count, height


def _check_key(key: yaml.Node) -> None:
    if not isinstance(key, yaml.ScalarNode) or not (key.tag in _KEYS or key.tag.startswith(f'{_STANDARD}python/')):
        raise yaml.constructor.ConstructorError(None, None, 'a key must be a word or a number', key.start_mark)
