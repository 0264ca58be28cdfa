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
from kdsr.options import bounds

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
    'a0: &a0 [x, x]\n' + ''.join(f'a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n' for i in range(1, 15)),
])  # fmt: skip
def test_files_that_stand_for_endless_values_are_refused(workspace, text):
    Path('bomb.yml').write_text(text)
    with pytest.raises(UserError, match='too many values'):
        options.load('bomb.yml')


MERGES = 'a0: &a0 {k0: 1}\n' + ''.join(f'a{i}: &a{i} {{<<: [*a{i - 1}, *a{i - 1}], k{i}: 1}}\n' for i in range(1, 7))
CHAIN = 'a0: &a0 [x]\n' + ''.join(f'a{i}: &a{i} [*a{i - 1}]\n' for i in range(1, 9))
BOUNDED = {
    'merges of merges': ('MOST_VALUES', 100, MERGES, 'too many values'),
    'many values': ('MOST_VALUES', 20, f'a: [{", ".join("1" for _ in range(50))}]\n', 'too many values'),
    'many keys': ('MOST_VALUES', 20, ''.join(f'k{i}: 1\n' for i in range(50)), 'too many values'),
    'nested lists': ('DEEPEST', 5, f'a: {"[" * 8}{"]" * 8}\n', 'nested too deeply'),
    'nested blocks': ('DEEPEST', 5, f'a:\n  {"- " * 8}1\n', 'nested too deeply'),
    'anchors in anchors': ('DEEPEST', 5, CHAIN, 'nested too deeply'),
    'a large file': ('LARGEST_FILE', 100, f'a: {"x" * 200}\n', 'more than 100 characters'),
}


@pytest.mark.parametrize(('bound', 'value', 'text', 'words'), BOUNDED.values(), ids=BOUNDED)
def test_files_are_bounded_before_their_values_are_built(workspace, monkeypatch, bound, value, text, words):
    """The real bounds are higher; the texts here are harmless."""
    Path('file.yml').write_text(text)
    options.read_yaml('file.yml')
    monkeypatch.setattr(bounds, bound, value)
    monkeypatch.setattr(options.positions, bound, value, raising=False)
    monkeypatch.setattr(options.safe_yaml, 'build_value', lambda node: pytest.fail('its values were built'))
    with pytest.raises(UserError, match=words):
        options.read_yaml('file.yml')
    if bound != 'LARGEST_FILE':
        with pytest.raises(UserError, match=words):
            options.parse_value(text)


@pytest.mark.parametrize(('text', 'words'), [
    (f'a: 1{"0" * 30}', 'file.yml:1: not valid YAML: the number 10000000000000000000... is too large'),
    (f'a: {"7" * 5000}', 'is too large; write it in quotes'),
    ('a: -9223372036854775809', 'is too large'),
    ('~: 1', 'file.yml:1: not valid YAML: a key must be a word'),
    ('a: {null: 1}', 'a key must be a word'),
    ('? [a, b]\n: 1', 'a key must be a word'),
    ('a: !!set {b, c}', 'an option cannot be a set'),
    ('a: !!binary aGk=', 'an option cannot be a binary'),
    ('a: !!timestamp 2026-01-31', 'an option cannot be a timestamp'),
    ('a: !!int ""', 'a tag does not fit its value'),
    ('a: !!float ""', 'a tag does not fit its value'),
    ('a: !!bool perhaps', 'a tag does not fit its value'),
    ('a: !unknown 1', 'could not determine a constructor'),
    ('a: 1\n---\nb: 1', 'expected a single document'),
])  # fmt: skip
def test_keys_and_values_that_options_cannot_have_are_refused_with_their_line(workspace, text, words):
    Path('file.yml').write_text(text)
    with pytest.raises(UserError) as refused:
        options.read_yaml('file.yml')
    assert words in str(refused.value)


def test_values_that_look_odd_and_are_none_of_these_are_taken(workspace):
    Path('file.yml').write_text('\ufeffa: 2026-01-31\nb: 9223372036854775807\n3: x\ntrue: y\nd: 0x10\n')
    read = options.read_yaml('file.yml')
    assert read == {'a': '2026-01-31', 'b': 2**63 - 1, 3: 'x', True: 'y', 'd': 16}
    assert yaml.load(options.dump(read), options.SafeLoader) == read


def test_the_bounds_leave_room_for_every_file_that_comes_with_kdsr():
    folder = Path(__file__).parents[2] / 'options'
    most = max((path.read_text().count('\n') for path in folder.rglob('*.yml')), default=0)
    assert 0 < most < bounds.MOST_VALUES / 20
    for path in folder.rglob('*.yml'):
        options.read_yaml(str(path))


def test_a_chain_of_bases_is_bounded(workspace):
    for i in range(60):
        Path(f'{i}.yml').write_text(f'base: {i + 1}.yml\n')
    Path('60.yml').write_text('name: x\n')
    with pytest.raises(UserError, match='more than 50 files are based on each other'):
        options.load('0.yml')
