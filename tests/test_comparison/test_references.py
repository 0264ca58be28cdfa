"""The rows of bicubic and teachers, scored with BasicSR's metrics on the validation images of the workspace."""

from fractions import Fraction

import cv2
import numpy as np
import pytest
from basicsr.archs import build_network
from basicsr.metrics import calculate_psnr

from kdsr.comparison import references
from kdsr.comparison.parts import DASH
from kdsr.comparison.references import Reference, find_below_bicubic, score_references
from kdsr.comparison.report import format_report, make_sections, write_report
from kdsr.comparison.summary import summarise
from kdsr.distillation.checkpoint import load_weights
from kdsr.pictures.images import super_resolve
from tests.conftest import network_opt
from tests.helpers.comparisons import comparison, trained
from tests.references.imresize import imresize

COLUMN = ('photos', 'psnr')


def distilled(*teachers, **more):
    return {
        'model_type': 'DistillationModel',
        'distillation': {'teachers': list(teachers), 'losses': {'l_kd': {'type': 'ResponseLoss'}}}, **more,
    }  # fmt: skip


def mean_psnr(workspace, enlarge, **settings):
    """Return the mean PSNR over the validation images, BasicSR's way."""
    values = []
    for path in sorted((workspace.root / 'photos' / 'gt').iterdir()):
        lq = cv2.imread(f'photos/lq2/{path.name}')
        values.append(calculate_psnr(enlarge(lq), cv2.imread(str(path)), 2, **{'test_y_channel': True, **settings}))
    return np.mean(values)


def loaded(teacher):
    network = build_network(teacher['network']).eval()
    load_weights(network, teacher['path'])
    return network


def test_bicubic_teachers_and_their_mean_are_scored_as_the_runs_are(workspace):
    edsr, rcan = workspace.teacher('EDSR'), workspace.teacher('RCAN')
    plan = comparison(workspace, {'plain': {}, 'kd': distilled(edsr), 'both': distilled(edsr, rcan)})
    found, problems = score_references(summarise(plan))
    assert problems == []
    values = {reference.title: reference.values[COLUMN] for reference in found}
    assert list(values) == ['bicubic', 'teacher edsr', 'teacher rcan', 'fused edsr + rcan']
    assert values['bicubic'] == pytest.approx(mean_psnr(workspace, lambda lq: imresize(lq, Fraction(2))))
    networks = [loaded(teacher) for teacher in (edsr, rcan)]
    for name, network in zip(('edsr', 'rcan'), networks):
        expected = mean_psnr(workspace, lambda lq, network=network: super_resolve(network, lq))
        assert values[f'teacher {name}'] == pytest.approx(expected)
    fused = mean_psnr(workspace, lambda lq: super_resolve(lambda x: (networks[0](x) + networks[1](x)) / 2, lq))
    assert values['fused edsr + rcan'] == pytest.approx(fused)


def test_values_are_kept_until_weights_or_images_change(workspace, monkeypatch):
    summary = summarise(comparison(workspace, {'plain': {}, 'kd': distilled(workspace.teacher('EDSR'))}))
    without, _ = score_references(summary, run_teachers=False)
    assert [reference.title for reference in without] == ['bicubic']
    first, _ = score_references(summary)
    scored, score = [], references._score
    monkeypatch.setattr(references, '_score', lambda network, opt: scored.append(network.title) or score(network, opt))
    assert score_references(summary, run_teachers=False)[0] == first
    assert scored == []
    workspace.weights(network_opt('EDSR'), 'EDSR_x2', seed=5)
    assert score_references(summary)[0][1].values != first[1].values
    assert scored == ['teacher edsr']
    image = cv2.imread('photos/gt/000.png')
    cv2.imwrite('photos/gt/000.png', 255 - image)
    score_references(summary)
    assert scored == ['teacher edsr', 'bicubic', 'teacher edsr']


def test_a_missing_teacher_is_reported_and_the_rest_is_scored(workspace):
    plan = comparison(workspace, {'plain': {}, 'kd': distilled(workspace.teacher('EDSR'))})
    (workspace.root / 'EDSR_x2.pth').unlink()
    found, (problem,) = score_references(summarise(plan))
    assert [reference.title for reference in found] == ['bicubic']
    assert problem.startswith('teacher edsr is not in the tables: ')
    assert 'EDSR_x2.pth' in problem


def test_a_teacher_that_is_a_run_in_the_tables_gets_no_second_row(workspace):
    teacher = {'name': 'big', 'network': network_opt('EDSR'), 'path': '{plain}/models/net_g_latest.pth'}
    plan = comparison(workspace, {'plain': {}, 'kd': distilled(teacher, needs='plain')})
    found, problems = score_references(summarise(plan))
    assert [reference.title for reference in found] == ['bicubic']
    assert problems == []


def test_luminance_is_scored_as_validation_scores_it(workspace):
    runs = {'plain': {'model_type': 'StudentModel', 'color': 'y', 'network_g': {'type': 'FSRCNN', 'upscale': 2}}}
    (bicubic,), _ = score_references(summarise(comparison(workspace, runs)))
    weights = np.array([24.966, 128.553, 65.481]) / 255  # of B, G and R
    values = []
    for path in sorted((workspace.root / 'photos' / 'gt').iterdir()):
        ours, gt = imresize(cv2.imread(f'photos/lq2/{path.name}'), Fraction(2)), cv2.imread(str(path))
        planes = np.round(ours @ weights + 16), gt @ weights + 16
        values.append(10 * np.log10(255**2 / np.mean((planes[0] - planes[1])[2:-2, 2:-2] ** 2)))
    assert bicubic.values[COLUMN] == pytest.approx(np.mean(values), abs=1e-3)


def test_runs_below_bicubic_are_warned_about(workspace):
    plan = comparison(workspace)
    for label, value in {'plain': 31.0, 'fast': 29.0}.items():
        for run in plan.of(label):
            trained(workspace, run, value)
    summary = summarise(plan)
    (warning,) = find_below_bicubic(summary, [Reference('bicubic', {COLUMN: 30.0})])
    assert warning.startswith('fast is worse than bicubic upsampling (photos psnr 29 against 30)')
    assert find_below_bicubic(summary, [Reference('teacher', {COLUMN: 99.0})]) == []


def test_the_direction_of_a_metric_counts(workspace):
    metric = {'val': {'metrics': {'psnr': {'better': 'lower'}}}}
    plan = comparison(workspace, {'plain': metric, 'fast': metric})
    for label, value in {'plain': 31.0, 'fast': 29.0}.items():
        for run in plan.of(label):
            trained(workspace, run, value)
    (warning,) = find_below_bicubic(summarise(plan), [Reference('bicubic', {COLUMN: 30.0})])
    assert warning.startswith('plain is worse')


def test_the_report_has_the_rows_and_the_warnings(workspace):
    plan = comparison(workspace, {'plain': {}, 'kd': distilled(workspace.teacher('EDSR'))})
    for run in plan.runs:
        trained(workspace, run, 10.0)
    summary = summarise(plan)
    text = format_report(summary, make_sections(summary, '', references=[Reference('bicubic', {COLUMN: 30.25})]))
    assert f'| bicubic | {DASH} | 30.250 | +20.250 |' in text
    assert text.count('| **warning** | ') == 2
    warnings = write_report(summary, workspace.root / 'out', '', photos=0)
    assert [w.split(' is ')[0] for w in warnings] == ['plain', 'kd']
    assert f'| bicubic | {DASH} |' in (workspace.root / 'out' / 'report.md').read_text()
