"""Digests of what a run learns from: they follow the pixels and weights, and nothing else."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import lmdb
import numpy as np
import pytest

from kdsr.data.content import describe_content
from kdsr.data.prepare import prepare_training_set
from kdsr.data.teacher_cache import make_cache
from kdsr.experiment import read_experiment

GT = Path('photos/gt')


def distillation(workspace, **changes):
    block = {
        'health_check': False,
        'teachers': [workspace.teacher('EDSR')],
        'losses': {'l_kd': {'type': 'ResponseLoss'}},
    }
    return workspace.options(model_type='DistillationModel', distillation={**block, **changes})


def changed(before, after):
    return [name for name in before if before[name] != after.get(name)]


def other_image(path):
    cv2.imwrite(str(path), 255 - cv2.imread(str(path)))


def test_a_replaced_image_of_a_folder_changes_the_digest_and_a_copied_folder_does_not(workspace):
    opt = workspace.options()
    before = describe_content(opt)
    assert sorted(before) == ['content of dataroot_gt', 'content of dataroot_lq']
    shutil.copytree('photos', 'elsewhere')
    train_set = opt['datasets']['train']
    train_set.update(dataroot_gt='elsewhere/gt', dataroot_lq='elsewhere/lq2')
    assert describe_content(opt) == before
    other_image('elsewhere/gt/002.png')
    assert changed(before, describe_content(opt)) == ['content of dataroot_gt']
    other_image('elsewhere/lq2/002.png')
    assert len(changed(before, describe_content(opt))) == 2


def test_only_listed_images_count(workspace):
    opt = workspace.options()
    Path('list.txt').write_text('000.png\n001.png\n')
    opt['datasets']['train']['meta_info_file'] = 'list.txt'
    before = describe_content(opt)
    other_image(GT / '003.png')
    assert describe_content(opt) == before
    other_image(GT / '001.png')
    assert changed(before, describe_content(opt)) == ['content of dataroot_gt']


@pytest.mark.parametrize('raw', [False, True])
def test_a_set_that_is_made_of_another_image_changes_the_digest(workspace, raw):
    opt = workspace.options()
    digests = []
    for out in ('a', 'same', 'other'):
        if out == 'other':
            other_image(GT / '002.png')
        gt, lq = prepare_training_set(GT, out, [2], 24, 24, workers=1, progress=False, raw=raw)
        kind = {'type': 'RawPairedImageDataset'} if raw else {'io_backend': {'type': 'lmdb'}}
        opt['datasets']['train'].update(dataroot_gt=str(gt), dataroot_lq=str(lq), **kind)
        digests.append(describe_content(opt))
    assert digests[0] == digests[1]
    assert len(changed(digests[0], digests[2])) == 2


def test_a_replaced_image_of_an_lmdb_without_checksums_changes_the_digest(workspace):
    opt = workspace.options()
    gt, lq = prepare_training_set(GT, 'a', [2], 24, 24, workers=1, progress=False)
    (gt / 'checksums.json').unlink()
    opt['datasets']['train'].update(dataroot_gt=str(gt), dataroot_lq=str(lq), io_backend={'type': 'lmdb'})
    before = describe_content(opt)
    with lmdb.open(str(gt), lock=False) as environment, environment.begin(write=True) as content:
        image = np.zeros((24, 24, 3), np.uint8)
        content.put(b'002_s003', cv2.imencode('.png', image)[1].tobytes())
    assert changed(before, describe_content(opt)) == ['content of dataroot_gt']


def test_weights_count_where_teachers_run_and_the_cache_where_it_is_read(workspace):
    opt = distillation(workspace)
    before = describe_content(opt)
    assert 'weights of teacher edsr' in before
    assert describe_content(read_experiment(opt)) == before
    workspace.weights(opt['distillation']['teachers'][0]['network'], 'EDSR_x2', seed=5)
    assert changed(before, describe_content(opt)) == ['weights of teacher edsr']

    from kdsr import options

    cached = {**opt, 'distillation': {**opt['distillation'], 'cache': 'cache.raw'}}
    make_cache(cached, progress=False)
    first = describe_content(options.with_cache(cached))
    assert sorted(first) == ['content of dataroot_gt', 'content of dataroot_lq', 'content of dataroot_teacher']
    workspace.weights(opt['distillation']['teachers'][0]['network'], 'EDSR_x2', seed=6)
    shutil.rmtree('cache.raw')
    make_cache(cached, progress=False)
    assert changed(first, describe_content(options.with_cache(cached))) == ['content of dataroot_teacher']
