"""Every row that the papers print has its option files, and every table its comparison."""

import csv
from pathlib import Path

import pytest

from kdsr import check_option_files, options
from kdsr.options.positions import read_yaml
from kdsr.papers.results import FILE
from kdsr.papers.rows import paper_rows

OPTIONS = Path(__file__).parents[2] / 'options'
TRAINED = [row for row in paper_rows() if row.kind == 'trained']
OTHER_PAPERS = {'published', 'derived', 'bicubic'}


def name_of(row):
    return f'{row.paper}-{row.table}-{row.network}-{row.row}-x{row.scale}'


def test_every_printed_row_is_there_once():
    with FILE.open(encoding='utf-8', newline='') as file:
        lines = [line for line in csv.DictReader(file) if line['table'].isdigit()]
    printed = {(line['paper'], line['table'], line['network'], line['row'], int(line['scale'])) for line in lines}
    listed = [(row.paper, row.table, row.network, row.row, row.scale) for row in paper_rows()]
    assert len(printed) == 361
    assert set(listed) == printed
    assert len(listed) == len(printed)


@pytest.mark.parametrize('row', paper_rows(), ids=name_of)
def test_a_row_has_the_files_of_its_kind(row):
    files = {key for key, file in (('training', row.file), ('test', row.test)) if file}
    assert all((OPTIONS / file).is_file() for file in (row.file, row.test) if file)
    if row.kind == 'trained':
        assert 'training' in files
    elif row.kind == 'official':
        assert files == {'test'}
    else:
        assert row.kind in OTHER_PAPERS
        assert not files


def test_rows_without_files_are_those_of_other_papers():
    without = {(row.paper, row.table, row.row) for row in paper_rows() if row.kind in OTHER_PAPERS}
    assert {row for paper, table, row in without if paper in ('LSFD', 'FACD')} == {'FACD minus mean(other FD)'}
    assert {row for paper, table, row in without if paper == 'MTKD'} == {'CrossKD'}
    assert not [row for _, _, row in without if 'Ours' in row or '*' in row or 'scratch' in row]


@pytest.mark.parametrize('row', [row for row in TRAINED if row.test], ids=name_of)
def test_the_test_file_tests_the_network_that_is_trained(row):
    trained, tested = (options.load(str(OPTIONS / file)) for file in (row.file, row.test))
    assert tested['network_g'] == trained['network_g']
    assert tested['scale'] == trained['scale'] == row.scale
    crops = {'GTmod12' in d['dataroot_gt'] for opt in (trained, tested) for d in opt['datasets'].values() if 'val' in d}
    assert len(crops) <= 1


@pytest.mark.parametrize('row', TRAINED, ids=name_of)
def test_the_row_stands_in_the_comparison_of_its_table(row):
    table = read_yaml(str(OPTIONS / 'tables' / f'{row.paper.lower()}_table{row.table}_x{row.scale}.yml'))
    bases = [run['base'] for run in table['runs'].values()]
    assert bases.count(f'../{row.file}') == 1


def test_the_comparisons_of_the_tables_are_fine():
    assert len(list((OPTIONS / 'tables').glob('*.yml'))) == len({(r.paper, r.table, r.scale) for r in TRAINED})
    text, fine = check_option_files([str(OPTIONS / 'tables' / '*.yml')], files=False)
    assert fine, text


@pytest.mark.parametrize('scale', [2, 3, 4])
@pytest.mark.parametrize('kind', ['rcan', 'edsr', 'san', 'swinir'])
def test_the_teachers_test_files_are_about_the_networks_that_teach(kind, scale):
    source = f'lsfd_san_x{scale}' if kind == 'san' else f'mtkd_aggregator_x{scale}'
    teachers = options.load(str(OPTIONS / f'{source}.yml'))['distillation']['teachers']
    teacher = next(teacher for teacher in teachers if teacher['name'] == kind)
    papers = {'san': [''], 'swinir': ['mtkd_']}.get(kind, ['', 'mtkd_'])
    for paper in papers:
        opt = options.load(str(OPTIONS / 'test' / f'{paper}teacher_{kind}_x{scale}.yml'))
        assert opt['network_g'] == teacher['network']
        assert opt['path']['pretrain_network_g'] == teacher['path']
        assert opt['path']['param_key_g'] == 'params'
        assert ('GTmod12' in opt['datasets']['test_1']['dataroot_gt']) == bool(paper)


def test_every_test_file_names_all_five_sets():
    for path in (OPTIONS / 'test').glob('*.yml'):
        sets = [dataset['name'] for dataset in options.load(str(path))['datasets'].values()]
        assert sets == ['Set5', 'Set14', 'BSD100', 'Urban100', 'Manga109'], path.name
