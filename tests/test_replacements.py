"""Nothing of BasicSR is replaced twice, and everything that is replaced is in the table."""

import sys

import basicsr.train
import pytest
from basicsr.models.base_model import BaseModel
from basicsr.utils import dist_util

from kdsr import replacements
from kdsr.replacements import IMPORTED, TABLE, find_owners


def name_of(owner):
    return f'{owner.__module__}.{owner.__name__}' if isinstance(owner, type) else owner.__name__


PLACES = [(name_of(owner), replacement.name) for replacement in TABLE for owner in find_owners(replacement)]


def is_ours(value):
    return (getattr(value, '__module__', None) or '').startswith('kdsr.')


def replaced_attributes():
    """Everything in BasicSR's modules and classes that comes from kdsr, apart from what its registries hold."""
    for module_name, module in sorted(sys.modules.items()):
        if module_name.split('.')[0] != 'basicsr' or module is None:
            continue
        for name, value in vars(module).items():
            if is_ours(value):
                yield module_name, name
            if isinstance(value, type) and value.__module__ == module_name:
                yield from ((f'{module_name}.{name}', n) for n, v in vars(value).items() if is_ours(v))


def test_every_replaced_attribute_is_in_the_table_and_the_table_is_true():
    assert set(PLACES) <= set(replaced_attributes()) <= {*PLACES, *IMPORTED}


@pytest.mark.parametrize('replacement', TABLE, ids=lambda r: r.name)
def test_a_function_is_replaced_once(replacement):
    assert find_owners(replacement)
    for owner in find_owners(replacement):
        assert getattr(owner, replacement.name) is replacement.by
    if isinstance(replacement.by, type):
        chain = [cls for cls in replacement.by.__mro__ if cls is not object]
    else:
        chain = [replacement.by]
        while hasattr(chain[-1], '__wrapped__'):
            chain.append(chain[-1].__wrapped__)
    assert [is_ours(link) for link in chain] == [True, *[False] * (len(chain) - 1)]
    assert replacement.why


def test_the_table_names_each_place_once():
    assert len(set(PLACES)) == len(PLACES)


def test_a_second_import_changes_nothing():
    before = (BaseModel.validation, basicsr.train.parse_options, dist_util.init_dist)
    replacements.install()
    assert before == (BaseModel.validation, basicsr.train.parse_options, dist_util.init_dist)
