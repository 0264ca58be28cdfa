"""YAML without Python objects: no content of a file or command line is ever executed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import yaml

from kdsr.errors import UserError
from kdsr.options.bounds import compose, construct_integer

_Fastest: Any = getattr(yaml, 'CSafeLoader', yaml.SafeLoader)  # libyaml's, if PyYAML was built with it


class SafeLoader(_Fastest):
    """PyYAML's safe loader that also reads `1e-4` as a number; mappings keep their order."""


class SafeDumper(yaml.SafeDumper):
    """PyYAML's safe dumper for :class:`SafeLoader`: it writes the text '1e-4' in quotes."""


LONGEST_SHOWN = 200  # characters of a value in a message
_SCIENTIFIC = re.compile(r'^[-+]?[0-9][0-9_]*(\.[0-9_]*)?[eE][-+]?[0-9]+$')
for _kind in (SafeLoader, SafeDumper):
    _kind.add_implicit_resolver('tag:yaml.org,2002:float', _SCIENTIFIC, list('-+0123456789'))
SafeLoader.yaml_implicit_resolvers = {  # `name: 2026-01-31` is a text
    first: [(tag, pattern) for tag, pattern in resolvers if tag != 'tag:yaml.org,2002:timestamp']
    for first, resolvers in SafeLoader.yaml_implicit_resolvers.items()
}
SafeLoader.add_constructor('tag:yaml.org,2002:int', construct_integer)
# What PyYAML raises, beside its own errors, for a tag that does not fit its value, such as `!!int ""`.
_MISFITS = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError)


# Options one of whose choices is the word 'none'.
CHOOSE_NONE = frozenset(
    ('act', 'affine', 'attn_mask', 'dct_norm', 'feature_norm', 'norm', 'regressor', 'residual', 'selective')
)


TEXTS = frozenset(('filename_tmpl',))  # options whose values look like YAML: `{}` is a template, not a mapping


def parse_value(text: str, key: str = '') -> Any:
    """Read one value as YAML does: ``1e-4``, ``true``, ``~``, ``[1, 2]``; ``None`` is BasicSR's word for ``~``.

    Args:
        text: The value. ``none`` is ``None`` too, except for options that have a choice of this name.
        key: Name of the option; empty for a value without one.

    Example:
        >>> parse_value('none', 'ema_decay'), parse_value('none', 'attn_mask')
        (None, 'none')

    Raises:
        UserError: the text is not YAML.
    """
    if key in TEXTS and text not in ('None', 'none', '~', 'null', ''):
        return text.strip('\'"')
    if text == 'None' or (text == 'none' and key not in CHOOSE_NONE):
        return None
    try:
        return build_value(compose(text, SafeLoader))
    except (yaml.YAMLError, ValueError) as error:
        shown = text if len(text) <= LONGEST_SHOWN else f'{text[:LONGEST_SHOWN]}...'
        raise UserError(f'cannot read the value {shown!r}: {error}') from None


def build_value(node: yaml.Node | None) -> Any:
    """Build the value of a node of :func:`kdsr.options.bounds.compose`; None for an empty document.

    Raises:
        yaml.YAMLError: it has tags of Python objects, or others that are unknown.
        ValueError: a tag does not fit its value.
    """
    if node is None:
        return None
    loader = SafeLoader('')
    try:
        return loader.construct_document(node)
    except yaml.YAMLError:
        raise
    except _MISFITS as error:
        raise ValueError(f'a tag does not fit its value ({type(error).__name__}: {error})') from None
    finally:
        loader.dispose()


def dump(opt: Mapping[str, Any]) -> str:
    """Return options as YAML, with keys in their order."""
    return yaml.dump(
        copy_plainly(opt), Dumper=SafeDumper, sort_keys=False, default_flow_style=None, allow_unicode=True, width=120
    )


def copy_plainly(value: Any) -> Any:
    """Return a deep copy, so that values that anchors share in a file do not change together."""
    if isinstance(value, Mapping):
        return {k: copy_plainly(v) for k, v in value.items()}
    return [copy_plainly(v) for v in value] if isinstance(value, (list, tuple)) else value
