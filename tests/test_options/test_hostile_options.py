"""Option files and command lines from anyone: nothing in them is executed."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from basicsr.test import test_pipeline as basicsr_test
from basicsr.train import train_pipeline as basicsr_train
from basicsr.utils import options as basicsr_options

from kdsr import options
from kdsr.authoring.option_check import check_option_files
from kdsr.comparison.plan import read_comparison
from kdsr.errors import UserError

TAGS = [
    '!!python/object/apply:os.system ["touch pwned"]',
    '!!python/object/new:subprocess.Popen [["touch", "pwned"]]',
    "!!python/object/apply:builtins.eval [\"open('pwned', 'w')\"]",
    '!!python/name:os.system',
    '!!python/module:os',
]
CODE = '__import__("os").system("touch pwned")'
WORDS = [
    f'train:total_iter=[{CODE}]',  # BasicSR evaluates what begins with a bracket
    f'x"];{CODE};opt["y=1',  # and executes the keys
    f'train:{CODE}=1',
    'name=!!python/object/apply:os.system ["touch pwned"]',
]


@pytest.mark.parametrize('tag', TAGS)
@pytest.mark.parametrize(
    'read', [options.load, options.read_yaml, read_comparison, lambda path: check_option_files([path])[0]]
)
def test_python_objects_are_refused_by_every_reader(workspace, tag, read):
    Path('bad.yml').write_text(f'name: a\nx: {tag}\n')
    try:
        report = read('bad.yml')
    except UserError as error:
        report = str(error)
    assert 'bad.yml:2: Python objects are not allowed' in report
    assert not Path('pwned').exists()


@pytest.mark.parametrize('flag', ['--force_yml', '--force_y', '--force'])
@pytest.mark.parametrize('word', WORDS)
@pytest.mark.parametrize('parse', [basicsr_options.parse_options, basicsr_options.parse_options.__wrapped__])
def test_words_of_the_command_line_are_not_executed(workspace, monkeypatch, flag, word, parse):
    path = workspace.write(workspace.options())
    monkeypatch.setattr(sys, 'argv', ['train.py', '-opt', path, flag, word])
    with pytest.raises((UserError, ValueError, SystemExit)):  # Python 3.11 refuses --force: two spellings begin so
        parse(str(workspace.root))
    assert not Path('pwned').exists()


def test_basicsr_itself_would_execute_both(tmp_path):
    """The tests above can fail: this is what they guard against."""
    (tmp_path / 'bad.yml').write_text(f'name: {TAGS[0]}\n')
    code = (
        'import sys; sys.argv = ["x", "-opt", "bad.yml"]\n'
        'import yaml; from yaml import Loader\n'
        'yaml.load(open("bad.yml"), Loader=yaml.UnsafeLoader)'
    )
    subprocess.run([sys.executable, '-c', code], cwd=tmp_path, check=True)
    assert (tmp_path / 'pwned').exists()


def test_basicsrs_own_loader_is_safe_once_kdsr_is_imported(tmp_path):
    with pytest.raises(yaml.YAMLError):
        yaml.load(TAGS[0], Loader=basicsr_options.ordered_yaml()[0])
    with pytest.raises(UserError, match='is not executed'):
        basicsr_options._postprocess_yml_value('[1]')


@pytest.mark.parametrize('pipeline', [basicsr_train, basicsr_test])
def test_both_pipelines_refuse_a_hostile_file(workspace, pipeline):
    Path('bad.yml').write_text(f'name: a\nx: {TAGS[0]}\n')
    with pytest.raises(UserError, match=r'bad\.yml:2: Python objects are not allowed'):
        workspace._run(pipeline, 'bad.yml', ())
    assert not Path('pwned').exists()


@pytest.mark.parametrize('text', [
    'a: &a [*a]\n',
    'a: &a {b: *a}\n',
    'a0: &a0 [x, x]\n' + ''.join(f'a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n' for i in range(1, 40)),
])  # fmt: skip
def test_files_that_stand_for_endless_values_are_refused(workspace, text):
    Path('bomb.yml').write_text(text)
    with pytest.raises(UserError, match='too many values'):
        options.load('bomb.yml')
