import csv

import cv2
import numpy as np
import pytest
import torch
from basicsr.archs import build_network

from kdsr.cli import main
from kdsr.errors import UserError
from kdsr.inspection import attribution as room
from kdsr.inspection.attribution import report
from kdsr.inspection.local_attribution import BlurPath, OutputWindow
from kdsr.inspection.scenes import Finding, make_scene
from kdsr.networks.subjects import read_networks
from tests.conftest import network_opt, shared_folder

FAST = ['--steps', '2', '--kernel', '3', '--field', '12', '--size', '8']


@pytest.fixture
def photo(workspace):
    workspace.images()
    return str(workspace.root / 'photos' / 'gt' / '000.png')


def aggregating(workspace):
    teachers = [workspace.teacher('EDSR'), workspace.teacher('SwinIR')]
    path = workspace.weights(network_opt('DCTSwin'), 'aggregator', teachers=['edsr', 'swinir'])
    fused = {'network': network_opt('DCTSwin'), 'path': path}
    return workspace.options(
        model_type='DistillationModel',
        path={'pretrain_network_g': workspace.weights(network_opt('EDSR'), 'student', seed=3)},
        distillation={'teachers': teachers, 'aggregator': fused, 'losses': {'l_kd': {'type': 'ResponseLoss'}}},
    )


def test_networks_and_teachers_in_one_figure_and_table(workspace, photo, capsys):
    option_file = workspace.write(aggregating(workspace))
    main(['attribution', f'mine={option_file}', '--teachers', '--image', photo, '--out', 'out', *FAST])
    assert '| network | DI |' in capsys.readouterr().out
    rows = list(csv.DictReader((workspace.root / 'out' / 'attribution.csv').read_text().splitlines()))
    assert [row['network'] for row in rows] == ['mine', 'edsr', 'swinir', 'MT', 'edsr in mine', 'swinir in mine']
    assert all(0 < float(row['DI']) < 100 for row in rows)
    assert [row['share'] for row in rows[:4]] == [''] * 4
    assert sum(float(row['share'].split()[0]) for row in rows[4:]) == pytest.approx(100, abs=0.11)
    for name in ('000.png', '000_mine_teachers.png'):
        picture = cv2.imread(str(workspace.root / 'out' / name))
        assert picture.shape[1] > 500
        assert picture.std() > 20


def test_the_parts_of_the_teachers_sum_up_to_what_the_aggregator_gains(workspace, photo):
    _, fusion = read_networks(workspace.write(aggregating(workspace)), with_teachers=True)
    scene = make_scene(photo, 2, (10, 12), 8, 12)
    parts = list(room.attribute_teachers(fusion, scene, BlurPath(1.2, 3, 60), 'cpu'))
    assert parts[0].covered == pytest.approx(1, abs=0.05)
    assert [part.levels.shape for part in parts] == [(24, 24)] * 2
    assert sum(part.share for part in parts) == pytest.approx(1)


def test_an_aggregator_of_stage_1_brings_its_teachers(workspace):
    opt = aggregating(workspace)
    fused = opt['distillation'].pop('aggregator')
    del opt['distillation']['losses']
    opt.update(
        model_type='AggregationModel', network_g=fused['network'], path={'pretrain_network_g': fused['path']}
    )  # fmt: skip
    found, fusion = read_networks(workspace.write(opt))
    assert [subject.name for subject in found] == ['edsr', 'swinir', 'MT']
    assert found[-1].run(torch.rand(1, 3, 9, 10)).shape == (1, 3, 18, 20)
    assert fusion.name == 'run'


def test_a_run_is_taken_with_its_last_weights_or_those_of_an_iteration(workspace):
    opt = workspace.options()
    option_file = workspace.write(opt)
    with pytest.raises(UserError, match='has no weights yet'):
        read_networks(option_file)
    folder = workspace.root / 'experiments' / 'run' / 'models'
    folder.mkdir(parents=True)
    for i, label in enumerate(('4', 'latest')):
        torch.manual_seed(i)
        torch.save({'params': build_network(opt['network_g']).state_dict()}, folder / f'net_g_{label}.pth')
    image = torch.rand(1, 3, 6, 6)
    for i, label in enumerate(('4', 'latest')):
        torch.manual_seed(i)
        own = build_network(opt['network_g']).eval()
        (subject,), _ = read_networks(option_file, iteration=label)
        assert torch.equal(subject.run(image), own(image))


def test_weights_are_described_or_recognised(workspace, photo):
    path = workspace.weights(network_opt('SwinIRLight'), 'light')
    (subject,), _ = read_networks(path, network_opt('SwinIRLight'))
    assert (subject.name, subject.scale, subject.luminance) == ('light', 2, False)
    assert subject.run(torch.rand(1, 3, 7, 9)).shape == (1, 3, 14, 18)  # padded to its window
    with pytest.raises(UserError, match='--network'):
        read_networks(workspace.weights(network_opt('DCTSwin'), 'odd'))
    with pytest.raises(UserError, match='does not exist'):
        read_networks('nothing.pth')


@pytest.mark.shared
def test_official_weights_are_recognised():
    path = shared_folder() / 'weights' / 'IMDN_x4.pth'
    if not path.is_file():
        pytest.skip('no shared weights')
    (subject,), _ = read_networks(f'IMDN={path}')
    assert (subject.name, subject.scale) == ('IMDN', 4)


def test_luminance_networks_see_luminance(workspace, photo):
    network = {'type': 'FSRCNN', 'upscale': 2}
    (subject,), _ = read_networks(workspace.weights(network, 'y'), network)
    assert subject.luminance
    found = room.attribute_network(subject, make_scene(photo, 2, None, 8, 12), BlurPath(1.2, 3, 2), 'cpu')
    assert found.sr.shape == (24, 24, 3)
    assert found.levels.shape == (12, 12)


def test_the_scene_is_cut_out_around_the_window(workspace, photo):
    whole = cv2.imread(photo)
    scene = make_scene(photo, 2, (30, 20), 8, 12)
    assert scene.gt.shape == (24, 24, 3)
    assert scene.lq.shape == (12, 12, 3)
    window = scene.window
    cut = scene.gt[window.top : window.top + 8, window.left : window.left + 8]
    np.testing.assert_array_equal(cut, whole[20:28, 30:38])
    assert make_scene(photo, 2, None, 8, 0).gt.shape == whole.shape


@pytest.mark.parametrize(('position', 'size', 'told'), [((45, 0), 8, 'not inside'), (None, 60, 'does not fit')])
def test_a_window_outside_the_image_is_refused(workspace, photo, position, size, told):
    with pytest.raises(UserError, match=told):
        make_scene(photo, 2, position, size, 12)


def test_networks_of_two_scales_are_refused(workspace, photo):
    files = []
    for s in (2, 4):
        path = {'pretrain_network_g': workspace.weights(network_opt('EDSR', s), f'w{s}')}
        files.append(workspace.write(workspace.options(scale=s, name=f'x{s}', path=path), f'x{s}.yml'))
    with pytest.raises(UserError, match='same scale'):
        room.write_attribution(files, [photo])


def test_the_report_has_means_over_images():
    rows = [('a', '', 'net', '10.00', '', '1'), ('b', '', 'net', '20.00', '', '1')]
    assert '| mean | | net | 15.00 | | |' in report(rows, BlurPath(), 64)
    assert Finding('x', np.ones((4, 4)), np.zeros(1), 1.0).di == pytest.approx(100)
    assert OutputWindow(1, 2).size == 16
