"""Every method has a page, every page its parts, and what is generated in it is current."""

import inspect
import re
from pathlib import Path

import pytest
import yaml
from basicsr.utils.registry import LOSS_REGISTRY

from kdsr import options
from kdsr.authoring import distil
from kdsr.checks.experiment import find_problems
from kdsr.errors import UserError
from kdsr.losses import csd_loss
from kdsr.methods import METHODS
from kdsr.methods.documents import _replace_parts, make_documents

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / 'docs' / 'methods'
PARTS = (
    r'^# .+: .+$', '<!-- paper -->', r'!\[.+\]\({name}\.svg\)', '^## Equations$', '```math', '^## Options$', '```yaml',
    '<!-- options -->', '^## Option files$', '<!-- files -->', '^## Results$', '<!-- results -->', '^## Traps$',
)  # fmt: skip
by_name = pytest.mark.parametrize('method', METHODS, ids=lambda method: method.name)


def blocks(method):
    page = (FOLDER / f'{method.name}.md').read_text()
    return [yaml.load(b, options.SafeLoader) for b in re.findall(r'```yaml\n(.*?)```', page, flags=re.DOTALL)]


def test_what_is_generated_is_current():
    stale = [str(page) for page, text in make_documents(ROOT).items() if page.read_text() != text]
    assert not stale, 'run `make docs`'


def test_every_page_is_of_a_method_and_every_loss_is_on_a_page():
    assert {page.stem for page in FOLDER.glob('*.md')} == {method.name for method in METHODS}
    ours = {name for name, cls in LOSS_REGISTRY if inspect.getmodule(cls).__name__.startswith('kdsr.losses.')}
    assert ours == {name for method in METHODS for name in method.classes if name in LOSS_REGISTRY}


@by_name
def test_a_page_has_all_parts_in_order(method):
    page, at = (FOLDER / f'{method.name}.md').read_text(), 0
    for part in PARTS:
        found = re.compile(part.format(name=method.name), flags=re.MULTILINE).search(page, at)
        assert found, f'{part} is missing or not in its place'
        at = found.end()
    assert 1 <= len(re.findall(r'^\* ', page[at:], flags=re.MULTILINE)) <= 3


@by_name
def test_the_files_to_start_from_are_correct(method, tmp_path, monkeypatch):
    monkeypatch.setattr(csd_loss, 'load_vgg19', lambda layers: pytest.fail('a check downloads nothing'))
    named = set()
    for i, block in enumerate(blocks(method)):
        path = tmp_path / f'{i}.yml'
        path.write_text(options.dump({**block, 'base': str(ROOT / block['base'])}))
        assert find_problems(options.read(str(path)), files=False) == []
        told = str(block)
        named |= {name for name in method.classes if f"'type': '{name}'" in told}
    assert named


@by_name
def test_they_have_the_losses_that_kdsr_distil_writes(method):
    if not method.word:
        assert method.name not in distil.RECIPES
        return
    last, wanted = blocks(method)[-1], distil.RECIPES[method.word]
    assert last['distillation']['losses'] == wanted.losses
    pixel = last.get('train', {'pixel_opt': {'loss_weight': 1.0}})['pixel_opt']
    assert (pixel and pixel['loss_weight']) == wanted.pixel


def test_every_word_of_kdsr_distil_is_of_a_method():
    assert {method.word for method in METHODS} - {''} == set(distil.RECIPES)


def test_a_page_without_its_comments_is_refused(tmp_path):
    page = tmp_path / 'page.md'
    page.write_text('a\n<!-- files -->\nold\n<!-- /files -->\nb\n')
    assert _replace_parts(page, {'files': r'new \1'}) == 'a\n<!-- files -->\nnew \\1\n<!-- /files -->\nb\n'
    with pytest.raises(UserError, match='<!-- results -->'):
        _replace_parts(page, {'results': 'new'})
