"""The table of student and teachers in `kdsr diagnose`, against NumPy."""

import cv2
import numpy as np
import pytest
import torch

from kdsr.archs.pisr_teacher_arch import PISRTeacher
from kdsr.inspection.diagnosis import DiagnosisSettings, diagnose
from kdsr.inspection.teacher_scores import score_teachers
from kdsr.networks.trained_run import TrainedRun
from tests.conftest import network_opt
from tests.helpers.pictures import float_images, network


def psnr_y(image, gt, border=2):
    """BT.601 luminance in 16..235, of images rounded to 8 bits."""
    weights = np.array([65.481, 128.553, 24.966]).reshape(3, 1, 1) / 255
    planes = [(np.round(np.clip(i, 0, 1) * 255) * weights).sum(0)[border:-border, border:-border] for i in (image, gt)]
    return 10 * np.log10(255**2 / np.mean((planes[0] - planes[1]) ** 2))


def aggregated(workspace):
    opt = workspace.options(model_type='DistillationModel')
    fused = network_opt('DCTSwin')
    opt['distillation'] = {
        'teachers': [workspace.teacher('EDSR'), workspace.teacher('RCAN')],
        'aggregator': {'network': fused, 'path': workspace.weights(fused, 'fused', teachers=['edsr', 'rcan'])},
        'losses': {'l_kd': {'type': 'ResponseLoss'}},
    }
    workspace.train(opt)
    return opt


def test_everybody_who_gives_an_image_is_scored(workspace):
    opt = aggregated(workspace)
    scores = score_teachers(TrainedRun(str(workspace.root / 'run.yml')))['photos']
    rows = ['student', 'teacher edsr', 'teacher rcan', 'mean of the teachers', 'aggregator']
    assert list(scores) == rows
    trained = workspace.root / 'experiments' / 'run' / 'models' / 'net_g_latest.pth'
    student = network(network_opt('EDSR'), trained, 'params_ema')
    teachers = [network(t['network'], t['path'], 'params') for t in opt['distillation']['teachers']]
    fused = network(network_opt('DCTSwin'), opt['distillation']['aggregator']['path'], 'params')
    expected = []
    for lq, gt in zip(*(float_images(workspace.root / 'photos' / kind) for kind in ('lq2', 'gt'))):
        with torch.no_grad():
            own = [teacher(lq) for teacher in teachers]
            images = [student(lq), *own, sum(own) / 2, fused(torch.cat(own, 1))]
        expected.append([psnr_y(image[0].numpy(), gt[0].numpy()) for image in images])
    assert [scores[row][0] for row in rows] == pytest.approx(np.mean(expected, axis=0), abs=1e-3)
    assert all(-1 <= ssim <= 1 for _, ssim in scores.values())


def test_the_report_shows_them(workspace):
    aggregated(workspace)
    text = diagnose(str(workspace.root / 'run.yml'), DiagnosisSettings(images=1, pictures=0))
    scores = score_teachers(TrainedRun(str(workspace.root / 'run.yml')), 1)['photos']
    for who, (psnr, ssim) in scores.items():
        assert f'\n| {who} | {psnr:.2f} / {ssim:.4f} |\n' in text


def test_luminance_is_scored_as_it_is(workspace):
    plain = {'type': 'FSRCNN', 'upscale': 2, 'num_feat': 4, 'num_shrink': 2}
    opt = workspace.options(model_type='DistillationModel', network_g=plain, color='y')
    teacher = {'type': 'PISRTeacher', 'upscale': 2, 'decoder': plain, 'num_feat': 4, 'num_shrink': 2}
    path = workspace.weights(teacher, 'pisr')
    opt['distillation'] = {
        'teachers': [{'name': 'pisr', 'network': teacher, 'path': path, 'input': 'gt'}],
        'losses': {'l_kd': {'type': 'ResponseLoss'}},
    }
    workspace.train(opt)
    scores = score_teachers(TrainedRun(str(workspace.root / 'run.yml')), 1)['photos']
    built = PISRTeacher(2, plain, 1, 4, 2).eval()
    built.load_state_dict(torch.load(path, weights_only=True)['params'])
    gt = cv2.imread(str(workspace.root / 'photos' / 'gt' / '000.png'))[..., ::-1].astype(np.float64)
    y = (gt @ np.array([65.481, 128.553, 24.966]) / 255 + 16) / 255
    with torch.no_grad():
        image = built(torch.tensor(y, dtype=torch.float32)[None, None])[0, 0].numpy()
    rounded = [np.round(np.clip(i, 0, 1) * 255)[2:-2, 2:-2] for i in (image, y)]
    expected = 10 * np.log10(255**2 / np.mean((rounded[0] - rounded[1]) ** 2))
    assert scores['teacher pisr'][0] == pytest.approx(expected, abs=0.01)
