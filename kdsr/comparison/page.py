"""The report of a comparison as one HTML file that needs nothing beside it: styles and pictures are inside."""

from __future__ import annotations

import base64
import html
import io
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from PIL import Image, features

from kdsr.comparison.tables import ReportPicture, Table

LARGE = 150_000  # bytes of a picture from which on it loses a little
GAIN = re.compile(r'[+-]\d')
NUMBER = re.compile(r'[+-]?[\d,.:]+( ± [\d.]+)?$')
STYLE = """
:root { color-scheme: light dark; --ink: #1c2430; --soft: #5c6675; --paper: #ffffff; --panel: #f5f7fa; --line: #dde2e9;
  --accent: #0f62ac; --up: #10703c; --down: #b3261e; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e8ee; --soft: #9aa5b4; --paper: #14181f; --panel: #1c222b;
  --line: #323a46; --accent: #7db8f0; --up: #6fd39b; --down: #ff9c93; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem clamp(0.8rem, 3vw, 2.5rem) 4rem; max-width: 76rem; color: var(--ink);
  background: var(--paper); font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
h1 { margin: 0.4rem 0 0.6rem; font-size: 1.75rem; line-height: 1.2; overflow-wrap: anywhere; }
h2 { margin: 2.6rem 0 0.7rem; font-size: 1.2rem; scroll-margin-top: 3.2rem; }
p { max-width: 48rem; color: var(--soft); }
nav { position: sticky; top: 0; z-index: 1; margin: 1rem -0.2rem 1.2rem; padding: 0.55rem 0.2rem; display: flex;
  gap: 1.1rem; overflow-x: auto; white-space: nowrap; background: var(--paper); border-bottom: 1px solid var(--line);
  font-size: 0.88rem; }
a { color: var(--accent); text-decoration: none; }
a:hover { text-decoration: underline; }
.wide { overflow-x: auto; border: 1px solid var(--line); border-radius: 8px; }
table { width: 100%; border-collapse: collapse; font-size: 0.88rem; }
th, td { padding: 0.42rem 0.8rem; text-align: left; vertical-align: top; border-bottom: 1px solid var(--line); }
th { background: var(--panel); font-weight: 600; white-space: nowrap; }
tbody tr:last-child > * { border-bottom: 0; }
td.number { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
th.number { text-align: right; }
tbody th { position: sticky; left: 0; min-width: 6.5rem; max-width: 12rem; white-space: normal; }
.facts th { width: 9rem; color: var(--soft); font-weight: 500; }
.facts td { overflow-wrap: anywhere; }
.up, .down { font-weight: 650; color: var(--up); } .down { color: var(--down); }
code { padding: 0.1em 0.3em; border-radius: 4px; background: var(--panel); font-size: 0.92em; overflow-wrap: anywhere; }
figure { margin: 0; padding: 0.4rem; overflow-x: auto; border: 1px solid var(--line); border-radius: 8px;
  background: #ffffff; }
img { display: block; width: 100%; min-width: 44rem; height: auto; }
footer { margin-top: 3rem; color: var(--soft); font-size: 0.88rem; }
@media print { nav { display: none; } img { min-width: 0; } }
"""


def page(name: str, about: str, parts: Sequence[Table | ReportPicture | str], folder: Path) -> str:
    """Return the report as one HTML page.

    Args:
        name: Of the comparison.
        about: Text beneath the name.
        parts: Tables, pictures and lines of text, in their order.
        folder: Where the pictures' files are.
    """
    titled = [part for part in parts if not isinstance(part, str) and part.title]
    links = ''.join(f'<a href="#{_anchor(part.title)}">{_text(part.title)}</a>' for part in titled)
    body = '\n'.join(_section(part, folder) for part in parts)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<title>{_text(name)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n'
        f'<h1>{_text(name)}</h1>\n<p>{_text(about)}</p>\n<nav>{links}</nav>\n{body}\n</body>\n</html>\n'
    )


def _text(text: str) -> str:
    """Escape a text; `code` and **bold** keep their meaning."""
    escaped = html.escape(text.strip(), quote=False)
    return re.sub(r'\*\*(.+?)\*\*', r'<b>\1</b>', re.sub(r'`(.+?)`', r'<code>\1</code>', escaped))


def _anchor(title: str) -> str:
    return re.sub(r'\W+', '-', title.lower()).strip('-')


def _section(part: Table | ReportPicture | str, folder: Path) -> str:
    if isinstance(part, str):
        return f'<footer>{_text(part)}</footer>'
    lines = [f'<h2 id="{_anchor(part.title)}">{_text(part.title)}</h2>'] if part.title else []
    lines += [f'<p>{_text(part.text)}</p>'] if part.text else []
    if isinstance(part, ReportPicture):
        source = embedded(folder / part.file)
        title = html.escape(part.title)
        return '\n'.join([*lines, f'<figure><img src="{source}" alt="{title}"></figure>'])
    return '\n'.join([*lines, '<div class="wide">', *_table(part), '</div>'])


def _table(table: Table) -> Iterator[str]:
    facts = not any(table.head)
    yield f'<table class="{"facts" if facts else "numbers"}">'
    numeric = [all(_is_number(row[i]) for row in table.rows) for i in range(len(table.head))]
    if not facts:
        cells = (f'<th{_class("number" if n else "")}>{_text(h)}</th>' for h, n in zip(table.head, numeric))
        yield f'<thead><tr>{"".join(cells)}</tr></thead>'
    yield '<tbody>'
    for first, *rest in table.rows:
        cells = (_cell(text, number and not facts) for text, number in zip(rest, numeric[1:]))
        yield f'<tr><th scope="row">{_text(first)}</th>{"".join(cells)}</tr>'
    yield '</tbody></table>'


def _is_number(text: str) -> bool:
    return not text or text in ('\u2013', 'baseline') or bool(NUMBER.match(text)) or bool(GAIN.match(text))


def _cell(text: str, number: bool) -> str:
    kinds = ['number'] if number else []
    if GAIN.match(text) and text.endswith('*'):  # colour is for what is significant
        kinds.append('up' if text.startswith('+') else 'down')
    return f'<td{_class(" ".join(kinds))}>{_text(text)}</td>'


def _class(names: str) -> str:
    return f' class="{names}"' if names else ''


def embedded(path: Path) -> str:
    """Return a PNG file as a data address: as WebP with the same pixels, or nearly the same where that is large."""
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
