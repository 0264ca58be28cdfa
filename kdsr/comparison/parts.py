"""The parts of a comparison's report: tables and pictures, written as Markdown and as HTML."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Union

DASH = '\u2013'  # stands where there is no value


@dataclass(frozen=True)
class Table:
    """A table of the report.

    Attributes:
        title: The heading above it; empty for none.
        text: How to read it; empty for none.
        head: Names of the columns; all empty where the first column names the rows.
        rows: The cells.
    """

    title: str
    text: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class ReportPicture:
    """A picture of the report.

    Attributes:
        title: The heading above it.
        file: Name of the file, beside the report.
        text: How to read it; empty for none.
    """

    title: str
    file: str
    text: str = ''


Part = Union[Table, ReportPicture, str]  # a text is a paragraph of its own
