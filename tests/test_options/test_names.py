"""Names that become folders: one rule, checked before anything is imported, built or written."""

import os
from pathlib import Path

import pytest
import yaml
from basicsr.test import test_pipeline as basicsr_test
from basicsr.train import train_pipeline as basicsr_train

from kdsr.authoring.option_check import check_option_files
from kdsr.comparison.plan import read_comparison
from kdsr.errors import UserError
from kdsr.options import clean_name, find_name_fault, load_experiment

WRONG = {
    '../elsewhere': "contain '/'",
    'a/b': "contain '/'",
    '/tmp/x': "contain '/'",
    'a\\b': 'contain',
    'a\0b': 'contain',
    'two\nlines': 'contain',
    '.': 'consist of dots',
    '..': 'consist of dots',
    ' ': 'be empty',
    'x' * 250: 'more than 200 bytes; it has 250',
    'é' * 120: 'more than 200 bytes; it has 240',
}
RIGHT = ['001_MSRResNet_x4_f64b16_DIV2K', 'lr=1e-4, seed 1 (second try)', 'été_写真', '.hidden', 7, 'x' * 200, 'a..b']


@pytest.mark.parametrize(('name', 'words'), WRONG.items(), ids=range(len(WRONG)))
def test_names_that_are_no_folder_are_refused_by_every_command_before_anything_is_written(workspace, name, words):
    (workspace.root / 'code.py').write_text("open('code_was_run', 'w')\n")
    (workspace.root / 'elsewhere').mkdir()
    opt = workspace.options(name=name, import_modules=['code'])
    path = workspace.write(opt)
    before = sorted(workspace.root.rglob('*'))
    with pytest.raises(UserError, match='becomes the name of a folder') as refused:
        workspace._run(basicsr_train, path, ())
    assert words in str(refused.value)
    with pytest.raises(UserError, match='becomes the name of a folder'):
        workspace._run(basicsr_test, path, ())
    with pytest.raises(UserError, match='becomes the name of a folder'):
        load_experiment(path)
    assert sorted(workspace.root.rglob('*')) == before
    report, right = check_option_files([path])
    assert not right
    assert words in report


def test_a_comparison_checks_the_whole_names_of_its_runs(workspace):
    opt = {key: value for key, value in workspace.options().items() if key not in ('name', 'manual_seed')}
    study = {'name': 'x' * 190, 'seeds': [0], 'baseline': 'alone', 'common': opt, 'runs': {'alone': {'title': 'A'}}}
    (workspace.root / 'study.yml').write_text(yaml.safe_dump(study))
    with pytest.raises(UserError, match=r'runs\.alone: name: .*more than 200 bytes; it has 202'):
        read_comparison('study.yml')


@pytest.mark.parametrize('name', RIGHT)
def test_names_that_are_folders_are_taken(name):
    assert find_name_fault(name) is None


def test_a_name_that_is_not_utf8_is_refused():
    assert 'not UTF-8' in find_name_fault('x\udcff')


@pytest.mark.parametrize('name', [True, None, ['a'], {'a': 1}, b'x'])
def test_what_is_no_text_is_no_name(name):
    assert 'must be a text' in find_name_fault(name)


def test_the_longest_name_leaves_room_for_what_is_appended(tmp_path):
    """BasicSR archives a folder as <name>_archived_<time>; kdsr writes .<name>.holder.<random> beside it."""
    name = 'x' * 200
    for longer in (
        f'{name}_archived_20260101_000000_2',
        f'.{name}.holder.{"0" * 16}',
        f'train_{name}_20260101_000000.log',
    ):
        (tmp_path / longer).touch()
        assert len(os.fsencode(longer)) <= 255


@pytest.mark.parametrize(('key', 'name'), [('suffix', '../../x'), ('sets', '../x')])
def test_names_of_sets_and_suffixes_of_images_lead_nowhere_else(workspace, key, name):
    opt = workspace.options()
    if key == 'suffix':
        opt['val']['suffix'] = name
    else:
        opt['datasets']['val']['name'] = name
    with pytest.raises(UserError, match="cannot contain '/'"):
        workspace.train(opt)


@pytest.mark.parametrize(
    ('text', 'name'),
    [('../../etc/x', 'x'), ('C:\\x\\y', 'y'), ('..', 'network'), ('', 'network'), ('a:b\n', 'a_b_'), ('.x', 'x'),
     ('\udcff', '_')],
)  # fmt: skip
def test_names_out_of_files_become_names_of_files(text, name):
    assert clean_name(text) == name


@pytest.mark.parametrize('text', ['é' * 300, '/' * 9, 'x' * 999, ' . ', '\0', *WRONG])
def test_a_cleaned_name_has_no_fault(text):
    assert find_name_fault(clean_name(text)) is None
    assert not clean_name(text).startswith('.')
    assert Path(clean_name(text)).name == clean_name(text)
