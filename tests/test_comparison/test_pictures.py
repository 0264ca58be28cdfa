from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from basicsr.archs import build_network

from kdsr.comparison.pictures import choose_rows
from kdsr.comparison.report import write_report
from kdsr.comparison.summary import summarise
from kdsr.distillation.checkpoint import load_weights
from kdsr.errors import UserError
from kdsr.pictures.images import super_resolve
from kdsr.pictures.photo_rows import BICUBIC, Box
from tests.helpers.comparisons import comparison, trained


@pytest.fixture
def finished(workspace):
    """A comparison of a plain and a distilled student whose checkpoints hold random weights."""
    distilled = {
        'title': 'distilled', 'model_type': 'DistillationModel',
        'distillation': {'teachers': [workspace.teacher('EDSR')], 'losses': {'l_kd': {'type': 'ResponseLoss'}}},
    }  # fmt: skip
    plan = comparison(workspace, {'distilled': distilled, 'plain': {}, 'late': {}}, seeds=[0, 1])
    for number, run in enumerate(plan.runs):
        if run.label == 'late':
            continue
        trained(workspace, run, 40.0)  # above bicubic
        torch.manual_seed(number)
        (workspace.root / run.folder / 'models').mkdir()
        weights = {'params_ema': build_network(run.opt['network_g']).state_dict()}
        torch.save(weights, workspace.root / run.folder / 'models' / 'net_g_latest.pth')
    return plan


def test_the_finished_students_and_their_teacher_are_shown(workspace, finished):
    rows, problems = choose_rows(summarise(finished), 2, 20)
    assert problems == []
    assert len(rows) == 2
    assert list(rows[0].methods) == [BICUBIC, 'plain', 'distilled', 'teacher edsr']
    assert rows[0].compared() == ['plain', 'distilled']
    run = finished.of('plain')[0]
    network = build_network(run.opt['network_g']).eval()
    load_weights(network, f'{run.folder}/models/net_g_latest.pth')
    lq = cv2.imread(f'photos/lq2/{rows[0].title}.png')
    np.testing.assert_array_equal(rows[0].methods['plain'], super_resolve(network, lq))
    np.testing.assert_array_equal(rows[0].gt, cv2.imread(f'photos/gt/{rows[0].title}.png'))


@pytest.mark.parametrize(('quadrants', 'cut'), [(['Photos'], True), (['other'], False), (True, True)])
def test_students_run_in_quadrants_on_the_sets_that_the_option_names(workspace, finished, quadrants, cut):
    (name,) = finished.baseline_run.experiment.validation_sets
    chosen = [name if one == 'Photos' else one for one in quadrants] if isinstance(quadrants, list) else quadrants
    runs = [replace(run, opt={**run.opt, 'val': {**run.opt['val'], 'quadrants': chosen}}) for run in finished.runs]
    finished = replace(finished, runs=tuple(runs))
    rows, _ = choose_rows(summarise(finished), 1, 20)
    network = build_network(finished.of('plain')[0].opt['network_g']).eval()
    load_weights(network, f'{finished.of("plain")[0].folder}/models/net_g_latest.pth')
    whole = super_resolve(network, cv2.imread(f'photos/lq2/{rows[0].title}.png'))
    assert (not np.array_equal(rows[0].methods['plain'], whole)) is cut


def test_a_teacher_that_is_not_there_is_told(workspace, finished):
    (workspace.root / 'EDSR_x2.pth').unlink()
    rows, problems = choose_rows(summarise(finished), 1, 20)
    assert list(rows[0].methods) == [BICUBIC, 'plain', 'distilled']
    assert 'EDSR_x2.pth' in problems[0]


def test_crops_by_hand_are_taken_from_any_image(workspace, finished):
    (row,), _ = choose_rows(summarise(finished), 1, crops={'003': [Box(2, 4, 16, 20)]})
    assert (row.title, row.box) == ('003', Box(2, 4, 16, 20))
    with pytest.raises(UserError, match='no such image'):
        choose_rows(summarise(finished), 1, crops={'butterfly': [Box(0, 0, 16, 16)]})


def test_the_report_shows_them(workspace, finished):
    assert write_report(summarise(finished), workspace.root / 'out', '', photos=1) == []
    text = (workspace.root / 'out' / 'report.md').read_text()
    assert '](crops.png)' in text
    assert '](errors.png)' in text
    page = (workspace.root / 'out' / 'report.html').read_text()
    assert page.count('src="data:image/') == 4


def test_luminance_students_are_shown_in_colour(workspace):
    runs = {'plain': {'model_type': 'StudentModel', 'color': 'y', 'network_g': {'type': 'FSRCNN', 'upscale': 2}}}
    plan = comparison(workspace, runs, seeds=[0])
    run = plan.runs[0]
    trained(workspace, run, 30.0)
    (workspace.root / run.folder / 'models').mkdir()
    weights = {'params': build_network(run.opt['network_g']).state_dict()}
    torch.save(weights, workspace.root / run.folder / 'models' / 'net_g_latest.pth')
    (row,), _ = choose_rows(summarise(plan), 1, 20)
    image = row.methods['plain'].astype(int)
    assert image.shape == row.gt.shape
    assert np.abs(image[..., 0] - image[..., 2]).mean() > 5


def test_nothing_finished_nothing_shown(workspace):
    assert choose_rows(summarise(comparison(workspace)), 3) == ([], [])
