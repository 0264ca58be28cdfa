"""The report of a comparison as one HTML file with its styles and pictures inside (`templates/report.html`)."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape
from PIL import Image, features

from kdsr.comparison.parts import DASH, Part, ReportPicture, Table

LARGE = 150_000  # bytes; pictures above this size are compressed with a small loss
GAIN = re.compile(r'[+-]\d')
NUMBER = re.compile(r'[+-]?[\d,.:]+( ± [\d.]+)?$')
TEMPLATES = Path(__file__).with_name('templates')


class _Cell(NamedTuple):
    """A cell of a table, and its CSS classes; empty for none."""

    text: str
    classes: str


def format_page(name: str, about: str, parts: Sequence[Part], folder: Path) -> str:
    """Return the report as one HTML page.

    Args:
        name: Name of the comparison.
        about: Text beneath the name.
        parts: Tables, pictures and texts, in their order.
        folder: Where the files of the pictures are.

    Raises:
        OSError: a picture cannot be read.
    """
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(marked=_mark_up, anchor=_make_anchor)
    template = environment.get_template('report.html')
    return template.render(name=name, about=about, parts=[_describe_part(part, folder) for part in parts])


def _mark_up(text: str) -> Markup:
    """Escape a text; `code` and **bold** keep their meaning."""
    escaped = str(escape(text.strip()))
    return Markup(re.sub(r'\*\*(.+?)\*\*', r'<b>\1</b>', re.sub(r'`(.+?)`', r'<code>\1</code>', escaped)))


def _make_anchor(title: str) -> str:
    return re.sub(r'\W+', '-', title.lower()).strip('-')


def _describe_part(part: Part, folder: Path) -> dict[str, Any]:
    """Return what the template needs of a part."""
    if isinstance(part, str):
        return {'kind': 'text', 'title': '', 'text': part}
    view = {'title': part.title, 'text': part.text}
    if isinstance(part, ReportPicture):
        return {**view, 'kind': 'picture', 'source': embed_picture(folder / part.file)}
    facts = not any(part.head)
    numeric = [not facts and all(_is_number(row[i]) for row in part.rows) for i in range(len(part.head))]
    head = [] if facts else [_Cell(text, 'number' if number else '') for text, number in zip(part.head, numeric)]
    return {**view, 'kind': 'table', 'head': head, 'rows': list(_format_rows(part, numeric))}


def _format_rows(table: Table, numeric: Sequence[bool]) -> Iterator[tuple[str, list[_Cell]]]:
    for first, *rest in table.rows:
        yield first, [_Cell(text, _choose_classes(text, number)) for text, number in zip(rest, numeric[1:])]


def _is_number(text: str) -> bool:
    return not text or text in (DASH, 'baseline') or bool(NUMBER.match(text)) or bool(GAIN.match(text))


def _choose_classes(text: str, number: bool) -> str:
    classes = ['number'] if number else []
    if GAIN.match(text) and text.endswith('*'):  # only significant gains are coloured
        classes.append('up' if text.startswith('+') else 'down')
    return ' '.join(classes)


def embed_picture(path: Path) -> str:
    """Return a PNG file as a data address.

    The picture becomes WebP with the same pixels, or, if that is still large, with nearly the same pixels.
    """
    content, kind = path.read_bytes(), 'png'
    with Image.open(path) as image:
        for settings in ({'lossless': True}, {'quality': 80}) if features.check('webp') else ():
            packed = io.BytesIO()
            image.convert('RGB').save(packed, 'webp', **settings)
            if len(packed.getvalue()) < len(content):
                content, kind = packed.getvalue(), 'webp'
            if len(content) <= LARGE:
                break
    return f'data:image/{kind};base64,{base64.b64encode(content).decode()}'
