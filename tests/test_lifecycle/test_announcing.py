"""What a run says at its start and at its end, and what only its log file has."""

import re
from pathlib import Path

import pytest
import torch
import yaml

from kdsr import cli
from kdsr.experiment import Experiment, read_experiment
from kdsr.experiment.loss_weights import find_loss_weights
from kdsr.lifecycle.announcing import SPEED_STEPS, SpeedEstimate
from kdsr.options import model_class_of
from tests.helpers.logs import log_of
from tests.helpers.runs import options

FOR_THE_FILE = ('Version Information', 'manual_seed: 0', 'network_g:', '(conv_first): Conv2d', 'Model [', 'is built.')


@pytest.fixture
def distillation(workspace):
    opt = options(workspace)
    block = {
        'teachers': [workspace.teacher('RCAN')],
        'features': {'f': {'student': 'body.0', 'teacher': 'body.1'}},
        'losses': {'l_fit': {'type': 'FitNetLoss', 'loss_weight': 0.25}},
        'health_check': True,
    }
    return {**opt, 'model_type': 'DistillationModel', 'distillation': block}


@pytest.fixture
def good_teachers(monkeypatch):
    """Random teachers are worse than bicubic upsampling; what is printed about good ones is the same line."""
    monkeypatch.setattr('kdsr.distillation.health._refuse_worse_than_bicubic', lambda errors, slack: None)


def test_a_training_starts_with_what_a_person_wants_to_know(workspace, distillation, good_teachers, capfd):
    folder = workspace.train(distillation)
    said = capfd.readouterr().err
    start = said[: said.index('iter:       1')]
    assert len(start.splitlines()) < 20
    for words in (
        'experiment  run: DistillationModel, x2, from ',
        'student     EDSR, 6.87 K parameters, starts from random weights',
        'teachers    rcan (RCAN, RCAN_x2.pth)',
        'losses      1 x l_pix (L1Loss) + 0.25 x l_fit (FitNetLoss)',
        'data        4 training images of photos, batches of 2 crops of 16x16; ',
        'validation on tiny (1) every 3 iterations',
        'length      6 iterations, 3 epochs, Adam with learning rate 0.001',
        'device      cpu, ',
        'results     experiments/run/',
        'Teachers on training pairs: bicubic upsampling ',
    ):
        assert words in start
    assert re.search(r'Teachers on training pairs: .*rcan -?[\d.]+ dB', start)
    log = log_of(folder)
    for words in FOR_THE_FILE:
        assert words not in said, words
        assert words in log, words
    assert 'experiment  run: DistillationModel' in log


@pytest.mark.parametrize('how', ['option', 'argument'])
def test_an_option_brings_everything_back(workspace, how, capfd):
    opt = options(workspace)
    opt['logger']['verbose'] = how == 'option'
    workspace.train(opt, *(['--verbose'] if how == 'argument' else []))
    said = capfd.readouterr().err
    assert all(words in said for words in FOR_THE_FILE)
    assert 'experiment  run: StudentModel' in said


def test_a_training_ends_with_what_is_best_and_the_next_commands_work(workspace, capfd, monkeypatch):
    opt = options(workspace)
    opt['datasets']['val'] = workspace.images(count=2, size=32, name='tiny')
    folder = workspace.train(opt)
    end = capfd.readouterr().err.rpartition('The training is done.\n')[2]
    best = yaml.safe_load(re.search(r'best on tiny +psnr ([\d.]+) at iteration [36]\n', end)[1])
    scores = [float(value) for value in re.findall(r'# psnr: ([\d.]+)', log_of(folder))]
    assert best == max(scores)
    network = re.search(r'best network +(\S+)', end)[1]
    assert Path(network) == (folder / 'models' / 'net_g_best.pth').relative_to(workspace.root)
    commands = re.findall(r'kdsr (.*)', end)
    assert [command.split()[0] for command in commands] == ['benchmark', 'export', 'upscale']
    monkeypatch.chdir(workspace.root)
    (workspace.root / 'tiny' / 'lq2').rename('photos_of_mine')
    cli.main([word if word != 'photos' else 'photos_of_mine' for word in commands[2].split()])
    assert len(list(Path('large').iterdir())) == 2


def test_a_test_prints_its_results_without_the_options(workspace, capfd):
    opt = options(workspace)
    folder = workspace.train(opt)
    capfd.readouterr()
    test = {key: opt[key] for key in ('name', 'model_type', 'scale', 'num_gpu', 'manual_seed', 'network_g', 'val')}
    test['datasets'] = {'test_1': opt['datasets']['val']}
    test['path'] = {'pretrain_network_g': str(folder / 'models' / 'net_g_latest.pth')}
    results = workspace.test(test)
    said = capfd.readouterr().err
    assert 'test     run: StudentModel, x2, from ' in said
    assert 'student  EDSR, 6.87 K parameters, from experiments/run/models/net_g_latest.pth' in said
    assert '# psnr: ' in said
    assert all(words not in said for words in FOR_THE_FILE)
    assert all(words in next(results.glob('test_*.log')).read_text() for words in FOR_THE_FILE)


def test_tensorboard_gets_rates_unweighted_terms_and_images(workspace, distillation, good_teachers):
    distillation['logger']['use_tb_logger'] = True
    log = log_of(workspace.train(distillation))
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(workspace.root / 'tb_logger' / 'run'))
    events.Reload()
    rates = [event.value for event in events.Scalars('learning rate')]
    assert len(set(rates)) == 3
    assert rates == pytest.approx([float(rate) for rate in re.findall(r'lr:\(([\d.e-]+),', log)], rel=1e-6)
    weighted = [event.value for event in events.Scalars('losses/l_fit')]
    plain = [event.value for event in events.Scalars('losses unweighted/l_fit')]
    assert plain == pytest.approx([4 * value for value in weighted], rel=1e-5)
    assert 'losses unweighted/l_pix' not in events.Tags()['scalars']  # its factor is 1
    logged = re.findall(r'l_fit: (\S+) .*, unweighted l_fit=(\S+)', log)
    assert [float(value) for _, value in logged] == pytest.approx([4 * float(value) for value, _ in logged], rel=1e-3)
    assert set(events.Tags()['images']) == {'tiny/lq', 'tiny/gt', 'tiny/result'}
    assert [event.step for event in events.Images('tiny/result')] == [3, 6]
    assert (events.Images('tiny/result')[0].width, events.Images('tiny/lq')[0].width) == (16, 8)


def test_sample_images_do_not_change_the_training(workspace):
    weights = []
    for name, shown in (('run', False), ('other', True)):
        opt = {**options(workspace), 'name': name}
        opt['logger']['use_tb_logger'] = shown
        weights.append(torch.load(workspace.train(opt) / 'models' / 'net_g_latest.pth')['params'])
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])


def test_the_factor_of_every_term_is_known():
    experiment = Experiment(
        'run',
        model_class_of('DistillationModel'),
        losses={'l_kd': {'type': 'ResponseLoss'}, 'l_dwt': {'type': 'WaveletLoss', 'loss_weight': 3}},
        views={'zoom': {'type': 'ZoomIn', 'loss_weight': 0.5}},
        training=read_experiment({
            'train': {
                'pixel_opt': {'type': 'L1Loss', 'loss_weight': 0.1},
                'perceptual_opt': {'type': 'PerceptualLoss', 'layer_weights': {}, 'perceptual_weight': 2.0},
            }
        }).training,
    )  # fmt: skip
    assert find_loss_weights(experiment) == {
        'l_pix': 0.1, 'l_percep': 2.0, 'l_style': 0.0, 'l_kd': 1.0, 'l_dwt': 3.0,
        'l_pix_zoom': 0.05, 'l_percep_zoom': 1.0, 'l_style_zoom': 0.0, 'l_kd_zoom': 0.5, 'l_dwt_zoom': 1.5,
    }  # fmt: skip


def test_the_time_of_a_run_is_said_once_from_measured_steps(monkeypatch):
    """The first step is left out; then each takes 2 s."""
    clock = iter([100.0, 100.0 + 2.0 * SPEED_STEPS])
    monkeypatch.setattr('kdsr.lifecycle.announcing.time.monotonic', lambda: next(clock))
    estimate = SpeedEstimate()
    said = [estimate.at_step(step, 3611) for step in range(1, 40)]
    assert [step for step, text in enumerate(said, 1) if text] == [SPEED_STEPS + 2]
    assert said[SPEED_STEPS + 1] == '2 s an iteration: about 2.0 h for the other 3,600, without validation.'
