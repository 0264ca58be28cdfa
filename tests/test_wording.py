"""Grammar of messages."""

import pytest

from kdsr.wording import counted, with_article


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
