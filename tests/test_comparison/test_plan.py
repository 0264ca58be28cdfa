from pathlib import Path

import pytest
import yaml

from kdsr.comparison.plan import read_comparison
from kdsr.errors import UserError
from kdsr.options.differences import list_option_differences
from tests.helpers.comparisons import comparison, comparison_file

KD = {
    'needs': 'teacher',
    'model_type': 'DistillationModel',
    'distillation': {
        'teachers': [{
            'name': 'big', 'path': '{teacher}/models/net_g_latest.pth',
            'network': {'type': 'EDSR', 'num_in_ch': 3, 'num_out_ch': 3, 'upscale': 2},
        }],
        'losses': {'l_kd': {'type': 'ResponseLoss'}},
    },
}  # fmt: skip


def test_every_label_becomes_a_run_for_each_seed_with_complete_options(workspace):
    plan = comparison(workspace, common={'base': 'base.yml', 'train': {'total_iter': 7}})
    assert [(run.label, run.seed) for run in plan.runs] == [(n, s) for n in ('plain', 'fast') for s in (0, 1, 2)]
    run = plan.of('fast')[1]
    assert run.name == run.opt['name'] == 'cmp_fast_seed1'
    assert run.opt['manual_seed'] == 1
    assert run.opt['train']['total_iter'] == run.iterations == 7
    assert run.opt['train']['optim_g'] == {'type': 'Adam', 'lr': 0.01, 'betas': [0.9, 0.99]}  # laid over the base
    assert run.opt['datasets']['train']['num_worker_per_gpu'] == 0


def test_a_run_takes_the_results_of_another_with_its_seed_or_with_its_only_one(workspace):
    plan = comparison(workspace, {'plain': {}, 'teacher': {}, 'kd': KD})
    assert plan.of('kd')[2].needs == ('cmp_teacher_seed2',)
    path = plan.of('kd')[2].opt['distillation']['teachers'][0]['path']
    assert path == 'experiments/cmp_teacher_seed2/models/net_g_latest.pth'
    plan = comparison(workspace, {'plain': {}, 'teacher': {'seeds': [9]}, 'kd': KD})
    assert {run.needs for run in plan.of('kd')} == {('cmp_teacher_seed9',)}


def test_a_base_is_found_beside_the_file_or_in_the_current_folder(workspace):
    comparison_file(workspace)
    (workspace.root / 'deep').mkdir()
    (workspace.root / 'cmp.yml').rename(workspace.root / 'deep' / 'cmp.yml')
    assert read_comparison('deep/cmp.yml').of('plain')[0].opt['scale'] == 2
    (workspace.root / 'base.yml').rename(workspace.root / 'deep' / 'base.yml')
    assert read_comparison('deep/cmp.yml').of('plain')[0].opt['scale'] == 2
    (workspace.root / 'deep' / 'base.yml').unlink()
    with pytest.raises(UserError, match=r"runs\.plain\.base: 'base.yml' does not exist"):
        read_comparison('deep/cmp.yml')


def test_a_stage_that_is_validated_otherwise_is_trained_but_not_shown(workspace):
    runs = {'plain': {}, 'teacher': {'val': {'metrics': {'psnr': {'crop_border': 9}}}}, 'kd': KD}
    plan = comparison(workspace, runs)
    assert plan.labels == ['plain', 'teacher', 'kd']
    assert plan.shown == ['plain', 'kd']
    with pytest.raises(UserError, match=r'runs\.teacher has another validation than the (.|\n)*crop_border: 2 -> 9'):
        comparison(workspace, {'plain': {}, 'teacher': runs['teacher']})


MISTAKES = {
    'unknown key': ({'seed': [1]}, r"unknown key 'seed'\. Did you mean 'seeds'"),
    'no seeds': ({'seeds': []}, 'missing: seeds'),
    'seed twice': ({'seeds': [1, 1]}, 'different whole numbers'),
    'labels that are one folder on Windows and macOS': (
        {'runs': {'plain': {}, 'KD': {}, 'kd': {}}}, "runs 'KD' and 'kd' differ in nothing but small and capital",
    ),
    'a name with a slash': ({'name': 'a/b'}, 'becomes a part of folder names'),
    'a label that BasicSR shortens': ({'runs': {'debug_it': {}}}, 'debug'),
    'no such baseline': ({'baseline': 'plane'}, r"`baseline: plane` is not a label in `runs`\. Did you mean 'plain'"),
    'a run that is a file': ({'runs': {'plain': 'base.yml'}}, r'runs\.plain must be a mapping'),
    'unknown key of a run': ({'runs': {'plain': {'trian': {}}}}, r"runs\.plain: unknown key 'trian'.*'train'"),
    'a name for a run': ({'runs': {'plain': {'name': 'x'}}}, 'names its runs itself'),
    'a seed for a run': ({'common': {'base': 'base.yml', 'manual_seed': 3}}, 'write `seeds:` instead'),
    'an unknown need': ({'runs': {'plain': {'needs': 'teacher'}}}, "there is no run 'teacher'"),
    'needs in a circle': (
        {'runs': {'plain': {'needs': 'kd'}, 'kd': {'needs': ['plain']}}}, 'circle: plain -> kd -> plain'
    ),
    'a result without a need': (
        {'runs': {'plain': {'path': {'pretrain_network_g': '{kd}/x.pth'}}, 'kd': {}}}, 'add `needs: kd`'
    ),
    'a result of nothing': (
        {'runs': {'plain': {'needs': 'kd', 'path': {'pretrain_network_g': '{kdd}/x.pth'}}, 'kd': {}}},
        "no run 'kdd'. Did you mean 'kd'",
    ),
    'seeds that do not meet': (
        {'runs': {'plain': {'needs': 'kd'}, 'kd': {'seeds': [7, 8]}}},
        r'seed 0 needs the same seed of .kd., which has only \[7, 8\]',
    ),
    'no validation set': ({'runs': {'plain': {'datasets': {'val': None}}}}, 'there is no validation set'),
    'no metric': ({'runs': {'plain': {'val': {'metrics': None}}}}, 'there is no metric'),
    'a metric more': (
        {'runs': {'plain': {}, 'kd': {'val': {'metrics': {'niqe': {'type': 'calculate_niqe', 'crop_border': 2}}}}}},
        'has another validation than the baseline',
    ),
    'its only metric switched off': ({'runs': {'plain': {'val': {'metrics': {'psnr': None}}}}}, 'there is no metric'),
    'a wrong argument of the network': (
        {'runs': {'plain': {'network_g': {'num_blocks': 3}}}}, r'cmp\.yml:\d+: network_g\.num_blocks: EDSR has no '
    ),
    'a base that is not there': ({'common': {'base': 'other.yml'}}, r"base: 'other.yml' does not exist"),
    'no base': ({'common': {}}, r'runs\.plain: missing: model_type'),
}  # fmt: skip


@pytest.mark.parametrize(('changes', 'message'), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_told_with_its_place(workspace, changes, message):
    with pytest.raises(UserError, match=message):
        comparison(workspace, **changes)


def test_a_label_that_is_there_twice_is_told_with_its_line(workspace):
    path = comparison_file(workspace)
    with open(path, 'a') as file:
        file.write('  plain: {}\n')
    line = len(Path(path).read_text().splitlines())
    with pytest.raises(UserError, match=rf'cmp\.yml:{line}: runs\.plain: the key stands here twice'):
        read_comparison(path)


def test_anchors_may_be_laid_over_each_other(workspace):
    path = comparison_file(workspace)
    top = yaml.safe_load(Path(path).read_text())
    del top['runs']
    text = yaml.safe_dump(top) + 'runs:\n  plain: &p {title: A, note: N}\n  other: &o {<<: *p, title: B}\n'
    (workspace.root / 'cmp.yml').write_text(text + '  third: {<<: *o, note: M}\n')
    assert [(r.title, r.note) for r in read_comparison(path).of('third')] == [('B', 'M')] * 3


def test_differences_are_named_by_their_keys():
    assert list_option_differences({'a': {'b': 1, 'c': 2}}, {'a': {'b': 1, 'c': 3}, 'd': 4}) == [
        'a.c: 2 -> 3',
        'd: None -> 4',
    ]


def test_the_shipped_controls_are_a_comparison(monkeypatch):
    monkeypatch.chdir(Path(__file__).parents[2])
    plan = read_comparison('options/studies/controls.yml')
    assert plan.baseline == 'scratch'
    starts = {label: plan.of(label)[0].opt['path']['pretrain_network_g'] for label in plan.labels}
    teacher = 'experiments/controls_teacher_seed0/models/net_g_latest.pth'
    assert starts == {'teacher': None, 'scratch': None, 'initialised': teacher, 'distilled': None, 'both': teacher}
    assert 'distillation' not in plan.of('initialised')[0].opt
