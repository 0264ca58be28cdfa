"""BasicSR's registries."""

import sys

import pytest
from basicsr.archs import build_network
from basicsr.utils.registry import ARCH_REGISTRY, Registry

from kdsr import plugins
from kdsr.archs.bsrn_arch import BSRN
from kdsr.errors import UserError


def test_the_registry_names_close_words_and_says_nothing_when_all_is_well(capsys):
    ARCH_REGISTRY.get('EDSR')
    with pytest.raises(UserError, match=r"no arch is called 'ESDR'.*Did you mean .*'EDSR'"):
        ARCH_REGISTRY.get('ESDR')
    assert capsys.readouterr().out == ''


REGISTERING = """
from basicsr.utils.registry import ARCH_REGISTRY
from torch import nn

@ARCH_REGISTRY.register()
class {name}(nn.Module):
    home = '{home}'
"""


@pytest.fixture
def packages(tmp_path, monkeypatch):
    """Write modules that register a class, as packages of other projects do."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, 'path', [str(tmp_path), *sys.path])
    monkeypatch.setattr(sys, 'modules', dict(sys.modules))
    monkeypatch.setattr(ARCH_REGISTRY, '_obj_map', dict(ARCH_REGISTRY._obj_map))

    def write(home, name):
        (tmp_path / f'{home}.py').write_text(REGISTERING.format(name=name, home=home))
        return home

    return write


def test_a_users_file_takes_the_name_of_a_network_of_kdsr(packages):
    """BSRN's own file ended with "An object named 'BSRN' was already registered"."""
    plugins.import_named([packages('bsrn_of_authors_arch', 'BSRN')])
    assert build_network({'type': 'BSRN'}).home == 'bsrn_of_authors_arch'
    assert ARCH_REGISTRY.get('BSRN_kdsr') is BSRN


def test_two_packages_may_register_one_name(packages):
    """HAT and DRCT both register SRVGGNetCompact."""
    plugins.import_named([packages('hat_like', 'OfBoth'), packages('drct_like', 'OfBoth')])
    assert build_network({'type': 'OfBoth'}).home == 'hat_like'
    assert build_network({'type': 'OfBoth_drct_like'}).home == 'drct_like'


def test_a_module_that_is_imported_again_replaces_itself(packages):
    home = packages('again_arch', 'OnceMore')
    plugins.import_named([home])
    first = ARCH_REGISTRY.get('OnceMore')
    del sys.modules[home]
    plugins.import_named([home])
    assert ARCH_REGISTRY.get('OnceMore') is not first
    assert [name for name, _ in ARCH_REGISTRY if name.startswith('OnceMore')] == ['OnceMore']


def test_kdsr_itself_registers_no_name_twice():
    registry, same = Registry('loss'), {'__module__': 'kdsr.losses.other_loss'}
    registry.register(type('MyLoss', (), {'__module__': 'kdsr.losses.my_loss'}))
    with pytest.raises(AssertionError, match=r"loss 'MyLoss' is registered twice"):
        registry.register(type('MyLoss', (), {**same, '__qualname__': 'Other.MyLoss'}))
