import ast
import importlib
from pathlib import Path

import pytest
import yaml

import kdsr
from kdsr import options
from kdsr.errors import UserError
from kdsr.experiment import missing_files, read_experiment
from kdsr.options.safe_yaml import CHOOSE_NONE


def write(path, text):
    path.write_text(text)
    return str(path)


def test_numbers_in_scientific_notation_are_numbers(tmp_path):
    opt = options.load(write(tmp_path / 'a.yml', 'lr: 1e-4\nb: [1E-3, 2.5e+2, -3e5]\nc: e5\nd: "1e-4"\n'))
    assert opt['lr'] == 1e-4
    assert opt['b'] == [1e-3, 250.0, -3e5]
    assert opt['c'] == 'e5'
    assert opt['d'] == '1e-4'


def test_explicit_floats_of_basicsr_files_are_read(tmp_path):
    assert options.load(write(tmp_path / 'a.yml', 'lr: !!float 2e-4\n'))['lr'] == 2e-4


def test_python_tags_are_refused_and_not_run(tmp_path):
    text = f'a: !!python/object/apply:os.system ["touch {tmp_path}/pwned"]\n'
    with pytest.raises(UserError, match='python/object'):
        options.load(write(tmp_path / 'a.yml', text))
    assert not (tmp_path / 'pwned').exists()


def test_a_file_says_only_what_differs_from_its_base(tmp_path):
    (tmp_path / 'ablations').mkdir()
    write(tmp_path / 'a.yml', 'name: a\ntrain: {lr: 1, total_iter: 5}\nnet: {type: A, width: 3}\nlist: [1, 2]\n')
    write(tmp_path / 'ablations' / 'b.yml', 'base: ../a.yml\nname: b\ntrain: {lr: 2}\nlist: [3]\n')
    third = write(tmp_path / 'c.yml', 'base: ablations/b.yml\nnet: {type: B}\ntrain: {lr: ~}\n')
    opt = options.load(third)
    assert opt['name'] == 'b'
    assert opt['train'] == {'lr': None, 'total_iter': 5}
    assert opt['list'] == [3]
    assert opt['net'] == {'type': 'B'}  # another type: the old one's arguments are gone
    assert 'base' not in opt


def test_a_missing_or_circular_base_is_named(tmp_path):
    with pytest.raises(UserError, match=r'base: nowhere\.yml'):
        options.load(write(tmp_path / 'a.yml', 'base: nowhere.yml\n'))
    write(tmp_path / 'b.yml', 'base: c.yml\n')
    with pytest.raises(UserError, match='circle'):
        options.load(write(tmp_path / 'c.yml', 'base: b.yml\n'))


@pytest.mark.parametrize(('text', 'words'), [('a: [1', 'a.yml'), ('- 1\n', 'mapping'), ('', 'mapping')])
def test_what_is_no_option_file_is_named(tmp_path, text, words):
    with pytest.raises(UserError, match=words):
        options.load(write(tmp_path / 'a.yml', text))
    with pytest.raises(UserError, match='does not exist'):
        options.load(str(tmp_path / 'none.yml'))


def test_overrides_set_typed_values_also_in_lists_and_with_equals_signs(tmp_path):
    path = write(tmp_path / 'a.yml', 'train: {lr: 1, name: x}\nteachers: [{path: a}, {path: b}]\n')
    overrides = ['train:lr=5e-4', 'train:name=a=b', 'teachers:1:path=~', 'train:new=[1, 2]']
    opt = options.load(path, overrides)
    assert opt['train'] == {'lr': 5e-4, 'name': 'a=b', 'new': [1, 2]}
    assert opt['teachers'][1]['path'] is None


@pytest.mark.parametrize(('override', 'words'), [
    ('train:lr', 'key:key=value'),
    ('trian:lr=1', "no 'trian'.*'train'"),
    ('train:lr:deep=1', "'lr' has no 'deep'"),
    ('__import__("os").system("x")=1', None),
])  # fmt: skip
def test_wrong_overrides_are_reported_and_nothing_is_executed(tmp_path, override, words):
    path = write(tmp_path / 'a.yml', 'train: {lr: 1}\n')
    if words is None:
        assert '__import__("os").system("x")' in options.load(path, [override])
        return
    with pytest.raises(UserError, match=words):
        options.load(path, [override])


def test_all_missing_files_are_reported_at_once(tmp_path):
    (tmp_path / 'begun.lmdb.partial').mkdir()
    (tmp_path / 'empty.lmdb').mkdir()
    (tmp_path / 'there').mkdir()
    opt = {
        'datasets': {
            'train': {
                'dataroot_gt': f'{tmp_path}/begun.lmdb', 'dataroot_lq': f'{tmp_path}/empty.lmdb',
                'io_backend': {'type': 'lmdb'},
            },
            'val': {
                'dataroot_gt': f'{tmp_path}/there', 'dataroot_lq': f'{tmp_path}/gone', 'io_backend': {'type': 'disk'},
            },
            'val_2': {'dataroot_gt': 'elsewhere', 'io_backend': {'type': 'memcached'}},
        },
        'path': {'pretrain_network_g': 'student.pth'},
        'network_g': {'type': 'EDSR'},
        'distillation': {
            'teachers': [{'path': 'teacher.pth', 'network': {'type': 'EDSR'}}],
            'aggregator': {'path': 'aggregator.pth', 'network': {'type': 'DCTSwin'}},
        },
    }  # fmt: skip
    with pytest.raises(UserError) as error:
        missing_files.check_files(read_experiment(opt))
    report = str(error.value)
    assert report.count('\n  ') == 6
    for words in (
        'begun.lmdb (`kdsr prepare` has begun it', 'empty.lmdb/meta_info.txt', 'val.dataroot_lq', 'student.pth',
        'teachers[0].path: teacher.pth', 'aggregator.path: aggregator.pth', 'datasets/README.md',
    ):  # fmt: skip
        assert words in report
    resumed = read_experiment({**opt, 'datasets': {}, 'distillation': {}})
    assert list(missing_files.find_missing_files(resumed, auto_resume=True)) == []


def test_a_file_that_is_to_be_run_must_say_what(tmp_path):
    plain = 'name: 7\nmodel_type: SRModel\nnetwork_g: {type: EDSR}\ndatasets: {val: {type: X}}\n'
    assert options.load_experiment(write(tmp_path / 'a.yml', plain))['name'] == '7'  # no scale: as BasicSR allows
    with pytest.raises(UserError, match=r'missing: scale\.'):
        options.load_experiment(write(tmp_path / 'b.yml', f'{plain}distillation: {{teachers: []}}\n'))
    empty = write(tmp_path / 'c.yml', 'model_type: SRModel\ndatasets: {train: {type: PairedImageDataset}}\n')
    with pytest.raises(UserError, match=r'missing: name, network_g, datasets\.train\.gt_size'):
        options.load_experiment(empty)


def test_dump_reads_back_the_same(tmp_path):
    opt = options.load(write(tmp_path / 'a.yml', 'lr: 1e-4\nb: [1e-8, 1.0]\nc: {d: ~, e: "1e-4"}\nf: yes it is\n'))
    again = yaml.load(options.dump(opt), Loader=options.SafeLoader)
    assert again == opt


def good_block():
    teacher = {'name': 'edsr', 'network': {'type': 'EDSR'}, 'path': 'x.pth'}
    return {
        'teachers': [teacher, {**teacher, 'name': 'rcan'}],
        'aggregator': {'network': {'type': 'DCTSwin'}, 'path': 'y.pth'},
        'features': {'f': {'student': 'body.0', 'teacher': 'body.1', 'from': 'rcan'}},
        'losses': {'l_dwt': {'type': 'WaveletLoss'}},
    }


def test_a_correct_block_passes():
    options.check({'distillation': good_block()})


@pytest.mark.parametrize(('change', 'words'), [
    (lambda b: b.update(teacher=b.pop('teachers')), r"distillation\.teacher: unknown key.*'teachers'"),
    (lambda b: b.update(teachers=[]), 'the list is empty'),
    (lambda b: b['teachers'][0].pop('path'), r'teachers\[0\]\.path: missing'),
    (lambda b: b['teachers'][1].update(name='edsr'), "'edsr' is used twice"),
    (lambda b: b['teachers'][0].update(input='hr'), r'teachers\[0\]\.input: must be one of lq, lq_clean, gt'),
    (lambda b: b['teachers'][0].update(network='EDSR'), r'network: must be a mapping'),
    (lambda b: b['features']['f'].pop('from'), 'several teachers.*from: edsr'),
    (lambda b: b['features']['f'].update({'from': 'rcam'}), r"no teacher 'rcam'.*'rcan'"),
    (lambda b: b['features']['f'].pop('student'), r'features\.f\.student: missing'),
    (lambda b: b['losses'].update(dwt={'type': 'WaveletLoss'}), r"losses\.dwt: .*start it with 'l_'"),
    (lambda b: b['losses'].update(l_x={'wave': 'haar'}), r'l_x: needs a `type'),
    (lambda b: b['losses'].update(l_pix={'type': 'WaveletLoss'}), 'l_pix'),
    (lambda b: b.update(aggregator={'network': {}}), r'aggregator\.path: missing'),
])  # fmt: skip
def test_every_mistake_names_its_key_and_cure(change, words):
    block = good_block()
    change(block)
    with pytest.raises(UserError, match=words):
        options.check({'distillation': block})


def test_a_loss_of_the_base_can_be_switched_off():
    block = good_block()
    block['losses']['l_dwt'] = None
    options.check({'distillation': block})


def test_all_mistakes_are_reported_at_once():
    block = good_block()
    block['teachers'][0].pop('path')
    block['losses']['x'] = {}
    with pytest.raises(UserError) as error:
        options.check({'distillation': block})
    assert str(error.value).count('\n  ') == 3


def test_a_missing_block_is_reported():
    with pytest.raises(UserError, match='DistillationModel needs at least'):
        options.check({'model_type': 'DistillationModel'})


def test_none_is_a_word_where_it_is_a_choice_and_null_elsewhere(tmp_path):
    path = write(tmp_path / 'a.yml', 'network_g: {type: DCTSwin}\ntrain: {lr: 1}\n')
    opt = options.load(path, ['network_g:attn_mask=none', 'network_g:window_size=None', 'train:lr=none'])
    assert opt['network_g'] == {'type': 'DCTSwin', 'attn_mask': 'none', 'window_size': None}
    assert opt['train'] == {'lr': None}


def test_the_options_with_a_choice_none_are_those_of_the_code():
    """Every `check_choice('option', value, CHOICES)` of kdsr whose choices hold 'none'."""
    found = set()
    for path in sorted(Path(kdsr.__file__).parent.rglob('*.py')):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, 'id', '') == 'check_choice':
                module = importlib.import_module('.'.join(path.relative_to(Path(kdsr.__file__).parents[1]).parts)[:-3])
                name, choices = node.args[0].value, eval(ast.unparse(node.args[2]), vars(module))
                found |= {name} if 'none' in choices else set()
    assert found == CHOOSE_NONE


def test_null_leaves_the_default_of_a_number_that_basicsr_divides_by(tmp_path):
    text = (
        'datasets: {train: {}}\nval: {val_freq: 20, save_img: true}\nlogger: {print_freq: 7, save_checkpoint_freq: 8}\n'
    )
    nulls = ['val:val_freq=null', 'logger:print_freq=null', 'logger:save_checkpoint_freq=null']
    opt = options.load(write(tmp_path / 'a.yml', text), nulls)
    assert opt['val'] == {'val_freq': 5000, 'save_img': True}
    assert opt['logger'] == {'print_freq': 100, 'save_checkpoint_freq': 5000, 'use_tb_logger': False}


def test_a_set_is_switched_off_by_null(tmp_path):
    path = write(tmp_path / 'a.yml', 'datasets: {test_1: {name: a}, test_2: {name: b}}\n')
    assert list(options.load(path, ['datasets:test_2=null'])['datasets']) == ['test_1']


def test_test_sets_that_are_not_on_the_disk_are_left_out(tmp_path):
    (tmp_path / 'there').mkdir()
    disk = {'io_backend': {'type': 'disk'}, 'dataroot_gt': f'{tmp_path}/there', 'dataroot_lq': f'{tmp_path}/there'}
    sets = {'test_1': {'name': 'Set5', **disk}, 'test_2': {'name': 'Urban100', **disk, 'dataroot_lq': 'nowhere/X2'}}
    file = options.OptionFile('a.yml', {'datasets': sets}, {}, ())
    kept, left_out = options.leave_out_missing_sets(file)
    assert (list(kept.opt['datasets']), left_out) == (['test_1'], {'Urban100': 'nowhere/X2'})
    file = options.OptionFile('a.yml', {'datasets': {'test_2': sets['test_2']}}, {}, ())
    assert options.leave_out_missing_sets(file) == (file, {})  # so that the missing files are listed
