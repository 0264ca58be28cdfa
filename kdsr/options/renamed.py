"""Old names of options. A renamed option keeps working for those who write the old name, with a warning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kdsr.options.problems import WARNING, KeyPath, Place, Problem


@dataclass(frozen=True)
class Renamed:
    """One renamed option, in a section of the file or among the arguments of a registered class.

    Attributes:
        old: The old name.
        new: The new name.
        section: Dotted path of its mapping, `*` for any key or place in a list: ``distillation.teachers.*``; '' for the
            top level. None with `of_type`.
        of_type: Registered class with this argument, for example a loss or network; None with `section`.
    """

    old: str
    new: str
    section: str | None = None
    of_type: str | None = None

    def matches(self, path: KeyPath, kind: object) -> bool:
        """Return whether a mapping can contain the option.

        Args:
            path: Of the mapping.
            kind: Its `type:`.
        """
        if self.of_type is not None:
            return kind == self.of_type
        parts = (self.section or '').split('.') if self.section else []
        return len(parts) == len(path) and all(part in ('*', str(own)) for part, own in zip(parts, path))


# Whoever renames an option adds a row. Example: Renamed('teacher', 'teachers', section='distillation').
RENAMED: tuple[Renamed, ...] = ()


def current_name(key: Any, path: KeyPath, kind: object) -> Any:
    """Return the new name of a renamed key; any other key itself.

    Args:
        key: The key.
        path: Path of its mapping.
        kind: The mapping's `type:`.
    """
    return next((row.new for row in RENAMED if row.old == key and row.matches(path, kind)), key)


def warn_of_old_name(path: KeyPath, new: str, place: Place | None) -> Problem:
    """Return the warning for an old name; `path` is that of the old key."""
    return Problem(path, f'is now called `{new}`. The old name still works; please change it.', WARNING, place)


def rename_old_keys(
    opt: Mapping[str, Any], base: Mapping[str, Any], places: Mapping[KeyPath, Place]
) -> tuple[dict[str, Any], dict[KeyPath, Place], list[Problem]]:
    """Replace old names in the options of one file.

    Args:
        opt: The options of the file, without its base.
        base: The options of its base: a mapping that does not repeat its `type:` has that of the base.
        places: Where the keys of the file stand.

    Returns:
        The options and places with new names; a warning for each old name, or an error if the new one is there too.
    """
    problems: list[Problem] = []
    moved: dict[KeyPath, KeyPath] = {}

    def rename(value: Any, base_value: Any, path: KeyPath, old_path: KeyPath) -> Any:
        moved[old_path] = path
        if isinstance(value, Sequence) and not isinstance(value, str):
            return [rename(item, None, (*path, i), (*old_path, i)) for i, item in enumerate(value)]
        if not isinstance(value, Mapping):
            return value
        inherited = base_value if isinstance(base_value, Mapping) else {}
        kind = value.get('type', inherited.get('type'))
        renamed: dict[Any, Any] = {}
        for key, item in value.items():
            name = current_name(key, path, kind)
            if name != key and name in value:
                text = f'is the old name of `{name}`, which is there too: delete the old one.'
                problems.append(Problem((*path, key), text, place=places.get((*old_path, key))))
                continue
            if name != key:
                problems.append(warn_of_old_name((*path, key), name, places.get((*old_path, key))))
            renamed[name] = rename(item, inherited.get(name), (*path, name), (*old_path, key))
        return renamed

    new = rename(opt, base, (), ())
    return new, {moved.get(path, path): place for path, place in places.items()}, problems


def describe_renamed() -> list[str]:
    """Return the table of old names as lines of Markdown; none while nothing is renamed."""
    if not RENAMED:
        return []
    lines = ['', '## Old names', '', 'These still work, with a warning:', '', '| old | new | where |', '|---|---|---|']
    for row in RENAMED:
        where = f'`type: {row.of_type}`' if row.of_type else f'`{row.section or "top level"}`'
        lines.append(f'| `{row.old}` | `{row.new}` | {where} |')
    return lines
