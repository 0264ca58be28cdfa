"""The generated parts of README.md, docs/methods.md, docs/methods/*.md and docs/zoo.md, between HTML comments."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from kdsr.deployment import zoo_listing
from kdsr.durable import write_durably
from kdsr.errors import UserError
from kdsr.markdown import markdown_table
from kdsr.methods.arguments import format_argument_table
from kdsr.methods.files import describe_networks, list_files, list_kinds_of_files
from kdsr.methods.results import format_measured_table, format_printed_table
from kdsr.methods.table import METHODS, Method


def make_documents(root: str | Path) -> dict[Path, str]:
    """Return the documents with generated parts, as they should be.

    Args:
        root: The folder of the checkout.

    Returns:
        File to its whole text.

    Raises:
        UserError: a page lacks the comments around a generated part.
    """
    root = Path(root)
    docs = root / 'docs'
    parts = {
        root / 'README.md': {'methods': _format_short_table()},
        docs / 'methods.md': {'methods': _format_long_table()},
        docs / 'zoo.md': {'zoo': zoo_listing.list_zoo()},
    }
    for method in METHODS:
        page = docs / 'methods' / f'{method.name}.md'
        parts[page] = {
            'paper': _format_reference(method),
            'options': format_argument_table(method.classes),
            'files': _format_files(method),
            'results': _format_results(method, root),
        }
    return {page: _replace_parts(page, of_page) for page, of_page in parts.items()}


def write_documents(root: str | Path) -> None:
    """Write the generated parts of the documents again, as `make docs` does.

    Args:
        root: The folder of the checkout.
    """
    for page, text in make_documents(root).items():
        write_durably(page, text.encode())


def _replace_parts(page: Path, parts: Mapping[str, str]) -> str:
    text = page.read_text(encoding='utf-8')
    for name, part in parts.items():
        start, end = f'<!-- {name} -->', f'<!-- /{name} -->'
        if text.count(start) != 1 or text.count(end) != 1:
            raise UserError(f'{page} needs {start} and {end} once each: `make docs` writes between them.')
        before, _, rest = text.partition(start)
        text = f'{before}{start}\n{part}\n{end}{rest.partition(end)[2]}'
    return text


def _format_short_table() -> str:
    """Return the table of README.md."""
    rows = []
    for method in METHODS:
        link = f'[{method.title}](docs/methods/{method.name}.md) ({method.source})'
        rows.append((link, method.compares, describe_networks(method)))
    return markdown_table(['method', 'what is compared with the teacher', 'networks with option files'], rows)


def _format_long_table() -> str:
    """Return the two tables of docs/methods.md: what the methods compare, and what they need."""
    compared, needed = [], []
    for m in METHODS:
        link = f'[{m.title}](methods/{m.name}.md)'
        compared.append((link, f'[{m.source}]({m.url})', m.compares, describe_networks(m)))
        needed.append((link, m.teachers, m.cache, m.trains, ', '.join(f'`{name}`' for name in m.classes)))
    first = ['method', 'paper', 'what is compared with the teacher', 'networks with option files']
    second = ['method', 'teachers', '`kdsr cache`', 'trained besides the student', 'in the YAML']
    return f'{markdown_table(first, compared)}\n\n{markdown_table(second, needed)}'


def _format_reference(method: Method) -> str:
    return f'{method.authors}: [*{method.paper}*]({method.url}), {method.venue}.'


def _format_files(method: Method) -> str:
    kinds = list_kinds_of_files(method)
    if not kinds:
        return 'None: no table of the papers has this method.'
    rows = [(kind, ', '.join(f'`{p}`' for p in patterns), str(len(list_files(patterns)))) for kind, patterns in kinds]
    return markdown_table(['', 'in `options/`', 'files'], rows)


def _format_results(method: Method, root: Path) -> str:
    paper, measured = format_printed_table(method), method.measured
    lines = ['**In the papers** (PSNR in dB, SSIM where it is printed, on luminance):', '', paper]
    if not paper:
        lines = ['**In the papers**: none of the tables that kdsr follows has this method.']
    if measured is None:
        return '\n'.join([*lines, '', '**Measured here**: nothing yet.'])
    anchor = re.sub(r'[^\w -]', '', measured.section.lower()).replace(' ', '-')
    text = f'**Measured here** (PSNR in dB; see [{measured.section}](../results.md#{anchor}) for the conditions):'
    return '\n'.join([*lines, '', text, '', format_measured_table(measured, root / 'benchmarks' / 'results')])
