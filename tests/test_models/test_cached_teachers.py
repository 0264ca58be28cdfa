"""Training from a teacher cache, through BasicSR's pipeline."""

import pytest
import torch

from kdsr.data.teacher_cache import make_cache
from kdsr.distillation.cached_teachers import CachedTeachers, without_border
from kdsr.distillation.outputs import Batch, NetworkOutput
from kdsr.errors import UserError
from tests.conftest import network_opt
from tests.helpers.logs import log_of, logged


def mtkd(workspace, **block):
    """Two teachers, a wavelet loss, a cache; every training crop is the whole image."""
    opt = workspace.options(model_type='DistillationModel')
    opt['datasets']['train'].update(gt_size=48, use_hflip=False, use_rot=False)
    opt['distillation'] = {
        'health_check': False,
        'teachers': [workspace.teacher('EDSR'), workspace.teacher('RCAN')],
        'cache': 'cache.raw',
        'losses': {'l_dwt': {'type': 'WaveletLoss'}},
        **block,
    }
    return opt


@pytest.fixture
def no_teacher(monkeypatch):
    def build_teachers(opt):
        raise AssertionError('a teacher was built')

    for model in ('distilling', 'aggregation_model'):
        monkeypatch.setattr(f'kdsr.models.{model}.build_teachers', build_teachers)


def test_the_student_learns_the_same_from_the_cache_without_any_teacher(workspace, monkeypatch, no_teacher):
    opt = mtkd(workspace)
    make_cache(opt, progress=False)
    for teacher in opt['distillation']['teachers']:  # not even the files are needed
        (workspace.root / teacher['path']).rename(workspace.root / f'{teacher["name"]}.moved')
    folder = workspace.train(opt)
    assert 'l_dwt: ' in log_of(folder)
    monkeypatch.undo()
    monkeypatch.chdir(workspace.root)
    for teacher in opt['distillation']['teachers']:
        (workspace.root / f'{teacher["name"]}.moved').rename(workspace.root / teacher['path'])
    opt['distillation']['cache'] = {'path': 'cache.raw', 'exact': True}
    live = workspace.train({**opt, 'name': 'live'})
    assert logged(folder, 'l_dwt') == pytest.approx(logged(live, 'l_dwt'), rel=2e-3)  # 8 bits


def test_stage_one_learns_from_cached_images_and_validates_with_its_teachers(workspace):
    opt = mtkd(workspace, losses=None)
    opt.update(model_type='AggregationModel', network_g=network_opt('DCTSwin'))
    make_cache(opt, progress=False)
    opt['val']['val_freq'] = 2
    assert 'Validation photos' in log_of(workspace.train(opt))


def test_stage_one_without_validation_loads_no_teacher(workspace, no_teacher):
    opt = mtkd(workspace, losses=None)
    opt.update(model_type='AggregationModel', network_g=network_opt('DCTSwin'))
    del opt['datasets']['val'], opt['val']
    make_cache(opt, progress=False)
    assert 'l_pix: ' in log_of(workspace.train(opt))


def test_a_cache_that_is_missing_or_stale_stops_the_run(workspace):
    opt = mtkd(workspace)
    with pytest.raises(UserError, match=r'distillation\.cache: cache\.raw \(`kdsr cache FILE` makes it'):
        workspace.train(opt)
    make_cache(opt, progress=False)
    workspace.weights(network_opt('RCAN'), 'RCAN_x2', seed=5)
    with pytest.raises(
        UserError, match=r'cache\.raw was made with weights of teacher rcan \w+ \(now \w+\)\. Make another'
    ):
        workspace.train(opt)


def test_features_are_refused_beside_a_cache_and_allowed_with_exact(workspace):
    opt = mtkd(workspace, features={'f': {'student': 'body.0', 'teacher': 'body.0', 'from': 'rcan'}})
    with pytest.raises(UserError, match=r'distillation\.features: not with `cache`: features are never cached'):
        workspace.train(opt)
    opt['distillation']['cache'] = {'path': 'nowhere.raw', 'exact': True}
    assert 'l_dwt: ' in log_of(workspace.train(opt))


def test_a_margin_leaves_the_border_out_of_the_distillation_losses_only(workspace):
    opt = mtkd(workspace, losses={'l_kd': {'type': 'ResponseLoss'}})
    make_cache(opt, progress=False)
    terms = {'l_pix': {}, 'l_kd': {}}
    for margin in (0, 6):
        opt['distillation']['cache'] = {'path': 'cache.raw', 'margin': margin}
        folder = workspace.train({**opt, 'name': f'margin{margin}', 'train': {**opt['train'], 'total_iter': 1}})
        for name, values in terms.items():
            values[margin] = logged(folder, name)
    assert terms['l_pix'][0] == terms['l_pix'][6]
    assert terms['l_kd'][0] != terms['l_kd'][6]


def test_the_border_is_left_out_of_every_image_alike():
    batch = Batch(torch.rand(1, 3, 8, 9), torch.rand(1, 3, 16, 18), torch.rand(1, 3, 16, 18))
    student, teacher = NetworkOutput(torch.rand(1, 3, 16, 18)), NetworkOutput(batch.teacher_images)
    assert without_border(student, teacher, batch, 0) == (student, teacher, batch)
    inner_student, inner_teacher, inner = without_border(student, teacher, batch, 3)
    assert torch.equal(inner_student.sr, student.sr[..., 6:10, 6:12])
    assert torch.equal(inner_teacher.sr, teacher.sr[..., 6:10, 6:12])
    assert torch.equal(inner.gt, batch.gt[..., 6:10, 6:12])
    assert torch.equal(inner.teacher_images, batch.teacher_images[..., 6:10, 6:12])
    assert torch.equal(inner.lq, batch.lq[..., 3:5, 3:6])


def test_batches_without_cached_images_are_told():
    with pytest.raises(UserError, match='the training set delivers no cached images'):
        CachedTeachers(['edsr'])(Batch(torch.rand(1, 3, 8, 8)))
