"""Markdown tables, and text of users that must not be read as Markdown's HTML."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence

_BARE_BAR = re.compile(r'(?<!\\)\|')
_CODE = re.compile(r'(`+[^`]*`+)')
_TAG = re.compile(r'<(?=[A-Za-z/!?])')


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]], numbers: Collection[int] = ()) -> str:
    """Return a table, without a newline at its end.

    Bars inside cells are escaped, and newlines become spaces, so that every row stays one row.

    Args:
        head: The heads of the columns.
        rows: The cells of each row, as many as in `head`.
        numbers: Indices of the columns that are aligned to the right.

    Example:
        >>> print(markdown_table(['run', 'PSNR'], [['alone', '30.12'], ['distilled', '30.40']], numbers=[1]))
        | run | PSNR |
        |---|---:|
        | alone | 30.12 |
        | distilled | 30.40 |
    """
    rule = ''.join('---:|' if i in numbers else '---|' for i in range(len(head)))
    return '\n'.join([_row(head), f'|{rule}', *map(_row, rows)])


def _row(cells: Sequence[str]) -> str:
    return '|' + ''.join(f' {cell} |' if cell else ' |' for cell in map(_one_line, cells))


def _one_line(cell: str) -> str:
    return _BARE_BAR.sub(r'\\|', ' '.join(cell.split('\n')).strip())


def escape_html(text: str) -> str:
    """Return a text in which nothing is an HTML tag or comment; inside backticks nothing is changed.

    Example:
        >>> escape_html('bold <b>, code `<b>`, p < 0.1')
        'bold &lt;b>, code `<b>`, p < 0.1'
    """
    parts = _CODE.split(text)
    return ''.join(part if i % 2 else _TAG.sub('&lt;', part) for i, part in enumerate(parts))
