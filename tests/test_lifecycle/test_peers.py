"""Two processes of one run (gloo, CPU): whatever happens to one of them, both end, with one message that says why."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from kdsr.lifecycle import peers
from kdsr.lifecycle.peers import Connection, Peers
from tests.helpers.processes import free_port
from tests.helpers.runs import check_same_run, options

ROOT = Path(__file__).parents[2]
PROGRAM = """
import os, signal, sys, time
import kdsr
import basicsr.train
from basicsr.models.base_model import BaseModel
from basicsr.models.sr_model import SRModel
from kdsr.errors import UserError, report_user_errors

rank = int(os.environ['RANK'])

def before(owner, name, act):
    original = getattr(owner, name)
    def hooked(self, *args, **kwargs):
        act(*args)
        return original(self, *args, **kwargs)
    setattr(owner, name, hooked)

def signal_self(number):
    with open('signalled', 'w') as file:
        file.write(str(time.time()))
    os.kill(os.getpid(), number)

{action}
with report_user_errors():
    basicsr.train.train_pipeline(os.getcwd())
"""
AT_STEP = """
def act(iteration, *rest):
    if rank == {rank} and iteration == 5:
        {what}
before(BaseModel, 'update_learning_rate', act)
"""
IN_VALIDATION = """
def act(*rest):
    if rank == 0:
        open('validates', 'w').close()
        time.sleep(100)
before(SRModel, '_log_validation_metric_values', act)
def wait(iteration, *rest):
    if rank == 1 and iteration == 4:
        while not os.path.exists('validates'):
            time.sleep(0.01)
        {what}
before(BaseModel, 'update_learning_rate', wait)
"""
BEFORE_THE_FIRST_STEP = """
def act(*rest):
    if rank == 1:
        signal_self(signal.SIGTERM)
    else:
        time.sleep(100)
before(BaseModel, 'print_network', act)
"""


def launch(workspace, path, action='', *arguments):
    """Run both processes to their end; return their exit statuses, what they wrote to stderr, and their numbers."""
    environment = {
        **os.environ, 'OMP_NUM_THREADS': '1', 'PYTHONWARNINGS': 'ignore', 'CUDA_VISIBLE_DEVICES': '',
        'WORLD_SIZE': '2', 'MASTER_ADDR': '127.0.0.1', 'MASTER_PORT': str(free_port()), 'PYTHONPATH': str(ROOT),
    }  # fmt: skip
    command = [sys.executable, '-c', PROGRAM.replace('{action}', action), '-opt', path, '--launcher', 'pytorch']
    processes = [
        subprocess.Popen(
            [*command, *arguments], cwd=workspace.root, env={**environment, 'RANK': str(rank), 'LOCAL_RANK': str(rank)},
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        ) for rank in range(2)
    ]  # fmt: skip
    try:
        said = [process.communicate(timeout=200)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    signalled = workspace.root / 'signalled'
    if signalled.exists():
        assert time.time() - float(signalled.read_text()) < 30
        signalled.unlink()
    return [process.returncode for process in processes], '\n'.join(said), [process.pid for process in processes]


def check_one_message(said, words):
    """One message of kdsr says it, and neither Python nor gloo writes a traceback."""
    messages = [line for line in said.splitlines() if line.startswith('kdsr: ') and 'the run stops when' not in line]
    assert len(messages) == 1, said
    assert words in messages[0]
    for noise in ('Traceback', 'gloo', 'Exception', 'frame #'):
        assert noise not in said, said


def states(workspace):
    folder = workspace.root / 'experiments' / 'run' / 'training_states'
    return sorted(int(path.stem) for path in folder.glob('*.state'))


def long_options(workspace, total=40):
    opt = options(workspace)
    opt['datasets']['train']['dataset_enlarge_ratio'] = 40
    opt['datasets']['train']['batch_size_per_gpu'] = 1
    opt['train']['total_iter'] = total
    opt['val']['val_freq'] = 100
    opt['logger']['save_checkpoint_freq'] = 1000
    return opt


@pytest.mark.slow
@pytest.mark.parametrize('rank', [0, 1])
def test_a_signal_to_any_process_saves_and_ends_all_and_the_run_resumes_exactly(workspace, rank):
    opt = long_options(workspace, total=200)
    action = AT_STEP.format(rank=rank, what='signal_self(signal.SIGTERM)')
    statuses, said, pids = launch(workspace, workspace.write(opt), action)
    assert statuses == [143, 143]
    check_one_message(
        said, f'stopped by SIGTERM to rank {rank} (process {pids[rank]} on {socket.gethostname()}): saved'
    )
    (saved,) = states(workspace)
    assert 4 <= saved < 200
    if rank == 0:
        assert saved == 4
        return
    opt['train']['total_iter'] = total = saved + 3
    opt['logger']['save_checkpoint_freq'] = total
    for name, arguments in (('run', ['--auto_resume']), ('whole', [])):
        statuses, said, _ = launch(workspace, workspace.write({**opt, 'name': name}), '', *arguments)
        assert statuses == [0, 0], said
    check_same_run(*(workspace.root / 'experiments' / name for name in ('whole', 'run')), total=total)


@pytest.mark.slow
@pytest.mark.parametrize('rank', [0, 1])
def test_when_a_process_is_killed_the_other_one_says_so_and_ends(workspace, rank):
    """Rank 0 saves what was there before the broken step; the run goes on from it exactly."""
    opt = long_options(workspace)
    action = AT_STEP.format(rank=rank, what='signal_self(signal.SIGKILL)')
    statuses, said, pids = launch(workspace, workspace.write(opt), action)
    assert statuses[rank] == -signal.SIGKILL
    assert statuses[1 - rank] == 1
    named = f'rank 1 (process {pids[1]} on {socket.gethostname()})' if rank else 'rank 0'
    check_one_message(said, f'the process of {named} has ended without a message')
    if rank == 0:
        assert states(workspace) == []
        return
    assert ': saved after iteration 4. To go on, add --auto_resume' in said
    assert states(workspace) == [4]
    opt['train']['total_iter'] = total = 7
    opt['logger']['save_checkpoint_freq'] = total
    for name, arguments in (('run', ['--auto_resume']), ('whole', [])):
        statuses, said, _ = launch(workspace, workspace.write({**opt, 'name': name}), '', *arguments)
        assert statuses == [0, 0], said
    check_same_run(*(workspace.root / 'experiments' / name for name in ('whole', 'run')), total=total)


@pytest.mark.slow
@pytest.mark.parametrize('what', ['SIGTERM', 'SIGKILL'])
def test_a_validation_of_rank_0_is_left_for_the_other_process(workspace, what):
    opt = long_options(workspace)
    opt['val']['val_freq'] = 3
    action = IN_VALIDATION.format(what=f'signal_self(signal.{what})')
    begun = time.monotonic()
    statuses, said, _ = launch(workspace, workspace.write(opt), action)
    assert time.monotonic() - begun < 100  # which the validation would take
    killed = what == 'SIGKILL'
    assert statuses == ([1, -signal.SIGKILL] if killed else [143, 143])
    cause = 'has ended without a message, as' if killed else 'stopped by SIGTERM to rank 1'
    check_one_message(said, cause)
    assert ': saved after iteration 3. To go on, add --auto_resume' in said
    assert states(workspace) == [3]


@pytest.mark.slow
def test_a_signal_before_the_first_step_ends_both(workspace):
    statuses, said, pids = launch(workspace, workspace.write(long_options(workspace)), BEFORE_THE_FIRST_STEP)
    assert statuses == [1, 1]
    check_one_message(said, f'interrupted by SIGTERM to rank 1 (process {pids[1]} on ')


@pytest.mark.slow
def test_an_error_of_one_process_is_told_by_it_and_ends_the_other(workspace):
    action = AT_STEP.format(rank=1, what="raise UserError('the image is bad')")
    statuses, said, pids = launch(workspace, workspace.write(long_options(workspace)), action)
    assert statuses == [1, 1]
    assert said.count('kdsr: the image is bad') == 1
    assert f'kdsr: the process of rank 1 (process {pids[1]} on ' in said
    assert 'has ended: see its message' in said
    assert 'Traceback' not in said


@pytest.fixture
def pair():
    """Rank 0 and rank 1 of a run, joined by a socket, in this process; rank 1's end is played by the test."""
    here, there = socket.socketpair()
    leader = Peers(0, 2, {1: 'process 7 on node7'}, {1: Connection(here)})
    other = Connection(there)
    leader._start()
    yield leader, other
    other.send(left=0, reason='')
    there.close()
    leader.leave(0)


def wait_until(condition):
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_signal_of_another_process_reaches_the_main_thread_of_rank_0_once(pair):
    leader, other = pair
    seen = []
    before = signal.signal(signal.SIGUSR1, lambda number, frame: (seen.append(number), leader.note_signal(number)))
    try:
        other.send(asked=int(signal.SIGUSR1))
        wait_until(lambda: seen)
        other.send(asked=int(signal.SIGUSR1))
        other.send(left=0, reason='')
        wait_until(lambda: 1 in leader._left)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert seen == [signal.SIGUSR1]
    assert leader.describe_asked() == ' to rank 1 (process 7 on node7)'
    leader.asked[0] = signal.SIGUSR1
    assert leader.describe_asked() == ' to all 2 processes'


def test_messages_may_come_in_pieces(pair):
    leader, other = pair
    for piece in (b'{"left": 0, ', b'"reason": "x"}', b'\n'):
        other.socket.sendall(piece)
        time.sleep(0.05)
    wait_until(lambda: leader._left == {1: 'x'})
    assert leader.failure is None


def test_a_process_that_left_at_the_end_of_the_run_is_no_failure(pair):
    leader, other = pair
    other.send(left=0, reason='')
    other.socket.close()
    wait_until(lambda: not leader._connections)
    assert leader.failure is None


def test_an_error_without_any_ended_process_is_left_alone(pair, monkeypatch):
    monkeypatch.setattr(peers, 'EXPLAINING_SECONDS', 0.2)
    assert pair[0].explain() is None


def test_a_stranger_is_not_taken_for_a_process_of_the_run():
    with peers._create_server() as listener:
        address = ('127.0.0.1', listener.getsockname()[1])
        strangers = [socket.create_connection(address) for _ in range(2)]
        strangers[0].sendall(b'GET / HTTP/1.1\r\n\r\n')
        Connection(strangers[1]).send(rank=1, token='wrong', name='x')
        own = socket.create_connection(address)
        Connection(own).send(rank=1, token='right', name='process 7 on node7')
        names, connections = peers._accept_all(listener, 2, 'right')
        assert names == {1: 'process 7 on node7'}
        for one in (*strangers, own, connections[1].socket):
            one.close()


def test_the_processes_meet_through_the_process_group(tmp_path, monkeypatch):
    monkeypatch.setenv('MASTER_ADDR', '127.0.0.1')
    torch.distributed.init_process_group('gloo', init_method=f'file://{tmp_path}/store', rank=0, world_size=1)
    try:
        Peers.meet(0, 1).leave(0)
    finally:
        torch.distributed.destroy_process_group()
