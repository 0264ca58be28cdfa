import json

import pytest

from kdsr.comparison.recorded_training import train_recorded
from kdsr.comparison.training_record import FILE, Point, read_record


def write(folder, *events):
    lines = [json.dumps({'date': i, **event}) for i, event in enumerate(events)]
    (folder / FILE).write_text('\n'.join(lines) + '\n')


def validation(iteration, value, seconds):
    return {
        'event': 'validation', 'iter': iteration, 'set': 'Set5', 'values': {'psnr': value},
        'seconds': seconds, 'cpu_seconds': 2 * seconds,
    }  # fmt: skip


def log(iteration, seconds):
    return {
        'event': 'log', 'iter': iteration, 'losses': {'l_pix': 1.0}, 'step_seconds': 0.5,
        'seconds': seconds, 'cpu_seconds': 2 * seconds,
    }  # fmt: skip


def start(iteration):
    return {'event': 'start', 'iter': iteration}


def test_no_record_is_none(tmp_path):
    assert read_record(str(tmp_path)) is None


def test_what_a_resumed_run_does_again_counts_once(tmp_path):
    killed = [start(0), validation(10, 20.0, 1.0), log(20, 2.0), validation(20, 21.0, 2.0), log(25, 3.0)]
    resumed = [start(20), log(25, 0.5), validation(30, 23.0, 1.0)]
    write(tmp_path, *killed, *resumed, {'event': 'end', 'iter': 30, 'seconds': 1.0, 'cpu_seconds': 2.0})
    record = read_record(str(tmp_path))
    assert record.curves['Set5', 'psnr'] == [
        Point(10, 20.0, 1.0, 2.0), Point(20, 21.0, 2.0, 4.0), Point(30, 23.0, 3.0, 6.0)
    ]  # fmt: skip
    assert [p.iteration for p in record.losses['l_pix']] == [20, 25]
    assert (record.iteration, record.seconds, record.cpu_seconds) == (30, 3.0, 6.0)
    assert record.ended == 8


def test_a_run_that_starts_over_forgets_everything(tmp_path):
    write(tmp_path, start(0), validation(10, 20.0, 1.0), start(0), log(5, 0.5))
    record = read_record(str(tmp_path))
    assert not record.curves['Set5', 'psnr']
    assert (record.iteration, record.seconds, record.ended) == (5, 0.5, None)


def test_half_a_line_of_a_killed_process_is_left_out(tmp_path):
    write(tmp_path, start(0), validation(10, 20.0, 1.0))
    with open(tmp_path / FILE, 'a') as file:
        file.write('{"event": "validation", "iter": 20, "se')
    assert read_record(str(tmp_path)).iteration == 10


@pytest.fixture
def opt(workspace):
    opt = workspace.options(iterations=4)
    opt['val']['val_freq'] = 2
    return opt


def test_a_training_records_what_basicsr_logs_and_goes_on_when_resumed(workspace, opt):
    def train(opt, *arguments):
        workspace._run(train_recorded, workspace.write(opt), arguments)

    train({**opt, 'train': {**opt['train'], 'total_iter': 3}})
    folder = workspace.root / 'experiments' / 'run'
    record = read_record(str(folder))
    assert [p.iteration for p in record.curves['photos', 'psnr']] == [2, 3]
    assert [p.iteration for p in record.losses['l_pix']] == [1, 2, 3]
    with open(folder / FILE, 'a') as file:
        file.write('{"event": "log"')  # as a kill leaves it
    train(opt, '--auto_resume')

    record = read_record(str(folder))
    assert [event['iter'] for event in record.starts] == [0, 2]
    assert record.starts[1]['parameters'] > 1000
    assert record.ended is not None
    assert record.iteration == 4
    psnr = record.curves['photos', 'psnr']
    assert [p.iteration for p in psnr] == [2, 4]
    log = sorted(folder.glob('train_*.log'))[-1].read_text()
    assert log.count('Validation photos') == 1  # the last iteration is validated once
    assert f'# psnr: {psnr[-1].value:.4f}' in log
    assert 0 < psnr[0].seconds < psnr[1].seconds
