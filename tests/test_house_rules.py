"""How the tests themselves are built."""

import ast
import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
ROOT = TESTS.parent
FILES = sorted(TESTS.rglob('*.py'))
by_file = pytest.mark.parametrize('path', FILES, ids=lambda p: str(p.relative_to(TESTS)))


@by_file
def test_test_modules_are_not_libraries_for_each_other(path):
    """What two modules share stands in tests/helpers, tests/references or conftest."""
    imported = [n.module for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.ImportFrom)]
    libraries = ('tests.helpers', 'tests.references', 'tests.conftest')
    assert all(name.startswith(libraries) for name in filter(None, imported) if name.startswith('tests'))


@by_file
def test_documents_that_a_test_cites_are_in_the_repository(path):
    """A word in capitals with `.md`, or at the start of a docstring before a section number, is taken to be one."""
    text = path.read_text()
    cited = set(re.findall(r'\b([A-Z]{5,})\.md\b|"""([A-Z]{5,}) \d+\.\d+', text))
    assert all((ROOT / f'{a or b}.md').is_file() for a, b in cited), cited
