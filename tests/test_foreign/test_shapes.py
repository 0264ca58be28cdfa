"""Shapes of content: what is refused, and in which words."""

import math

import pytest

from kdsr.foreign import find_fault, parse_json
from kdsr.foreign.shapes import Fields, FixedList, Instance, ListOf, MapOf, Maybe, Number, Plain, Text, whole

CASES = [
    (Text(), 3, 'the content must be a text, is 3'),
    (Text(r'a+'), 'ab', "the content must be a text like 'a+', is 'ab'"),
    (whole(), True, 'the content must be a whole number, is True'),
    (whole(), 1.0, 'the content must be a whole number, is 1.0'),
    (whole(1, 16), 17, 'the content must be a whole number from 1 to 16, is 17'),
    (Number(), math.nan, 'the content must be a number from'),
    (Number(0), -1, 'the content must be a number from 0'),
    (Number(), '1', "the content must be a number, is '1'"),
    (Instance((dict,)), [], 'the content must be a dict, is a list'),
    (Maybe(Text()), 1, 'the content must be a text, is 1'),
    (ListOf(whole()), [1, 'x'], "[1] must be a whole number, is 'x'"),
    (ListOf(whole()), {}, 'the content must be a list, is a dict'),
    (FixedList((int, str)), [1], 'the content must be a list of whole number, text, is a list'),
    (FixedList((int, str)), [True, 'x'], 'the content must be a list of whole number, text, is a list'),
    (FixedList((int, str)), [-(2**60), 'x'], 'must hold numbers from'),
    (FixedList((int,), least=1), [0], 'must hold numbers from 1 to'),
    (FixedList((str, float)), ['x', 1], 'the content must be a list of text, number, is a list'),
    (FixedList((str,), optional=(int, int)), ['x', 1], 'the content must be a list of text, is a list'),
    (ListOf(whole(), least=2), [1], 'the content must have at least 2 items, has 1'),
    (MapOf(whole()), {'a': 'x'}, "a must be a whole number, is 'x'"),
    (MapOf(whole()), {1: 1}, "a key must be a text, is '1'"),
    (Fields({'a': Text()}), {}, 'a is missing'),
    (Fields({'a': Fields({'b': whole()})}), {'a': {'b': None}}, 'a.b must be a whole number, is None'),
    (Fields({}, {'a': Text()}), {'a': 1}, 'a must be a text'),
    (Fields({}), [], 'the content must be a mapping'),
    (Plain(), {'a': [object()]}, '.a[0] must be a plain value, is a object'),
    (Plain(), {'a': 2**64}, '.a: the number is too large'),
    (Plain(), {None: 1}, 'must be a plain value'),
]


@pytest.mark.parametrize(('shape', 'value', 'words'), CASES, ids=range(len(CASES)))
def test_what_does_not_have_the_shape_is_refused_with_its_place(shape, value, words):
    assert words in find_fault(value, shape)


@pytest.mark.parametrize(
    ('shape', 'value'),
    [
        (Text('a+'), 'aa'), (whole(), 0), (Number(), 0.5), (Maybe(Text()), None), (ListOf(whole()), (1, 2)),
        (FixedList((int, str)), [0, '']), (FixedList((str,), optional=(float,)), ['', 0.5]),
        (ListOf(Text(), least=1), ['']),
        (MapOf(Text()), {}), (Fields({'a': Text()}), {'a': '', 'other': object()}),
        (Plain(), {'a': [1, None, True, 'x', 0.5, {'b': ()}]}),
    ],
)  # fmt: skip
def test_what_has_the_shape_is_taken(shape, value):
    assert find_fault(value, shape) is None


def test_plain_values_are_not_nested_without_end():
    value = []
    value.append(value)
    assert 'nested too deeply' in find_fault(value, Plain())


@pytest.mark.parametrize('text', [b'{', b'\xff', b'[1]', '{"a": 1}', b'NaN'])
def test_json_of_another_shape_is_a_value_error(text):
    with pytest.raises(ValueError):
        parse_json(text, Fields({'a': Text()}))


def test_long_values_are_short_in_messages():
    assert len(find_fault('x' * 10**5, whole())) < 150
