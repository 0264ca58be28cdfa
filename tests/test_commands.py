"""One grammar for all commands: an option has one name, one form and one meaning everywhere."""

import argparse
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from kdsr.authoring.distil import RECIPES
from kdsr.cli import command_page, command_parsers, main
from kdsr.commands.shared import OLD_SPELLINGS, SHARED, join_sizes
from kdsr.errors import UserError
from kdsr.methods import METHODS, show_method

ROOT = Path(__file__).parents[1]
PARSERS = command_parsers()
USES = [(command, option) for command, parser in PARSERS.items() for option in SHARED
        if option in parser._option_string_actions]  # fmt: skip


def action(command, option):
    return PARSERS[command]._option_string_actions[option]


def shown(command, option):
    return action(command, option).help is not argparse.SUPPRESS


def test_the_page_is_the_table_of_the_commands():
    assert (ROOT / 'docs/command_line.md').read_text() == command_page()
    assert all(f'`kdsr {command}`' in command_page() for command in PARSERS)


@pytest.mark.parametrize('option', SHARED)
def test_a_shared_option_has_the_same_spellings_everywhere(option):
    spellings = {tuple(action(command, o).option_strings) for command, o in USES if o == option and shown(command, o)}
    assert len(spellings) == 1
    assert len([command for command, o in USES if o == option]) >= 2


def test_no_command_has_another_name_for_what_is_shared():
    others = {'--output', '--dir', '--copy', '--image', '--jobs', '--threads', '--opt', '--iteration', '--gpu-id'}
    found = {(command, o) for command, parser in PARSERS.items() for o in parser._option_string_actions
             if o in others and shown(command, o)}  # fmt: skip
    assert found == set()


def test_the_device_is_chosen_by_kdsr_unless_the_user_does():
    devices = {command: action(command, '--device').default for command, option in USES if option == '--device'}
    assert devices == dict.fromkeys(('benchmark', 'complexity', 'attribution', 'diagnose', 'upscale'), 'auto')


def test_results_go_where_out_says_in_every_command_that_writes_what_the_user_names():
    writers = {command for command, option in USES if option == '--out'}
    assert writers == {
        'prepare', 'dead-leaves', 'convert', 'options', 'distil', 'compare', 'benchmark', 'complexity', 'diagnose',
        'attribution', 'pictures', 'export', 'upscale',
    }  # fmt: skip
    assert {str(action(command, '--out').metavar) for command in writers} <= {'DIR', 'FILE', 'DIR|FILE'}


@pytest.mark.parametrize('command', sorted({command for command, option in USES if option == '--force-yml'}))
def test_both_spellings_of_force_yml_are_one(command):
    assert action(command, '--force_yml') is action(command, '--force-yml')


@pytest.mark.parametrize(
    ('old', 'new'),
    [
        ('attribution a.yml --image x.png', 'attribution a.yml --images x.png'),
        ('dead-leaves leaves --count 2', 'dead-leaves --out leaves --count 2'),
        ('convert a.pth b.pth', 'convert a.pth --out b.pth'),
        ('diagnose a.yml --images 3', 'diagnose a.yml --count 3'),
        ('options x --copy here', 'options x --out here'),
        ('export a.pth --size 48 64', 'export a.pth --size 48x64'),
        ('export --size 48 64 a.pth', 'export a.pth --size 48x64'),
        ('complexity --output-size 720 1280', 'complexity --output-size 720x1280'),
        ('export a.pth --network {type: RFDN}', 'export a.pth --options {type: RFDN}'),
    ],
)
def test_older_spellings_mean_the_same(old, new, monkeypatch):
    seen = []
    for words in (old, new):
        command = words.split()[0]
        arguments = words.replace('{type: RFDN}', '{type:RFDN}').split()[1:]
        values = vars(PARSERS[command].parse_args(join_sizes(arguments)))
        renamed = {'folder': 'out', 'old_out': 'out', 'copy': 'out'}
        seen.append({renamed.get(k, k): v for k, v in values.items() if v is not None})
    assert seen[0] == seen[1]


def test_every_older_spelling_of_the_page_is_tested():
    tested = {'attribution', 'complexity', 'convert', 'dead-leaves', 'diagnose', 'options'}
    assert set(OLD_SPELLINGS) == tested


@pytest.mark.parametrize(
    ('words', 'size'),
    [(['--size', '48'], (48, 48)), (['--size', '48x64'], (48, 64)), (['--size', '48', '64'], (48, 64))],
)
def test_a_size_is_rows_and_columns(words, size):
    assert PARSERS['export'].parse_args(join_sizes(['a.pth', *words])).size == size


def test_a_size_that_cannot_be_is_refused(capsys):
    for command, words in (('export', ['a', '--size', 'large']), ('pictures', ['a', 'b', '--size', '48x64'])):
        with pytest.raises(SystemExit):
            PARSERS[command].parse_args(words)
    said = capsys.readouterr().err
    assert 'write 48, or 48x64 for 48 rows of 64 pixels' in said
    assert 'it must be a square' in said


def test_something_given_twice_or_not_at_all_is_refused():
    with pytest.raises(SystemExit, match=r'given twice: b\.pth and c\.pth'):
        main(['convert', 'a.pth', 'c.pth', '--out', 'b.pth'])
    with pytest.raises(SystemExit, match=r'--out\) is missing'):
        main(['dead-leaves', '--count', '1'])


def test_tables_are_written_in_the_format_of_their_name(workspace, capsys):
    network = '{type: EDSR, num_in_ch: 3, num_out_ch: 3, num_feat: 4, num_block: 1, upscale: 2}'
    main(['complexity', '--network', network, '--input-size', '8', '--output-size', '16',
          *['-o', 'a.csv', '--out', 'b.json', '--out', 'c.md', '--csv', 'd.txt']])  # fmt: skip
    assert (workspace.root / 'a.csv').read_text() == (workspace.root / 'd.txt').read_text()
    assert (workspace.root / 'a.csv').read_text().startswith('size,name,')
    assert list(json.loads((workspace.root / 'b.json').read_text())['sizes']) == ['8x8 input', '16x16 output']
    assert (workspace.root / 'c.md').read_text().strip() == capsys.readouterr().out.strip()
    with pytest.raises(SystemExit, match=r'must end in \.csv, \.json or \.md'):
        main(['complexity', '--network', network, '--out', 'a.xls'])


def test_methods_have_one_set_of_names(workspace):
    assert show_method('attention_transfer') == show_method('at') == show_method('AT')
    assert show_method('response') == show_method('kd')
    assert {method.word for method in METHODS if method.word} == set(RECIPES)


@pytest.fixture
def student(workspace):
    return workspace.write(workspace.options(), 'mine.yml')


@pytest.fixture
def teacher(workspace):
    return workspace.write({**workspace.options(), 'name': 'teacher'}, 'teacher.yml')


@pytest.mark.parametrize(('given', 'method'), [('attention_transfer', 'at'), ('Response', 'kd'), ('dukd', 'dukd')])
def test_distil_takes_every_name_of_a_method(workspace, student, teacher, given, method):
    main(['distil', student, '--teacher', teacher, '--method', given])
    written = yaml.safe_load((workspace.root / f'mine_{method}.yml').read_text())
    assert written['distillation']['losses'] == RECIPES[method].losses
    assert set(written['distillation'].get('views', ())) == ({'zoom_in', 'zoom_out'} if method == 'dukd' else set())


def test_a_method_without_teacher_is_refused_with_its_page(student, teacher):
    with pytest.raises(SystemExit, match=r'no file for rfdn: it is a network.*docs/methods/rfdn\.md'):
        main(['distil', student, '--teacher', teacher, '--method', 'rfdn'])


def test_distil_with_a_cache_names_it_and_how_to_make_it(workspace, student, teacher, capsys):
    main(['distil', student, '--teacher', teacher, '--cache'])
    said = capsys.readouterr().out.splitlines()
    written = workspace.root / 'mine_kd.yml'
    assert said[-2:] == [f'  kdsr cache {written}', f'  kdsr train {written}']
    assert yaml.safe_load(written.read_text())['distillation']['cache'] == 'datasets/cache/run_kd.raw'
    main(['distil', student, '--teacher', teacher, '--method', 'mtkd', '--cache', 'here.raw'])
    assert yaml.safe_load((workspace.root / 'mine_mtkd.yml').read_text())['distillation']['cache'] == 'here.raw'


def test_distil_refuses_a_cache_where_features_are_compared(student, teacher):
    with pytest.raises(SystemExit, match='features are never cached'):
        main(['distil', student, '--teacher', teacher, '--method', 'fitnet', '--cache'])


def test_benchmark_takes_the_sets_of_an_option_file(workspace, student, capsys):
    folder = workspace.train(student)
    network = str(folder / 'models' / 'net_g_latest.pth')
    main(['benchmark', 'bicubic', network, '--sets', student, '--out', 'scores', '--device', 'cpu'])
    table = capsys.readouterr().out
    assert 'photos (4)' in table
    assert 'bicubic' in table
    other = workspace.write({**workspace.options(), 'scale': 3}, 'other.yml')
    with pytest.raises(SystemExit, match=r'other\.yml: it is an experiment for x3, but the network is for x2'):
        main(['benchmark', network, '--sets', other, '--out', 'scores'])


def test_benchmark_takes_overrides_of_its_option_files(workspace, student, capsys):
    workspace.train(student)
    path = str(workspace.root / 'experiments/run/models/net_g_latest.pth')
    test = {key: value for key, value in workspace.options().items() if key != 'train'}
    test['datasets'] = {'test_1': test['datasets']['val']}
    file = workspace.write({**test, 'path': {'pretrain_network_g': 'nowhere.pth'}}, 'test.yml')
    main(['benchmark', file, '--force_yml', f'path:pretrain_network_g={path}', '--out', 'scores'])
    assert 'photos (4)' in capsys.readouterr().out


def test_images_may_be_folders(workspace):
    from kdsr.deployment.calibration import read_inputs
    from kdsr.inspection.attribution import _list_files

    (workspace.root / 'folder').mkdir()
    for name in ('b.png', 'a.png'):
        cv2.imwrite(str(workspace.root / 'folder' / name), np.zeros((8, 8, 3), np.uint8))
    assert _list_files(['folder', 'x.png']) == ['folder/a.png', 'folder/b.png', 'x.png']
    assert [name for name, _ in read_inputs('folder/b.png', False, 5)] == ['b.png']
    with pytest.raises(UserError, match='holds no images'):
        read_inputs('nowhere', False, 5)


def test_a_device_that_is_not_there_is_one_message():
    from kdsr.networks.devices import find_device

    with pytest.raises(UserError, match=r'--device cuda:77: PyTorch cannot use it .*Try auto, cpu or cuda'):
        find_device('cuda:77')
