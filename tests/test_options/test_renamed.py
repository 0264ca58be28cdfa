"""Old names of options keep working, with a warning that names the new one."""

import pytest
import yaml

from kdsr import options
from kdsr.authoring.option_check import check_option_files
from kdsr.errors import UserError
from kdsr.options import renamed
from kdsr.options.renamed import Renamed, describe_renamed

ROWS = (
    Renamed('iterations', 'total_iter', section='train'),
    Renamed('tutors', 'teachers', section='distillation'),
    Renamed('weights', 'path', section='distillation.teachers.*'),
    Renamed('strength', 'alpha1', of_type='LSFDLoss'),
)


@pytest.fixture(autouse=True)
def _renamed(monkeypatch):
    monkeypatch.setattr(renamed, 'RENAMED', ROWS)


def write(path, opt):
    path.write_text(yaml.safe_dump(opt, sort_keys=False))
    return str(path)


def warnings_of(file):
    return [str(p) for p in file.problems if p.kind == options.WARNING]


def test_an_old_name_is_read_as_the_new_one_and_warned_of_with_its_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    opt = {
        'train': {'iterations': 10},
        'distillation': {
            'tutors': [{'name': 'a', 'weights': 'a.pth'}],
            'losses': {'l_a': {'type': 'LSFDLoss', 'strength': 3}, 'l_b': {'type': 'FACDLoss', 'strength': 4}},
        },
        'iterations': 5,
    }
    file = options.read(write(tmp_path / 'a.yml', opt))
    assert file.opt['train'] == {'total_iter': 10}
    block = file.opt['distillation']
    assert block['teachers'] == [{'name': 'a', 'path': 'a.pth'}]
    assert block['losses'] == {'l_a': {'type': 'LSFDLoss', 'alpha1': 3}, 'l_b': {'type': 'FACDLoss', 'strength': 4}}
    assert file.opt['iterations'] == 5, 'the row is about another section'
    found = warnings_of(file)
    text = 'is now called `{}`. The old name still works; please change it.'
    assert found == [
        f'a.yml:2: train.iterations: {text.format("total_iter")}',
        f'a.yml:4: distillation.tutors: {text.format("teachers")}',
        f'a.yml:6: distillation.teachers[0].weights: {text.format("path")}',
        f'a.yml:10: distillation.losses.l_a.strength: {text.format("alpha1")}',
    ]
    assert str(file.find_place(('distillation', 'teachers', 0, 'path'))) == 'a.yml:6'
    assert options.load('a.yml') == file.opt, 'a warning is no error'


def test_a_variant_may_use_an_old_name_for_an_option_of_its_base(tmp_path):
    base = {'train': {'total_iter': 10}, 'distillation': {'losses': {'l_a': {'type': 'LSFDLoss', 'alpha1': 1}}}}
    write(tmp_path / 'base.yml', base)
    variant = {
        'base': 'base.yml', 'train': {'iterations': 20}, 'distillation': {'losses': {'l_a': {'strength': 2}}},
    }  # fmt: skip
    opt = options.load(write(tmp_path / 'variant.yml', variant))
    assert opt['train'] == {'total_iter': 20}
    assert opt['distillation']['losses'] == {'l_a': {'type': 'LSFDLoss', 'alpha1': 2}}


def test_both_names_at_once_are_a_mistake(tmp_path):
    path = write(tmp_path / 'a.yml', {'train': {'total_iter': 1, 'iterations': 2}})
    with pytest.raises(UserError, match=r'train\.iterations: is the old name of `total_iter`, which'):
        options.load(path)


def test_overrides_may_use_old_names(tmp_path):
    opt = {'train': {'total_iter': 1}, 'distillation': {'teachers': [{'name': 'a', 'path': 'a.pth'}]}}
    path = write(tmp_path / 'a.yml', opt)
    file = options.read(path, ['train:iterations=7', 'distillation:tutors:0:weights=b.pth', 'train:ema_decay=0'])
    assert file.opt['train'] == {'total_iter': 7, 'ema_decay': 0}
    assert file.opt['distillation']['teachers'] == [{'name': 'a', 'path': 'b.pth'}]
    assert [w.split(' is now')[0] for w in warnings_of(file)] == [
        '--force_yml: train.iterations:',
        '--force_yml: distillation.teachers[0].weights:',
    ]


def test_kdsr_check_shows_the_warning_and_a_run_starts(workspace):
    opt = workspace.options()
    opt['train']['iterations'] = opt['train'].pop('total_iter')
    report, fine = check_option_files([workspace.write(opt)])
    assert fine
    assert 'train.iterations: is now called `total_iter`' in report
    assert '1 file is fine' in report
    assert (workspace.train('run.yml') / 'models' / 'net_g_2.pth').exists()


def test_the_page_of_options_lists_old_names(monkeypatch):
    lines = '\n'.join(describe_renamed())
    assert '| `tutors` | `teachers` | `distillation` |' in lines
    assert '| `strength` | `alpha1` | `type: LSFDLoss` |' in lines
    monkeypatch.setattr(renamed, 'RENAMED', ())
    assert describe_renamed() == []
