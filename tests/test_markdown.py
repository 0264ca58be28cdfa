"""Markdown tables: one row stays one row, and no text of a user becomes HTML."""

import re

from kdsr.markdown import escape_html, markdown_table


def test_a_table_with_empty_cells_and_numbers():
    assert markdown_table(['', 'PSNR'], [['alone', '30.12'], ['other', '']], numbers=[1]) == (
        '| | PSNR |\n|---|---:|\n| alone | 30.12 |\n| other | |'
    )


def test_bars_and_newlines_keep_a_row_in_one_row():
    table = markdown_table(['run', 'note'], [['a|b', 'first\nsecond'], [r'already \| escaped', 'x']])
    rows = table.split('\n')
    assert len(rows) == 4
    assert rows[2] == r'| a\|b | first second |'
    assert rows[3] == r'| already \| escaped | x |'
    assert [len(re.split(r'(?<!\\)\|', row)) for row in rows] == [4] * 4


def test_tags_and_comments_are_escaped_outside_code():
    assert escape_html('<img src=x onerror=alert(1)> </td> <!-- x --> a < b') == (
        '&lt;img src=x onerror=alert(1)> &lt;/td> &lt;!-- x --> a < b'
    )
    assert escape_html('`<option>` <b>') == '`<option>` &lt;b>'
