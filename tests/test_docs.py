"""What the documents say is true: code in them runs, links lead somewhere, generated pages are current."""

import json
import re
from pathlib import Path

import pytest
import yaml

from kdsr import options

ROOT = Path(__file__).parents[1]
PAGES = [p for p in ROOT.rglob('*.md') if not {'.venv', 'experiments', 'results'} & set(p.relative_to(ROOT).parts)]


def text_of(page):
    """A page without its code blocks."""
    return re.sub(r'```.*?```', '', page.read_text(), flags=re.DOTALL)


@pytest.mark.parametrize('page', PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    for target in re.findall(r'\]\(([^)#\s]+)', text_of(page)):
        if not target.startswith('http'):
            assert (page.parent / target).exists(), f'{page.name} links to {target}'


def anchors(page):
    """The names of a page's headings, as GitHub makes them."""
    titles = re.findall(r'^#+ (.*)$', text_of(page), flags=re.MULTILINE)
    return {re.sub(r'[^\w -]', '', title.lower()).replace(' ', '-') for title in titles}


@pytest.mark.parametrize('page', PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_into_a_page_name_one_of_its_headings(page):
    for target, anchor in re.findall(r'\]\(([^)#\s]*\.md|)#([^)\s]+)\)', text_of(page)):
        assert anchor in anchors(page.parent / target if target else page), f'{page.name} links to {target}#{anchor}'


@pytest.mark.parametrize('page', PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_option_files_that_are_named_exist(page):
    for name in re.findall(r'\boptions/[\w/{},*.]+\.yml', page.read_text()):
        pattern = re.sub(r'\{[^}]*\}', '*', name)
        assert list(ROOT.glob(pattern)), f'{page.name} names {name}'


def test_the_option_table_is_current():
    assert (ROOT / 'docs/options.md').read_text() == options.document(), 'run `make docs`'
    assert json.loads((ROOT / 'docs/options.schema.json').read_text()) == options.build_schema(), 'run `make docs`'


def blocks(page, language):
    return re.findall(rf'```{language}\n(.*?)```', (ROOT / page).read_text(), flags=re.DOTALL)


def test_the_example_of_views_trains(workspace):
    block = next(yaml.safe_load(b) for b in blocks('docs/methods/dukd.md', 'yaml') if 'views:' in b)
    opt = workspace.options(model_type='DistillationModel')
    opt['distillation'] = {**block['distillation'], 'teachers': [workspace.teacher('EDSR')]}
    log = next(workspace.train(opt).glob('train_*.log')).read_text()
    assert all(f'{term}: ' in log for term in ('l_kd_zoom_in', 'l_kd_zoom_out', 'l_pix_zoom_out'))


def test_the_readmes_block_is_a_correct_one():
    block = next(yaml.safe_load(re.sub(r', \.\.\.', '', b)) for b in blocks('README.md', 'yaml') if 'losses:' in b)
    options.check(block)


def test_the_quickstart_page_shows_a_real_table():
    text = (ROOT / 'docs/quickstart.md').read_text()
    shown = re.search(r'<!-- quickstart -->(.*?)<!-- /quickstart -->', text, flags=re.DOTALL)[1]
    found = re.findall(r'^\| ([a-z ]+) \|.*\| ([\d.]+) \|$', shown, re.MULTILINE)
    rows = {name: float(mean) for name, mean in found}
    assert next(iter(rows)) == 'bicubic'
    gain = rows['student distilled'] - rows['student alone']
    stated = float(re.search(r'Distilled minus alone: ([+-][\d.]+) dB', shown)[1])
    assert stated == pytest.approx(gain, abs=0.011)  # rows are rounded
    assert min(rows['student alone'], rows['student distilled']) > rows['bicubic'] + 0.5


def test_the_readme_states_the_numbers_of_the_study():
    readme = (ROOT / 'README.md').read_text()
    study = (ROOT / 'benchmarks/results/headline/report.md').read_text()
    numbers = re.findall(r'\b\d\d\.\d{3}\b', readme)
    assert len(numbers) == 3
    assert all(number in study for number in numbers)
