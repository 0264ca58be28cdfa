"""The lines of the log: BasicSR's, and what a person wants to know."""

import re
import sys

import pytest

from kdsr.errors import UserError
from kdsr.lifecycle.progress import ProgressLogger, describe_progress, measure_peak_memory
from tests.helpers.logs import log_of
from tests.helpers.runs import options


def test_a_line_tells_how_far_how_fast_and_what_it_waits_for():
    numbers = {'images/s': 123.456, 'waiting for data %': 12.6, 'memory GB': 3.14159}
    assert describe_progress(50, 200, numbers) == (
        '| 25.0 % done, 123 images/s, 13 % waiting for data, 3.14 GB at most'
    )  # fmt: skip
    assert 0.05 < measure_peak_memory() < 1000


@pytest.mark.parametrize(
    ('processes', 'opt'),
    [
        (1, {'num_gpu': 0, 'dist': False}),
        (2, {'num_gpu': 1, 'dist': True, 'world_size': 2}),
    ],
)
def test_the_speed_counts_the_images_of_all_processes(processes, opt):
    """4 images a process in 2 s, of which 0.5 s passed before they were there."""
    opt = {
        'name': 'run', 'datasets': {'train': {'batch_size_per_gpu': 4}}, 'train': {'total_iter': 200},
        'logger': {'print_freq': 1, 'use_tb_logger': False}, **opt,
    }  # fmt: skip
    logger = ProgressLogger(opt)
    logger({'epoch': 0, 'iter': 50, 'lrs': [1e-4], 'time': 2.0, 'data_time': 0.5, 'l_pix': 1.0})
    assert logger.ending.startswith(f'| 25.0 % done, {2 * processes} images/s, 25 % waiting for data, ')


def test_the_log_and_tensorboard_of_a_run(workspace):
    opt = options(workspace)
    opt['logger']['use_tb_logger'] = True
    log = log_of(workspace.train(opt))
    line = r'iter:       6, lr:\(.*,\)\] \[eta: .*, time \(data\): [\d.]+ \([\d.]+\)\] l_pix: [\d.e-]+ \| '
    assert re.search(line + r'100\.0 % done, [\d.e+]+ images/s, \d+ % waiting for data, [\d.]+ GB at most\n', log)
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(workspace.root / 'tb_logger' / 'run'))
    events.Reload()
    wanted = {'losses/l_pix', 'metrics/tiny/psnr', 'speed/images/s', 'speed/memory GB', 'speed/waiting for data %'}
    assert wanted <= set(events.Tags()['scalars'])
    assert [e.step for e in events.Scalars('losses/l_pix')] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize(('package', 'logger'), [('tensorboard', {}), ('wandb', {'wandb': {'project': 'p'}})])
def test_a_missing_package_is_named(workspace, monkeypatch, package, logger):
    monkeypatch.setitem(sys.modules, 'torch.utils.tensorboard' if package == 'tensorboard' else 'wandb', None)
    opt = options(workspace)
    opt['logger'].update(use_tb_logger=True, **logger)
    with pytest.raises(UserError, match=f'pip install {package}'):
        workspace.train(opt)
