"""`kdsr diagnose` on stage-1 files: aggregators before a student exists, and PISR's teachers."""

import re

import numpy as np
import pytest
import torch

from kdsr.errors import UserError
from kdsr.inspection.diagnosis import DiagnosisSettings, diagnose
from kdsr.inspection.encodings import count_pixels, find_encodings, find_range, load_privileged, slice_spectrum

FUSING = {'type': 'DCTSwin', 'upscale': 2, 'num_teachers': 2, 'embed_dim': 6, 'depths': [1], 'num_heads': 1}
DECODER = {'type': 'FSRCNN', 'num_feat': 6, 'num_shrink': 3, 'num_map': 1, 'num_in_ch': 1, 'num_out_ch': 1}
HOURGLASS = {'type': 'PISRTeacher', 'upscale': 2, 'num_feat': 4, 'num_shrink': 3, 'decoder': DECODER}


def fused(workspace, model_type):
    teachers = [workspace.teacher(name) for name in ('EDSR', 'RCAN')]
    opt = workspace.options(model_type=model_type)
    block = {'teachers': teachers}
    if model_type == 'AggregationModel':
        opt['network_g'] = FUSING
    else:
        weights = workspace.weights(FUSING, 'fusing', teachers=[t['name'] for t in teachers])
        block |= {'aggregator': {'network': FUSING, 'path': weights}, 'losses': {'l_kd': {'type': 'ResponseLoss'}}}
    return {**opt, 'distillation': block}


@pytest.mark.parametrize('model_type', ['AggregationModel', 'DistillationModel'])
def test_an_aggregator_is_scored_before_a_student_exists(workspace, model_type):
    opt = fused(workspace, model_type)
    if model_type == 'AggregationModel':
        (workspace.root / 'experiments/run/models').mkdir(parents=True)
        workspace.weights(FUSING, 'experiments/run/models/net_g_latest', teachers=['edsr', 'rcan'])
    text = diagnose(workspace.write(opt), DiagnosisSettings(images=2, pictures=0))
    rows = dict(re.findall(r'^\| ([a-z ]+) \| (-?[\d.]+) /', text, flags=re.MULTILINE))
    assert list(rows) == ['teacher edsr', 'teacher rcan', 'mean of the teachers', 'aggregator']
    assert '## Teachers and aggregator' in text
    assert 'tudent' not in text  # there is none
    best = max(float(rows['teacher edsr']), float(rows['teacher rcan']))
    gain = float(re.search(r'photos: the aggregator is ([+-][\d.]+) dB over teacher', text)[1])
    assert gain == pytest.approx(float(rows['aggregator']) - best, abs=0.011)
    assert (workspace.root / 'experiments/run/diagnosis/diagnosis_latest.md').exists()


def privileged(workspace, name, **train):
    opt = workspace.options(
        model_type='PrivilegedTeacherModel', name=name, network_g=HOURGLASS, color='y', iterations=3
    )
    opt['train'].update(train)
    workspace.train(opt)
    return workspace.write(opt, f'{name}.yml')


def test_the_compact_feature_of_pisrs_teacher(workspace):
    imitation = {'type': 'L1Loss', 'loss_weight': 10.0, 'reduction': 'mean'}
    with_it, without = privileged(workspace, 'with', imitation_opt=imitation), privileged(workspace, 'without')
    text = diagnose(with_it, DiagnosisSettings(images=2, pictures=2, beside=(without,)))
    assert (workspace.root / 'experiments/with/diagnosis/encoder_latest.png').stat().st_size > 10_000
    runs = [load_privileged(file) for file in (with_it, without)]
    found = find_encodings(runs, count=2)
    assert [(one.run, one.image) for one in found[:3]] == [
        ('with', 'photos 000'), ('without', 'photos 000'), ('with', 'photos 001'),
    ]  # fmt: skip
    for one in found:
        assert one.code.shape == one.lq.shape
        error = np.mean((one.code.numpy().astype(np.float64) - one.lq.numpy()) ** 2)
        assert one.psnr == pytest.approx(-10 * np.log10(error), abs=1e-4)
        code, lq = (image.numpy().ravel().astype(np.float64) for image in (one.code, one.lq))
        expected = np.mean((code - code.mean()) * (lq - lq.mean())) / (code.std() * lq.std())
        assert one.correlation == pytest.approx(expected, abs=1e-4)
    for name in ('with', 'without'):
        mean = np.mean([one.psnr for one in found if one.run == name])
        assert f'| {name} | {mean:.2f} dB |' in text


def test_a_file_without_encoder_is_refused(workspace):
    opt = workspace.options(model_type='PrivilegedTeacherModel', network_g={**DECODER, 'upscale': 1}, color='y')
    workspace.train(opt)
    with pytest.raises(UserError, match='FSRCNN has no `encoder`'):
        diagnose(workspace.write(opt), DiagnosisSettings(pictures=0))
    with pytest.raises(UserError, match='does not see the ground truth'):
        load_privileged(workspace.write(workspace.options(), 'plain.yml'))


def test_a_compact_feature_is_drawn_in_its_own_range():
    """After a short training most values lie outside of 0..1, and a picture of 0..1 shows black and white alone."""
    code = torch.linspace(-3, 5, 1001).view(1, 1, 7, 143)
    assert find_range([code], left_out=0.005) == pytest.approx((-2.96, 4.96), abs=1e-6)
    assert find_range([code, torch.full((1, 1, 7, 143), 9.0)], left_out=0) == pytest.approx((-3, 9))
    assert find_range([torch.tensor([0.2, 0.7])]) == (0, 1)


def test_spectrum_and_histogram():
    x = torch.arange(32) / 32
    wave = (0.5 + 0.25 * torch.cos(2 * torch.pi * 4 * x)).expand(1, 1, 16, 32)
    spectrum = slice_spectrum(wave)
    assert spectrum.shape == (17,)
    assert np.argmax(spectrum[1:]) + 1 == 4
    assert spectrum[0] == pytest.approx(np.log10(0.5 * np.sqrt(16 * 32)), abs=1e-5)
    histogram = count_pixels(torch.tensor([[[[0.1, 0.1], [0.9, 3.0]]]]), bins=2, low=0.0, high=1.0)
    np.testing.assert_allclose(histogram, [0.5, 0.25])
