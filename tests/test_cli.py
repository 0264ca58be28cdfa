import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

import kdsr
from kdsr import quickstart
from kdsr.cli import command_parsers, main

ROOT = Path(__file__).parents[1]


@pytest.fixture
def photos(workspace):
    folder = workspace.root / 'holiday_HR'
    folder.mkdir()
    for i in range(2):
        image = np.random.default_rng(i).integers(0, 256, (50, 62, 3), np.uint8)
        cv2.imwrite(str(folder / f'{i}.png'), image)
    return folder


def test_prepare_makes_a_training_set(photos, workspace):
    cutting = ['--crop-size', '24', '--step', '12', '--workers', '1']
    main(['prepare', str(photos), '--out', 'data', '--scale', '2', *cutting])
    assert {p.name for p in (workspace.root / 'data').glob('[!.]*')} == {
        'holiday_HR_sub.lmdb',
        'holiday_LR_bicubic_X2_sub.lmdb',
    }


def test_a_folder_that_is_just_called_hr_gives_no_prefix(photos, workspace):
    photos.rename(workspace.root / 'HR')
    main(['prepare', 'HR', '--out', 'data', '--scale', '2', '--crop-size', '24', '--step', '12', '--workers', '1'])
    assert {p.name for p in (workspace.root / 'data').glob('[!.]*')} == {'HR_sub.lmdb', 'LR_bicubic_X2_sub.lmdb'}


def test_prepare_makes_a_test_set(photos, workspace):
    main(['prepare', str(photos), '--out', 'data', '--scale', '2', '4', '--benchmark', '--workers', '1'])
    assert {p.name for p in (workspace.root / 'data').iterdir()} == {'HR', 'LR_bicubic'}
    main(['prepare', str(photos), '--out', 'data', '--scale', '2', '4', '--benchmark', '--gtmod12', '--workers', '1'])
    made = {p.name for p in (workspace.root / 'data').iterdir()}
    assert made == {'HR', 'LR_bicubic', 'GTmod12', 'LRbicx2', 'LRbicx4'}
    assert cv2.imread('data/LRbicx4/0.png').shape == (12, 15, 3)


def test_prepare_makes_raw_sets_and_cache_fills_them_with_teachers(photos, workspace, capsys):
    cutting = ['--crop-size', '24', '--step', '12', '--workers', '1']
    main(['prepare', str(photos), '--out', 'data', '--scale', '2', '--raw', *cutting])
    opt = workspace.options(model_type='DistillationModel', distillation={
        'teachers': [workspace.teacher('EDSR')], 'losses': {'l_kd': {'type': 'ResponseLoss'}},
        'cache': {'path': 'cache.raw', 'self_ensemble': True},
    })  # fmt: skip
    opt['datasets']['train'].update(
        type='RawPairedImageDataset', uint8=True, gt_size=16, dataroot_gt='data/holiday_HR_sub.raw',
        dataroot_lq='data/holiday_LR_bicubic_X2_sub.raw',
    )  # fmt: skip
    main(['cache', workspace.write(opt), '--force_yml', 'distillation:cache:self_ensemble=false'])
    assert '2 images -> cache.raw: ' in capsys.readouterr().out
    opt['distillation']['cache']['self_ensemble'] = False
    assert 'l_kd: ' in next(workspace.train(opt).glob('train_*.log')).read_text()


def test_a_mistake_is_one_message(workspace):
    with pytest.raises(SystemExit, match=r'kdsr: .*nowhere'):
        main(['prepare', 'nowhere', '--out', 'data'])


def test_version_and_help(capsys):
    said = {'--version': kdsr.__version__, '--help': 'quickstart', 'prepare -h': '--step', 'cache -h': '--tile'}
    for arguments, words in said.items():
        with pytest.raises(SystemExit) as done:
            main(arguments.split())
        assert done.value.code == 0
        assert words in capsys.readouterr().out


def test_the_module_is_the_command():
    done = subprocess.run([sys.executable, '-m', 'kdsr', '--version'], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == f'kdsr {kdsr.__version__}'


def test_taps_and_complexity_of_a_shipped_file(capsys):
    main(['taps', str(ROOT / 'options/baseline_edsr_x4.yml')])
    assert 'body.4' in capsys.readouterr().out
    main(['complexity', str(ROOT / 'options/baseline_edsr_x4.yml'), str(ROOT / 'options/baseline_edsr_x4.yml')])
    told = capsys.readouterr().out
    assert told.count('baseline_edsr_x4') == 2  # once for each size
    assert '1,517,571' in told


def test_quickstart_outside_a_checkout_says_where_it_belongs(workspace):
    with pytest.raises(SystemExit, match='folder of the checkout'):
        main(['quickstart'])


def test_the_sample_photos_come_with_the_installed_packages(monkeypatch):
    import socket

    monkeypatch.setattr(socket, 'socket', lambda *a, **k: pytest.fail('the network is not needed'))
    sizes = [quickstart._photo(name).shape for name in (*quickstart.TRAIN_PHOTOS, *quickstart.UNSEEN_PHOTOS)]
    assert len(sizes) >= 8
    assert min(min(s[:2]) for s in sizes) >= 300
    assert not set(quickstart.TRAIN_PHOTOS) & set(quickstart.UNSEEN_PHOTOS)


def test_the_table_reports_the_difference_as_it_came_out():
    scores = {
        'bicubic': [(30.0, 0.9), (31.0, 0.9)],
        'student alone': [(31.0, 0.91), (32.0, 0.91)],
        'student distilled': [(30.9, 0.91), (31.9, 0.91)],
    }
    table = quickstart._table(scores)
    assert '| student distilled | 30.90 / 0.9100 | 31.90 / 0.9100 | 31.40 |' in table
    assert 'Distilled minus alone: -0.10 dB' in table
    assert '+0.90 dB over bicubic' in table


def test_the_quickstart_ends_with_what_to_do_with_ones_own_photos(monkeypatch, tmp_path):
    monkeypatch.setattr(quickstart.shutil, 'which', lambda name: '/usr/bin/kdsr')
    said = quickstart.describe_next_steps()
    assert said.startswith('Next: your own photos.')
    assert (ROOT / 'docs/tutorial.md').is_file()
    parsers = command_parsers()
    for command in re.findall(r'^  kdsr ([^#\n]+)', said, re.M):
        name, *words = command.split()
        parsers[name].parse_args(words)
    assert '/activate' not in said
    monkeypatch.setattr(quickstart.shutil, 'which', lambda name: None)
    (tmp_path / 'activate').touch()
    monkeypatch.setattr(quickstart.sys, 'executable', str(tmp_path / 'python'))
    assert '/activate\n  kdsr upscale' in quickstart.describe_next_steps()


def test_a_training_that_stops_is_told_with_its_last_lines(workspace, monkeypatch):
    (workspace.root / 'options/quickstart').mkdir(parents=True)
    (workspace.root / 'options/quickstart/broken.yml').write_text('name: broken\ntrain: {total_iter: 1}\n')
    (workspace.root / 'kdsr').mkdir()
    (workspace.root / 'kdsr/train.py').write_text('import sys\nsys.exit("the reason")\n')
    with pytest.raises(ValueError, match=r'(?s)broken\.yml stopped:.*the reason'):
        quickstart._train('broken', again=False)


def test_a_reader_that_has_seen_enough_is_no_error():
    command = [sys.executable, '-m', 'kdsr', 'options']
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.close()
        assert process.stderr.read() == ''
        assert process.wait(60) == 141


def test_ctrl_c_ends_any_command_with_one_line(monkeypatch, capsys):
    """Also while modules are imported, which takes seconds: no traceback."""
    monkeypatch.setattr('kdsr.options.shipped.list_shipped', lambda patterns: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(SystemExit) as ended:
        main(['options'])
    assert ended.value.code == 130
    assert capsys.readouterr().err == '\nkdsr: stopped.\n'


def test_another_broken_pipe_is_an_error(monkeypatch):
    monkeypatch.setattr('kdsr.options.shipped.list_shipped', lambda patterns: (_ for _ in ()).throw(BrokenPipeError))
    with pytest.raises(BrokenPipeError):
        main(['options'])
