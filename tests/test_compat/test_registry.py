"""BasicSR's registries."""

import pytest
from basicsr.utils.registry import ARCH_REGISTRY

from kdsr.errors import UserError


def test_the_registry_names_close_words_and_says_nothing_when_all_is_well(capsys):
    ARCH_REGISTRY.get('EDSR')
    with pytest.raises(UserError, match=r"no arch is called 'ESDR'.*Did you mean .*'EDSR'"):
        ARCH_REGISTRY.get('ESDR')
    assert capsys.readouterr().out == ''
