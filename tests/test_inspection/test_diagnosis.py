"""`kdsr diagnose` on tiny trained runs, against NumPy."""

import importlib.util
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from basicsr.archs import build_network

from kdsr.cli import main
from kdsr.distillation.outputs import Batch
from kdsr.errors import UserError
from kdsr.inspection.diagnosis import DiagnosisSettings, diagnose
from kdsr.inspection.diagnosis_figure import draw_worst
from kdsr.inspection.patch_comparison import compute_feature_psnr, cut_into_tiles
from kdsr.inspection.training_patches import TrainingPatch, count_training_patches
from kdsr.networks.trained_run import TrainedRun
from tests.conftest import network_opt
from tests.helpers.pictures import float_images, network
from tests.helpers.real_world import model_options

TAPS = {'early': {'student': 'body.0', 'teacher': 'body.1'}, 'late': {'student': 'body.1', 'teacher': 'body.2'}}
WIDE = {**network_opt('EDSR'), 'num_feat': 12}
FACD = {'type': 'FACDLoss', 'layer_weights': [0.6, 0.4]}
RESPONSE = {'type': 'ResponseLoss'}


def options(workspace, losses, teacher=WIDE, features=TAPS, **changes):
    """Crops of LR 16; validation images of LR 24 hold one, those of LR 40 hold four."""
    opt = workspace.options(model_type='DistillationModel', **changes)
    member = {'name': 't', 'network': teacher, 'path': workspace.weights(teacher, 'teacher')}
    opt['distillation'] = {'teachers': [member], 'losses': losses, 'features': features}
    opt['datasets']['val_2'] = workspace.images(count=2, size=80, name='large')
    return opt


def trained(workspace, losses, **changes):
    opt = options(workspace, losses, **changes)
    workspace.train(opt)
    return str(workspace.root / 'run.yml')


@torch.no_grad()
def expected_share(workspace, name, student, teacher):
    """Patch by patch: how many of how many the teacher is worse in."""
    worse = []
    for lq, gt in zip(*(float_images(workspace.root / name / kind) for kind in ('lq2', 'gt'))):
        for top in range(0, lq.shape[-2] - 15, 16):
            for left in range(0, lq.shape[-1] - 15, 16):
                low = lq[..., top : top + 16, left : left + 16]
                high = gt[..., 2 * top : 2 * top + 32, 2 * left : 2 * left + 32].numpy()
                ours, theirs = (np.abs(net(low).numpy() - high).mean() for net in (student, teacher))
                worse.append(ours < theirs)
    return sum(worse), len(worse)


def test_a_trained_run_end_to_end(workspace, capsys):
    file = trained(workspace, {'l_facd': FACD}, iterations=3)
    main(['diagnose', file, '--pictures', '2'])
    told = capsys.readouterr().out
    folder = workspace.root / 'experiments' / 'run'
    assert (folder / 'diagnosis' / 'diagnosis_latest.md').read_text() in told
    student = network(network_opt('EDSR'), folder / 'models' / 'net_g_latest.pth', 'params_ema')
    teacher = network(WIDE, workspace.root / 'teacher.pth', 'params')
    counts = [expected_share(workspace, name, student, teacher) for name in ('photos', 'large')]
    assert [patches for _, patches in counts] == [4, 8]
    counts.append(tuple(map(sum, zip(*counts))))
    for name, images, (worse, patches) in zip(('photos', 'large', 'all'), (4, 2, 6), counts):
        assert f'| {name} | {images} | {patches} | {100 * worse / patches:.1f} % |' in told
    rows = re.findall(r'\| (early|late|mean)[^|]*\| ([\d.]+) dB \| ([\d.]+) dB \|', told)
    assert [name for name, *_ in rows] == ['early', 'late', 'mean']
    values = np.array([[float(v) for v in of_sets] for _, *of_sets in rows])
    np.testing.assert_allclose(values[2], values[:2].mean(0), atol=0.011)
    assert '| early (helper of `l_facd`) |' in told
    picture = cv2.imread(str(folder / 'diagnosis' / 'diagnosis_latest.png'))
    assert picture.shape[1] > picture.shape[0] > 400
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 500


@pytest.mark.parametrize('model_type', ['SRModel', 'SRGANModel', 'RealESRNetModel'])
def test_other_model_classes_with_the_block_can_be_diagnosed(workspace, model_type):
    opt = model_options(options(workspace, {'l_facd': FACD}), model_type)
    own = workspace.options()  # any student: what is tested is that the run is built and read
    (workspace.root / 'experiments' / 'run' / 'models').mkdir(parents=True)
    student = build_network(own['network_g'])
    torch.save({'params': student.state_dict()}, workspace.root / 'experiments/run/models/net_g_latest.pth')
    opt['distillation']['losses'] = {'l_kd': RESPONSE}
    run = TrainedRun(workspace.write(opt))
    _, lq, gt = next(run.images('photos'))
    assert gt.shape[-1] == 2 * lq.shape[-1]
    assert torch.equal(run.model.net_g.state_dict()['conv_first.weight'], student.state_dict()['conv_first.weight'])
    assert run.model.teacher(Batch(lq, gt)).image.shape == gt.shape


def test_the_students_feature_goes_through_the_helper_that_was_trained(workspace):
    file = trained(workspace, {'l_facd': FACD}, iterations=2)
    text = diagnose(file, DiagnosisSettings('2', images=1, pictures=0))
    run = TrainedRun(file, '2')
    helper = torch.load(workspace.root / 'experiments/run/models/net_distill_2.pth', weights_only=True)['params']
    assert all(torch.equal(v, helper[k]) for k, v in run.model.losses.state_dict().items())
    values = {}
    for name in run.set_names():
        for _, lq, _ in run.images(name, 1):
            for low in cut_into_tiles(lq, 16).split(1):
                with torch.no_grad(), run.model.tap as features:
                    run.model.net_g(low)
                with torch.no_grad():
                    ours = run.model.losses['l_facd'].regressors['of_early'](features['early']).numpy()
                    theirs = run.model.teacher.members[0](low).features['early'].numpy()
                error = np.mean((ours.astype(np.float64) - theirs) ** 2)
                values.setdefault(name, []).append(10 * np.log10(255**2 / error))
    assert [len(of_set) for of_set in values.values()] == [1, 4]
    means = [np.mean(of_set) for of_set in values.values()]
    assert f'| early (helper of `l_facd`) | {means[0]:.2f} dB | {means[1]:.2f} dB |' in text
    assert not (workspace.root / 'experiments/run/diagnosis/diagnosis_2.png').exists()


@pytest.mark.parametrize(
    ('teacher', 'features', 'words'),
    [
        (network_opt('EDSR'), TAPS, r'\| early \| [\d.]+ dB'),
        (
            WIDE,
            TAPS,
            r'early cannot be compared: its shapes are \(8, 16, 16\) and \(12, 16, 16\), and no loss',
        ),
        (WIDE, {}, 'taps no features'),
    ],
)
def test_features_without_a_regressor(workspace, teacher, features, words):
    file = trained(workspace, {'l_kd': RESPONSE}, teacher=teacher, features=features)
    assert re.search(words, diagnose(file, DiagnosisSettings(images=1, pictures=0)))


def test_a_run_whose_student_started_as_its_teacher_and_read_a_cache(workspace):
    """The teachers run anew, and an estimator's mean is compared."""
    opt = options(workspace, {'l_vid': {'type': 'VIDLoss'}}, teacher=network_opt('EDSR'))
    opt['distillation']['init_from'] = {'teacher': 't'}
    workspace.train(opt)
    assert '| early (helper of `l_vid`) |' in diagnose(workspace.write(opt), DiagnosisSettings(images=1, pictures=0))
    del opt['distillation']['init_from']
    opt['distillation'].update(cache='gone', losses={'l_kd': RESPONSE}, features={})
    file = workspace.write(opt)
    assert '| photos | 1 | 1 |' in diagnose(file, DiagnosisSettings(images=1, pictures=0))


def test_luminance_and_a_student_with_windows(workspace):
    student = {**network_opt('SwinIRLight'), 'in_chans': 1}
    teacher = {**network_opt('SwinIR'), 'in_chans': 1}
    taps = {'f': {'student': 'layers.0', 'teacher': 'layers.1'}}
    changes = {'color': 'y', 'network_g': student, 'teacher': teacher, 'features': taps}
    file = trained(workspace, {'l_kd': RESPONSE}, **changes)
    text = diagnose(file, DiagnosisSettings(images=1, pictures=1), out='elsewhere')
    assert re.search(r'\| f \| -?[\d.]+ dB', text)
    assert Path('elsewhere/diagnosis_latest.png').exists()


def test_tiles_and_feature_psnr():
    image = torch.arange(2 * 7 * 9).view(1, 2, 7, 9)
    cut = cut_into_tiles(image, 3)
    assert cut.shape == (6, 2, 3, 3)
    assert torch.equal(cut[4], image[0, :, 3:6, 3:6])
    assert cut_into_tiles(image, 8).shape[0] == 0
    assert compute_feature_psnr(torch.zeros(1, 2, 3, 3), torch.full((1, 2, 3, 3), 2.55)).item() == pytest.approx(40)
    assert torch.isfinite(compute_feature_psnr(image.float(), image.float())).all()


def not_trained(workspace):
    return options(workspace, {'l_kd': RESPONSE})


def small_images(workspace):
    opt = options(workspace, {'l_kd': RESPONSE})
    workspace.train(opt)
    opt['datasets'] = {**opt['datasets'], 'val': workspace.images(size=16, name='small'), 'val_2': None}
    return opt


def no_truth(workspace):
    opt = options(workspace, {'l_kd': RESPONSE})
    workspace.train(opt)
    val = {'name': 'v', 'type': 'SingleImageDataset', 'io_backend': {'type': 'disk'}}
    opt['datasets'] = {
        'train': opt['datasets']['train'],
        'val': {**val, 'dataroot_lq': str(workspace.root / 'large/lq2')},
    }
    return opt


@pytest.mark.parametrize(('case', 'arguments', 'words'), [
    (lambda w: w.options(), {}, 'there is no `distillation:` block'),
    (not_trained, {}, r'net_g_latest\.pth does not exist: .*kdsr train .*run\.yml'),
    (small_images, {'iteration': '7'}, r'net_g_7\.pth does not exist: .*it has 2, best, latest: `--iter latest`'),
    (small_images, {}, 'no validation image is as large as a training patch of 16x16'),
    (no_truth, {}, "'v' has no ground truth"),
])  # fmt: skip
def test_mistakes_are_told(workspace, case, arguments, words):
    with pytest.raises(UserError, match=words):
        diagnose(workspace.write(case(workspace)), DiagnosisSettings(pictures=0, **arguments))


def test_drawing_needs_matplotlib(workspace, monkeypatch):
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
    with pytest.raises(UserError, match='pip install -e'):
        diagnose('run.yml')


def test_raw_features_do_not_depend_on_the_size_of_the_helper(workspace):
    """A loss that is a ratio says nothing about the size of what its helper returns."""
    same = network_opt('EDSR')
    file = trained(workspace, {'l_facd': FACD}, teacher=same, iterations=2)
    before = diagnose(file, DiagnosisSettings(images=1, pictures=0))
    helpers = workspace.root / 'experiments/run/models/net_distill_latest.pth'
    content = torch.load(helpers, weights_only=True)
    content['params'] = {key: 10 * value for key, value in content['params'].items()}
    torch.save(content, helpers)
    after = diagnose(file, DiagnosisSettings(images=1, pictures=0))
    raw, mapped = (
        [re.search(pattern, text)[1] for text in (before, after)]
        for pattern in (r'\| early \| ([\d.]+) dB', r'\| early \(helper of `l_facd`\) \| (-?[\d.]+) dB')
    )
    assert raw[0] == raw[1]
    assert abs(float(mapped[0]) - float(mapped[1])) > 1


def test_the_peak_is_the_range_of_the_teachers_network(workspace):
    on_one = {**network_opt('EDSR'), 'img_range': 1.0, 'num_feat': 8}
    file = trained(workspace, {'l_kd': RESPONSE}, teacher=on_one)
    text = diagnose(file, DiagnosisSettings(images=1, pictures=0))
    assert 'peak 1 (' in text
    run = TrainedRun(file)
    values = []
    for _, lq, _ in run.images('large', 1):
        for low in cut_into_tiles(lq, 16).split(1):
            with torch.no_grad(), run.model.tap as features:
                run.model.net_g(low)
            theirs = run.model.teacher.members[0](low).features['late'].numpy()
            values.append(-10 * np.log10(np.mean((features['late'].numpy().astype(np.float64) - theirs) ** 2)))
    assert float(re.search(r'\| late \| \S+ dB \| (\S+) dB', text)[1]) == pytest.approx(np.mean(values), abs=0.011)


def alone_option(workspace, weights):
    """A test file of a student that was trained alone."""
    opt = {
        'name': 'alone', 'model_type': 'SRModel', 'scale': 2, 'network_g': WIDE, 'num_gpu': 0,
        'datasets': {'test_1': workspace.images()}, 'path': {'pretrain_network_g': weights}, 'val': {},
    }  # fmt: skip
    return workspace.write(opt, 'alone.yml')


def test_other_sets_and_training_patches(workspace):
    opt = options(workspace, {'l_kd': RESPONSE})
    workspace.train(opt)
    for name in ('A', 'B'):
        workspace.images(count=1, size=64, name=f'tests/{name}')
        (workspace.root / 'tests' / name / 'gt').rename(workspace.root / 'tests' / name / 'GT')
    alone = workspace.weights(WIDE, 'alone')  # the teacher, a little changed: worse on some patches, better on others
    content = torch.load(alone, weights_only=True)
    content['params']['conv_last.bias'] += 0.02 * torch.tensor([1.0, -1.0, 1.0])
    torch.save(content, alone)
    file = alone_option(workspace, alone)
    settings = DiagnosisSettings(pictures=1, folders=('tests/A', 'tests/B'), training_patches=20, alone=f'plain={file}')
    text = diagnose(workspace.write(opt), settings)
    assert '| A | 1 | 4 |' in text
    assert '| photos |' not in text
    student = network(WIDE, alone, 'params')
    teacher = network(WIDE, workspace.root / 'teacher.pth', 'params')
    share = count_training_patches(TrainedRun(workspace.write(opt)), 20, file)
    assert 0 < share.rejected < 20
    assert f'{share.rejected} of 20 patches of the training set' in text
    assert 'The student is plain.' in text
    assert [patch.loss for patch in share.worst] == sorted((patch.loss for patch in share.worst), reverse=True)
    for patch in share.worst:
        with torch.no_grad():
            errors = [(net(patch.lq) - patch.gt).abs().mean().item() for net in (student, teacher)]
        assert errors[1] - errors[0] == pytest.approx(patch.loss, abs=1e-5)
        assert patch.loss > 0
    assert (workspace.root / 'experiments/run/diagnosis/training_patches_latest.png').exists()
    assert 'Red: the teacher is worse' in text


def test_the_places_where_the_teacher_is_worse_are_red(tmp_path):
    grey = torch.full((1, 3, 8, 8), 0.5)
    worse, better = grey.clone(), grey.clone()
    worse[..., :4] = 0.9  # the left half
    better[..., 4:] = 0.9
    patch = TrainingPatch(lq=grey[..., ::2, ::2], gt=grey, student=better, teacher=worse, loss=0.0)
    draw_worst([patch], str(tmp_path / 'worst.png'))
    blue, _, red = cv2.split(cv2.imread(str(tmp_path / 'worst.png')).astype(int))
    is_red, is_blue = np.nonzero(red - blue > 100)[1], np.nonzero(blue - red > 100)[1]
    map_of_red, map_of_blue = (np.bincount(columns).argmax() for columns in (is_red, is_blue))
    assert map_of_red < map_of_blue  # left of it
