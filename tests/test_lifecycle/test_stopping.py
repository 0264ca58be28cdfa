"""Whatever ends a run early leaves one that resumes; what must not start does not start."""

import errno
import os
import signal
import socket
import time
from types import SimpleNamespace

import pytest
import torch
from basicsr.models.sr_model import SRModel
from basicsr.utils import dist_util

from kdsr import durable
from kdsr.errors import UserError
from kdsr.lifecycle import stopping
from kdsr.lifecycle.locking import FolderLock
from kdsr.lifecycle.run import Run
from tests.helpers.runs import at_iteration, check_same_run, content, features, in_a_child, killed, options


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
def test_a_signal_saves_the_finished_step_and_ends_the_run(workspace, number, capfd):
    opt = options(workspace)
    status = killed(workspace, opt, number=number)
    assert os.WEXITSTATUS(status) == 128 + number
    said = capfd.readouterr().err
    assert f'stopped by {number.name}: saved after iteration 3. To go on, add --auto_resume' in said
    folder = workspace.root / 'experiments' / 'run'
    assert content(folder, 'training_states/3.state')['epoch'] == 0
    if number == signal.SIGTERM:
        whole = workspace.train({**opt, 'name': 'whole'})
        check_same_run(whole, workspace.train(opt, '--auto_resume'))


@pytest.mark.parametrize(('first', 'stops'), [(signal.SIGINT, True), (signal.SIGTERM, False)])
def test_a_second_ctrl_c_does_not_wait_for_the_step(monkeypatch, first, stops):
    monkeypatch.setattr(stopping, 'run', Run())
    stopping.run.model = SimpleNamespace()
    stopping.on_signal(first, None)
    assert stopping.run.asked == first
    if stops:
        with pytest.raises(KeyboardInterrupt):
            stopping.on_signal(signal.SIGINT, None)
    else:
        stopping.on_signal(signal.SIGINT, None)  # the first Ctrl-C; the next one stops the run at once
        with pytest.raises(KeyboardInterrupt):
            stopping.on_signal(signal.SIGINT, None)


def test_a_signal_does_not_wait_for_the_end_of_a_validation(workspace):
    opt = options(workspace)

    def work():
        at_iteration(3, lambda: os.kill(os.getpid(), signal.SIGTERM), '_log_validation_metric_values', SRModel)
        workspace.train(opt)

    assert os.WEXITSTATUS(in_a_child(work)) == 143
    assert content(workspace.root / 'experiments' / 'run', 'training_states/3.state')['validated'] == {}
    check_same_run(workspace.train({**opt, 'name': 'whole'}), workspace.train(opt, '--auto_resume'))


def test_a_kill_in_the_last_validation_leaves_a_run_that_ends_the_same(workspace):
    opt = options(workspace)

    def work():
        at_iteration(6, lambda: os.kill(os.getpid(), signal.SIGKILL), '_log_validation_metric_values', SRModel)
        workspace.train(opt)

    assert os.WTERMSIG(in_a_child(work)) == signal.SIGKILL
    check_same_run(workspace.train({**opt, 'name': 'whole'}), workspace.train(opt, '--auto_resume'))


def test_a_signal_before_the_first_step_ends_the_run_at_once(workspace, capfd):
    def work():
        at_iteration(None, lambda: os.kill(os.getpid(), signal.SIGTERM), 'print_network')
        workspace.train(options(workspace))

    assert os.WEXITSTATUS(in_a_child(work)) == 1
    assert not list((workspace.root / 'experiments' / 'run' / 'training_states').iterdir())


def test_a_second_run_of_the_same_name_is_refused_while_the_first_lives(workspace):
    folder = str(workspace.root / 'experiments' / 'run')
    read, write = os.pipe()
    child = os.fork()
    if not child:
        FolderLock(folder, 'being trained').acquire()
        os.write(write, b'.')
        time.sleep(60)
        os._exit(0)
    os.read(read, 1)
    try:
        with pytest.raises(UserError, match=rf'experiments/run is being trained by process {child} on .* since'):
            workspace.train(options(workspace))
        assert not os.path.exists(folder)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    workspace.train(options(workspace))


def test_a_full_disk_is_told_and_the_run_resumes_when_there_is_room(workspace, monkeypatch):
    before = signal.getsignal(signal.SIGTERM)
    opt = options(workspace)
    whole = workspace.train({**opt, 'name': 'whole'})
    replace = os.replace

    def full(source, target):
        if str(target).endswith('4.state'):
            raise OSError(errno.ENOSPC, 'No space left on device')
        replace(source, target)

    monkeypatch.setattr(durable.os, 'replace', full)
    with pytest.raises(UserError, match=r'cannot write .*4\.state: No space left on device.*make room.*--auto_resume'):
        workspace.train(opt)
    assert signal.getsignal(signal.SIGTERM) == before
    monkeypatch.undo()
    monkeypatch.chdir(workspace.root)
    assert not list((workspace.root / 'experiments').rglob('*.partial'))
    check_same_run(whole, workspace.train(opt, '--auto_resume'))


def test_a_state_whose_helpers_are_damaged_is_skipped(workspace, capsys):
    opt = features(workspace)
    folder = workspace.train(opt)
    helpers = folder / 'models' / 'net_distill_6.pth'
    damaged = bytearray(helpers.read_bytes())
    damaged[len(damaged) // 2] ^= 255
    helpers.write_bytes(damaged)
    workspace.train(opt, '--auto_resume')
    said = capsys.readouterr().out
    assert 'net_distill_6.pth is missing or truncated' in said
    assert '4.state.' in said
    assert helpers.read_bytes() != damaged


def test_only_the_last_states_are_kept_and_always_the_best_and_the_latest(workspace):
    opt = options(workspace)
    opt['logger'].update(keep_last=2, save_checkpoint_freq=1)
    opt['val']['val_freq'] = 2
    folder = workspace.train(opt)
    (folder / 'models' / 'net_g_nonfinite_1.pth').touch()
    resumed = {**opt, 'train': {**opt['train'], 'total_iter': 7}}
    workspace.train(resumed, '--auto_resume')
    assert sorted(p.name for p in (folder / 'training_states').iterdir()) == ['6.state', '7.state']
    kept = [f'net_g_{label}.pth' for label in ('6', '7', 'best', 'latest', 'nonfinite_1')]
    assert sorted(p.name for p in (folder / 'models').iterdir()) == kept


def test_the_best_network_is_kept_and_not_replaced_by_a_worse_one_after_a_resume(workspace):
    opt = options(workspace)
    opt['train']['optim_g']['lr'] = 1e-9  # nothing is learnt, so ...
    opt['train']['ema_decay'] = 0
    opt['val']['metrics']['psnr']['better'] = 'lower'  # ... the last one of equals counts as the best
    folder = workspace.train(opt)
    best = content(folder, 'training_states/6.state')['best_metric_results']['tiny']['psnr']
    assert best['iter'] == 6
    same = content(folder, 'models/net_g_best.pth')['params']
    assert all(torch.equal(v, same[k]) for k, v in content(folder, 'models/net_g_6.pth')['params'].items())
    opt['train'].update(total_iter=9, optim_g={'type': 'Adam', 'lr': 1e-2})
    before = (folder / 'models' / 'net_g_best.pth').read_bytes()
    state = content(folder, 'training_states/6.state')
    state['best_metric_results']['tiny']['psnr']['val'] = -1.0  # better than anything to come
    torch.save(state, folder / 'training_states' / '6.state')
    workspace.train(opt, '--auto_resume')
    assert (folder / 'models' / 'net_g_best.pth').read_bytes() == before


def test_a_port_that_is_taken_is_told(monkeypatch):
    with socket.socket() as taken:
        taken.bind(('127.0.0.1', 0))
        taken.listen()
        for name, value in (('RANK', 0), ('WORLD_SIZE', 1), ('MASTER_ADDR', '127.0.0.1'), ('LOCAL_RANK', 0)):
            monkeypatch.setenv(name, str(value))
        monkeypatch.setenv('MASTER_PORT', str(taken.getsockname()[1]))
        monkeypatch.setattr(dist_util.mp, 'set_start_method', lambda method: None)
        with pytest.raises(UserError, match=r'port \d+ on this machine is taken.*MASTER_PORT=29501'):
            dist_util.init_dist('pytorch')
