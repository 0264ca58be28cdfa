import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kdsr.comparison import curves as comparison_curves
from kdsr.comparison import runs as comparison_runs
from kdsr.comparison.recorded_training import train_recorded
from kdsr.comparison.runs import is_finished, select
from kdsr.comparison.study import compare
from kdsr.comparison.training_record import read_record
from kdsr.errors import UserError
from tests.helpers.comparisons import comparison, comparison_file, trained

ROOT = Path(__file__).parents[2]
STAND_IN = """
import json, os, pathlib, shutil, sys, time
option_file = pathlib.Path(sys.argv[sys.argv.index('-opt') + 1])
assert '--auto_resume' in sys.argv
name = option_file.stem
print(name, os.environ['OMP_NUM_THREADS'], os.environ.get('CUDA_VISIBLE_DEVICES'))
folder = pathlib.Path('experiments', name)
folder.mkdir(exist_ok=True)
shutil.copy(option_file, folder)
with open('order.txt', 'a') as file:
    file.write(name + '\\n')
if os.path.exists('fails_' + name):
    sys.exit('the reason')
if os.path.exists('waits_' + name):
    time.sleep(60)
clock = {'date': time.time(), 'seconds': 1.0, 'cpu_seconds': 1.0}
with open(folder / 'record.jsonl', 'w') as file:
    for event in (
        {'event': 'start', 'iter': 0, 'parameters': 1, **clock},
        {'event': 'validation', 'iter': 40, 'set': 'photos', 'values': {'psnr': 30 + len(name)}, **clock},
        {'event': 'end', 'iter': 40, **clock},
    ):
        file.write(json.dumps(event) + '\\n')
"""
STAGES = {
    'plain': {},
    'kd': {'needs': 'teacher', 'path': {'pretrain_network_g': '{teacher}/models/net_g_latest.pth'}},
    'teacher': {'seeds': [0]},
}


@pytest.fixture
def program(workspace, monkeypatch):
    """A program that leaves what a training leaves, at once."""
    path = workspace.root / 'stand_in.py'
    path.write_text(STAND_IN)
    monkeypatch.setattr(comparison_runs, 'PROGRAM', path)
    monkeypatch.setattr(comparison_runs, 'POLL_SECONDS', 0.01)
    monkeypatch.setattr(comparison_curves, 'draw_pictures', lambda *_: {})
    return path


def order(workspace):
    path = workspace.root / 'order.txt'
    names = path.read_text().split() if path.exists() else []
    path.unlink(missing_ok=True)
    return names


def test_everything_is_trained_once_and_what_is_needed_comes_first(workspace, program):
    path, said = comparison_file(workspace, STAGES, seeds=[0, 1]), []
    compare(path, say=said.append)
    names = ['cmp_plain_seed0', 'cmp_plain_seed1', 'cmp_teacher_seed0', 'cmp_kd_seed0', 'cmp_kd_seed1']
    assert order(workspace) == names
    assert (workspace.root / 'experiments/cmp/options/cmp_kd_seed1.yml').exists()
    assert said[-1] == 'Report: results/cmp/report.md and report.html'
    compare(path, say=said.append)
    assert order(workspace) == []
    assert '5 of 5 runs are finished already.' in said


def test_only_trains_a_label_and_what_it_needs(workspace, program):
    compare(comparison_file(workspace, STAGES), only=['kd'], out='elsewhere')
    assert set(order(workspace)) == {'cmp_teacher_seed0', *(f'cmp_kd_seed{k}' for k in range(3))}
    assert '| cmp_plain_seed0 | 0 | 40 |' in (workspace.root / 'elsewhere/report.md').read_text()
    with pytest.raises(UserError, match=r"--only plane: .* no such run\. Did you mean 'plain'"):
        select(comparison(workspace), ['plane'])


def test_a_failed_run_stops_only_those_that_need_it_and_is_tried_again(workspace, program):
    path, said = comparison_file(workspace, STAGES, seeds=[0]), []
    mark = workspace.root / 'fails_cmp_teacher_seed0'
    mark.touch()
    with pytest.raises(UserError, match='2 of 3 runs did not finish: cmp_teacher_seed0, cmp_kd_seed0'):
        compare(path, say=said.append)
    assert order(workspace) == ['cmp_plain_seed0', 'cmp_teacher_seed0']
    told = '\n'.join(said)
    assert 'failed (exit 1)' in told
    assert '    the reason' in told
    assert 'cmp_kd_seed0: not started, because it needs cmp_teacher_seed0' in told
    assert (workspace.root / 'results/cmp/report.md').exists()
    mark.unlink()
    compare(path)
    assert order(workspace) == ['cmp_teacher_seed0', 'cmp_kd_seed0']


def test_workers_share_the_processors_and_take_turns_on_the_gpus(workspace, program, monkeypatch):
    monkeypatch.delenv('OMP_NUM_THREADS', raising=False)
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '4,6')
    monkeypatch.setattr(comparison_runs, 'count_processors', lambda: 8)
    compare(comparison_file(workspace, {'plain': {}, 'other': {}}, seeds=[0]), workers=2)
    printed = {p.read_text().strip() for p in (workspace.root / 'experiments/cmp/output').glob('*.txt')}
    assert printed == {'cmp_plain_seed0 4 4', 'cmp_other_seed0 4 6'}


def test_changed_options_are_refused_with_their_difference(workspace, program):
    compare(comparison_file(workspace, {'plain': {}}, seeds=[0]))
    changed = {'plain': {'train': {'optim_g': {'lr': 0.5}}}}
    for report_only in (False, True):
        with pytest.raises(UserError, match=r'cmp_plain_seed0 was trained with other(.|\n)*lr: 0\.001 -> 0\.5'):
            compare(comparison_file(workspace, changed, seeds=[0]), report_only=report_only)
    harmless = {'plain': {'logger': {'print_freq': 7}}}
    compare(comparison_file(workspace, harmless, seeds=[0]))
    assert order(workspace) == ['cmp_plain_seed0']


def test_a_run_that_is_older_than_what_it_needs_is_refused(workspace, program):
    path = comparison_file(workspace, STAGES, seeds=[0])
    compare(path)
    (workspace.root / 'experiments/cmp_teacher_seed0/record.jsonl').unlink()
    with pytest.raises(UserError, match=r'cmp_kd_seed0 was trained before experiments/cmp_teacher_seed0'):
        compare(path)
    (workspace.root / 'experiments/cmp_kd_seed0/record.jsonl').unlink()
    compare(path)


def test_another_experiment_of_that_name_is_left_alone(workspace, program):
    (workspace.root / 'experiments/cmp_plain_seed1/training_states').mkdir(parents=True)
    with pytest.raises(UserError, match='cmp_plain_seed1 is another experiment'):
        compare(comparison_file(workspace))


def test_missing_data_is_told_before_anything_starts(workspace, program):
    runs = {name: {'datasets': {'train': {'dataroot_gt': f'no_{name}'}}} for name in ('data', 'photos')}
    with pytest.raises(
        UserError, match=r'cmp_data_seed0: missing files(.|\n)*no_data(.|\n)*cmp_photos_seed0: missing'
    ) as told:
        compare(comparison_file(workspace, {'plain': {}, **runs}))
    assert str(told.value).count('missing files, seen') == 2  # not again for each seed
    assert order(workspace) == []


def test_report_trains_nothing(workspace, program):
    for run in comparison(workspace).runs:
        trained(workspace, run, 30.0)
    compare('cmp.yml', report_only=True)
    assert order(workspace) == []
    assert '| fast | 3 | 30.000 ± 0.000 | +0.000 (p 1.000) |' in (workspace.root / 'results/cmp/report.md').read_text()
    with pytest.raises(UserError, match='at least 1'):
        compare('cmp.yml', workers=0)


def test_two_commands_do_not_train_the_same_run(workspace, program):
    (workspace.root / 'waits_cmp_plain_seed0').touch()
    run = comparison(workspace, seeds=[0]).runs[0]
    folder = workspace.root / 'experiments' / 'cmp'
    first = comparison_runs.TrainingProcess(run, folder, 1, None)
    try:
        with pytest.raises(UserError, match=f'cmp_plain_seed0 is being trained by process {os.getpid()} on '):
            comparison_runs.TrainingProcess(run, folder, 1, None)
        assert first.progress() == 'plain seed 0 starts'
    finally:
        first.stop()
    assert first.process.returncode is not None


def test_progress_says_how_far_a_run_is(workspace, program):
    (workspace.root / 'waits_cmp_plain_seed0').touch()
    run = comparison(workspace, seeds=[0]).runs[0]
    training = comparison_runs.TrainingProcess(run, workspace.root / 'experiments' / 'cmp', 1, None)
    training.stop()
    training.began = 0
    trained(workspace, run, 31.25, ended=False)
    assert training.steps() == (40, 0)
    assert training.progress() == 'plain seed 0 40/40 photos psnr 31.25 0:00:00 left'


@pytest.mark.slow
def test_a_killed_comparison_leaves_no_process_and_goes_on_where_it_was(workspace, capsys):
    plan = comparison(workspace, {'plain': {}}, iterations=200, seeds=[3], common={
        'base': 'base.yml', 'logger': {'print_freq': 20, 'save_checkpoint_freq': 20}, 'val': {'val_freq': 100},
    })  # fmt: skip
    run = plan.runs[0]
    training = comparison_runs.TrainingProcess(run, workspace.root / 'experiments' / 'cmp', 1, None)
    try:
        deadline = time.time() + 120
        while not (workspace.root / run.folder / 'training_states/40.state').exists() and time.time() < deadline:
            time.sleep(0.01)
        training.process.stdin.close()  # which is what the end of its parent does
        assert training.process.wait(10) == 1
    finally:
        training.process.kill()
    assert not is_finished(run)
    workspace._run(train_recorded, 'experiments/cmp/options/cmp_plain_seed3.yml', ['--auto_resume'])
    compare('cmp.yml')
    assert '1 of 1 run is finished already.' in capsys.readouterr().out
    record = read_record(run.folder)
    assert record.starts[0]['iter'] == 0
    assert record.starts[1]['iter'] >= 20  # 40.state may be cut off
    assert [p.iteration for p in record.curves['photos', 'psnr']] == [100, 200]
    assert [p.iteration for p in record.losses['l_pix']] == list(range(20, 201, 20))


@pytest.mark.slow
@pytest.mark.timeout(500)  # six processes import PyTorch, on two busy cores
def test_a_comparison_that_is_killed_and_started_again_at_once_goes_on(workspace):
    """The trainings of the killed command end with it; until they have, the new ones wait."""
    plan = comparison(workspace, {'plain': {}, 'other': {}}, iterations=300, seeds=[0], common={
        'base': 'base.yml', 'logger': {'print_freq': 20, 'save_checkpoint_freq': 20}, 'val': {'val_freq': 300},
        'datasets': {'train': {'num_worker_per_gpu': 1}},
    })  # fmt: skip
    command = [sys.executable, '-m', 'kdsr', 'compare', 'cmp.yml', '--workers', '2']
    settings = {**os.environ, 'OMP_NUM_THREADS': '1', 'PYTHONPATH': str(ROOT)}
    first = subprocess.Popen(command, cwd=workspace.root, env=settings, stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 200
        while not all((workspace.root / run.folder / 'training_states/40.state').exists() for run in plan.runs):
            assert time.monotonic() < deadline
            time.sleep(0.01)
    finally:
        first.kill()
    again = subprocess.run(command, cwd=workspace.root, env=settings, capture_output=True, text=True, timeout=250)
    first.wait()
    assert again.returncode == 0, again.stdout[-3000:] + again.stderr[-3000:]
    assert 'is being trained by' not in again.stdout + again.stderr
    for run in plan.runs:
        starts = [start['iter'] for start in read_record(run.folder).starts]
        assert len(starts) == 2
        assert starts[1] >= 20
