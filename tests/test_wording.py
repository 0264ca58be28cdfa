"""Grammar of messages."""

import ast
import re
from pathlib import Path

import pytest

from kdsr.wording import agree, counted, with_article


@pytest.mark.parametrize(
    ('arguments', 'expected'),
    [
        ((0, 'image'), '0 images'),
        ((1, 'image'), '1 image'),
        ((2, 'image'), '2 images'),
        ((1200, 'image'), '1,200 images'),
        ((1, 'entry', 'entries'), '1 entry'),
        ((3, 'entry', 'entries'), '3 entries'),
    ],
)
def test_counted_nouns(arguments, expected):
    assert counted(*arguments) == expected


@pytest.mark.parametrize(
    'expected',
    ['an IMDN', 'an RFDN', 'an EDSR', 'an FSRCNN', 'a VDSR', 'a CARN', 'a SAN', 'a SwinIR', 'an IDN', 'an OrderedDict',
     'a str', 'an int', 'an RCAN'],
)  # fmt: skip
def test_articles_follow_the_sound(expected):
    assert with_article(expected.split()[1]) == expected


def test_verbs_agree_with_numbers():
    assert [agree(count, 'is', 'are') for count in (0, 1, 2)] == ['are', 'is', 'are']


NOUNS = ('image', 'file', 'run', 'pair', 'sample', 'tensor', 'process', 'thread', 'network', 'seed', 'photo', 'teacher',
         'warning', 'error', 'feature', 'iteration', 'step', 'result')  # fmt: skip


def uncounted(path):
    """Yield texts such as `{len(files)} files` and `{n} file(s)`, whose grammar is wrong for one."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Constant) and re.search(rf'({"|".join(NOUNS)})\((s|es)\)', str(node.value)):
            yield node.value
        for before, after in zip(node.values, node.values[1:]) if isinstance(node, ast.JoinedStr) else ():
            value = before.value if isinstance(before, ast.FormattedValue) else None
            is_length = isinstance(value, ast.Call) and getattr(value.func, 'id', '') == 'len'
            if is_length and re.match(rf' ({"|".join(NOUNS)})s\b', str(getattr(after, 'value', ''))):
                yield ast.unparse(node)


@pytest.mark.parametrize('room', sorted(p.name for p in (Path(__file__).parents[1] / 'kdsr').iterdir()))
def test_numbers_have_their_nouns_from_one_helper(room):
    place = Path(__file__).parents[1] / 'kdsr' / room
    files = [place] if place.suffix == '.py' else place.rglob('*.py')
    assert {str(path): found for path in files for found in uncounted(path)} == {}
