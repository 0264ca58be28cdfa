"""Modules that are imported when something in them is first used."""

import sys

import pytest

from kdsr.compat.deferring import deferred


@pytest.fixture
def library(tmp_path, monkeypatch):
    """A package `heavy_library` with a module; both note their import."""
    package = tmp_path / 'heavy_library'
    package.mkdir()
    (package / '__init__.py').write_text('')
    (package / 'inner.py').write_text('OTHER = 3\ndef double(x):\n    return 2 * x\ndouble.kind = "function"\n')
    monkeypatch.syspath_prepend(str(tmp_path))
    yield {'heavy_library': '', 'heavy_library.inner': 'double'}
    for name in ('heavy_library', 'heavy_library.inner'):
        sys.modules.pop(name, None)


def test_the_function_imports_its_module_when_it_is_called(library):
    with deferred(library):
        from heavy_library.inner import double
    assert not [name for name in library if name in sys.modules]
    assert double(4) == 8
    assert sys.modules['heavy_library.inner'].double is not double


def test_an_attribute_of_the_function_imports_its_module_too(library):
    with deferred(library):
        from heavy_library.inner import double
    assert double.kind == 'function'


def test_anything_else_is_the_real_module_at_once(library):
    with deferred(library):
        from heavy_library.inner import OTHER

        assert sys.modules['heavy_library.inner'].double(1) == 2
    assert OTHER == 3
    assert sys.modules['heavy_library.inner'].OTHER == 3


def test_a_module_that_is_imported_already_is_left_alone(library):
    import heavy_library.inner

    with deferred(library):
        assert sys.modules['heavy_library.inner'] is heavy_library.inner
    assert sys.modules['heavy_library.inner'] is heavy_library.inner
