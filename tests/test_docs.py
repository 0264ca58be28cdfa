"""What the documents say is true: code in them runs, links lead somewhere, generated pages are current."""

import json
import re
from pathlib import Path

import pytest
import torch
import yaml
from basicsr.utils.registry import LOSS_REGISTRY

from kdsr import options
from kdsr.options import merge
from tests.conftest import network_opt

ROOT = Path(__file__).parents[1]
PAGES = [p for p in ROOT.rglob('*.md') if not {'.venv', 'experiments', 'results'} & set(p.relative_to(ROOT).parts)]


@pytest.mark.parametrize('page', PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    for target in re.findall(r'\]\(([^)#\s]+)', page.read_text()):
        if not target.startswith('http'):
            assert (page.parent / target).exists(), f'{page.name} links to {target}'


def anchors(page):
    """The names of a page's headings, as GitHub makes them."""
    text = re.sub(r'```.*?```', '', page.read_text(), flags=re.DOTALL)
    titles = re.findall(r'^#+ (.*)$', text, flags=re.MULTILINE)
    return {re.sub(r'[^\w -]', '', title.lower()).replace(' ', '-') for title in titles}


@pytest.mark.parametrize('page', PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_into_a_page_name_one_of_its_headings(page):
    for target, anchor in re.findall(r'\]\(([^)#\s]*\.md|)#([^)\s]+)\)', page.read_text()):
        assert anchor in anchors(page.parent / target if target else page), f'{page.name} links to {target}#{anchor}'


@pytest.mark.parametrize('page', PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_option_files_that_are_named_exist(page):
    for name in re.findall(r'\boptions/[\w/{},*.]+\.yml', page.read_text()):
        pattern = re.sub(r'\{[^}]*\}', '*', name)
        assert list(ROOT.glob(pattern)), f'{page.name} names {name}'


def test_the_option_table_is_current():
    assert (ROOT / 'docs/options.md').read_text() == options.document(), 'run `make docs`'
    assert json.loads((ROOT / 'docs/options.schema.json').read_text()) == options.schema(), 'run `make docs`'


def blocks(page, language):
    return re.findall(rf'```{language}\n(.*?)```', (ROOT / page).read_text(), flags=re.DOTALL)


@pytest.fixture
def example_of_a_method():
    """What the page's loss file defines, registered until the test is over."""
    defined = {}
    exec(blocks('docs/add_a_method.md', 'python')[0], defined)
    yield defined
    del LOSS_REGISTRY._obj_map['SimilarityLoss']


def test_the_example_of_a_new_method_trains(workspace, example_of_a_method):
    example = yaml.load(blocks('docs/add_a_method.md', 'yaml')[0], Loader=options.SafeLoader)
    example['distillation']['teachers'] = [workspace.teacher('EDSR')]
    example['distillation']['features'] = {'early': {'student': 'body.0', 'teacher': 'body.1'}}
    assert (ROOT / 'options/comparisons/mtkd' / example.pop('base')).exists()
    folder = workspace.train(merge(workspace.options(network_g=network_opt('EDSR')), example))
    assert 'l_sp: ' in next(folder.glob('train_*.log')).read_text()


def test_the_example_of_a_new_method_passes_its_own_tests(example_of_a_method):
    exec(blocks('docs/add_a_method.md', 'python')[1], example_of_a_method)
    torch.manual_seed(0)
    for name in ('test_value_and_gradient', 'test_what_every_loss_owes'):
        example_of_a_method[name]()


def test_the_example_of_views_trains(workspace):
    block = next(yaml.safe_load(b) for b in blocks('docs/methods/dukd.md', 'yaml') if 'views:' in b)
    opt = workspace.options(model_type='DistillationModel')
    opt['distillation'] = {**block['distillation'], 'teachers': [workspace.teacher('EDSR')]}
    log = next(workspace.train(opt).glob('train_*.log')).read_text()
    assert all(f'{term}: ' in log for term in ('l_kd_zoom_in', 'l_kd_zoom_out', 'l_pix_zoom_out'))


def test_the_readmes_block_is_a_correct_one():
    block = next(yaml.safe_load(re.sub(r', \.\.\.', '', b)) for b in blocks('README.md', 'yaml') if 'losses:' in b)
    options.check(block)


def test_the_readme_shows_a_real_quickstart():
    text = (ROOT / 'README.md').read_text()
    shown = re.search(r'<!-- quickstart -->(.*?)<!-- /quickstart -->', text, flags=re.DOTALL)[1]
    found = re.findall(r'^\| ([a-z ]+) \|.*\| ([\d.]+) \|$', shown, re.MULTILINE)
    rows = {name: float(mean) for name, mean in found}
    assert next(iter(rows)) == 'bicubic'
    gain = rows['student distilled'] - rows['student alone']
    told = float(re.search(r'Distilled minus alone: ([+-][\d.]+) dB', shown)[1])
    assert told == pytest.approx(gain, abs=0.011)  # rows are rounded
    assert min(rows['student alone'], rows['student distilled']) > rows['bicubic'] + 0.5
