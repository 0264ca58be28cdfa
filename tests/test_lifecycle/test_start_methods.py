"""How a system starts processes does not change a run.

Linux forks them, macOS and Windows spawn them, and Python 3.14 forks them from a server.
"""

import os
import subprocess
import sys

import pytest
import torch

from kdsr.data.teacher_cache import make_cache
from kdsr.errors import UserError
from tests.helpers import runs
from tests.helpers.training_sets import on_raw

START = """
import multiprocessing, sys

if __name__ == '__main__':
    multiprocessing.set_start_method(sys.argv.pop(1))
    from kdsr.cli import main
    main(sys.argv[1:])
"""


def on_lmdb(workspace):
    return on_raw(workspace, runs.plain(workspace), raw=False)


def on_raw_files(workspace):
    return on_raw(workspace, runs.plain(workspace))


def from_cache(workspace):
    opt = runs.many_teachers(workspace)
    opt['distillation'].update(health_check=False, views=None, cache='cache.raw')
    make_cache(opt, progress=False)
    return opt


def weights(folder):
    state = torch.load(folder / 'models' / 'net_g_latest.pth', weights_only=True)
    return {f'{key} {name}': tensor for key in state for name, tensor in state[key].items()}


@pytest.mark.slow
@pytest.mark.parametrize(
    ('data', 'method'),
    [(on_lmdb, 'spawn'), (on_lmdb, 'forkserver'), (on_raw_files, 'spawn'), (from_cache, 'forkserver')],
)
def test_processes_of_the_loader_may_be_started_in_any_way(workspace, data, method):
    opt = data(workspace)
    opt['train']['total_iter'] = 3
    expected = weights(workspace.train({**opt, 'name': 'alone'}))
    opt['datasets']['train'].update(num_worker_per_gpu=1, multiprocessing_context=method)
    assert runs.same(weights(workspace.train({**opt, 'name': 'started'})), expected)


@pytest.mark.slow
@pytest.mark.parametrize('method', ['spawn', 'forkserver'])
def test_a_whole_run_under_a_start_method_of_another_system(workspace, method):
    """With validation and a health check, from the command line; then resumed."""
    opt = on_raw(workspace, runs.options(workspace), raw=False)
    opt['model_type'] = 'DistillationModel'
    teacher = {'name': 'zoo', 'network': {'type': 'RFDN', 'num_feat': 8, 'num_block': 2, 'upscale': 2}}
    teacher['path'] = workspace.weights(teacher['network'], 'zoo')
    opt['distillation'] = {'teachers': [teacher], 'losses': {'l_kd': {'type': 'ResponseLoss'}}}
    expected = weights(workspace.train({**opt, 'name': 'alone'}))
    opt['datasets']['train']['num_worker_per_gpu'] = 1
    script = workspace.root / 'start.py'
    script.write_text(START)
    for total in (4, runs.TOTAL):
        opt['train']['total_iter'] = total
        file = workspace.write({**opt, 'name': 'started'})
        command = [sys.executable, str(script), method, 'train', '-opt', file, '--auto_resume']
        env = {**os.environ, 'OMP_NUM_THREADS': '1', 'CUDA_VISIBLE_DEVICES': ''}
        done = subprocess.run(command, cwd=workspace.root, env=env, capture_output=True, text=True, timeout=200)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
        assert 'Traceback' not in done.stderr
    assert runs.same(weights(workspace.root / 'experiments' / 'started'), expected)


def test_a_start_method_that_the_system_lacks_is_named(workspace, monkeypatch):
    opt = runs.plain(workspace)
    opt['datasets']['train'].update(num_worker_per_gpu=1, multiprocessing_context='forkserver')
    monkeypatch.setattr('torch.multiprocessing.get_all_start_methods', lambda: ['spawn'])
    with pytest.raises(UserError, match='multiprocessing_context: forkserver` is not for this system'):
        workspace.train(opt)
