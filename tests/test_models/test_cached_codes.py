"""PISR with a cache: the encoder has seen the ground truth before, and the decoder runs on what it made of it."""

import contextlib
import copy

import numpy as np
import pytest
import torch
from basicsr.archs import build_network
from basicsr.data import build_dataset

from kdsr import options
from kdsr.data.raw_images import RawImages, Window
from kdsr.data.raw_writer import RawWriter
from kdsr.data.teacher_cache import make_cache
from kdsr.data.training_images import open_training_images
from kdsr.errors import UserError
from kdsr.experiment import read_experiment
from tests.helpers.logs import logged
from tests.helpers.training_sets import on_raw, samples

FSRCNN = {'type': 'FSRCNN', 'upscale': 2, 'num_feat': 6, 'num_shrink': 4}
TEACHER = {'type': 'PISRTeacher', 'upscale': 2, 'decoder': FSRCNN, 'num_feat': 8, 'num_shrink': 4, 'num_in_ch': 1}


def pisr(workspace, **block):
    """Luminance; every training crop is the whole image, and none is flipped."""
    opt = workspace.options(model_type='DistillationModel', network_g=FSRCNN, color='y')
    opt['datasets']['train'].update(gt_size=48, use_hflip=False, use_rot=False)
    teacher = {'name': 'pisr', 'network': TEACHER, 'path': workspace.weights(TEACHER, 'pisr', seed=5), 'input': 'gt'}
    opt['distillation'] = {
        'health_check': False,
        'teachers': [teacher],
        'features': {'f': {'student': 'expanding', 'teacher': 'decoder.expanding'}},
        'losses': {'l_vid': {'type': 'VIDLoss', 'loss_weight': 1.0}},
        'init_from': {'teacher': 'pisr', 'module': 'decoder'},
        'cache': 'codes.raw',
        **block,
    }
    return opt


def luma(image):
    weights = torch.tensor([65.481, 128.553, 24.966]).view(3, 1, 1)
    return ((image * weights).sum(0, keepdim=True) + 16) / 255


def test_it_holds_what_the_encoder_makes_of_every_ground_truth(workspace):
    opt = pisr(workspace)
    (teacher,) = opt['distillation']['teachers']
    network = build_network(copy.deepcopy(teacher['network']))
    network.load_state_dict(torch.load(teacher['path'], weights_only=True)['params'])
    codes = RawImages(make_cache(opt, progress=False))
    assert (codes.dtype, codes.channels, codes.sizes.tolist()) == (np.float32, 1, 4 * [[24, 24]])
    for key, batch in samples(opt).items():
        with torch.no_grad():
            expected = network.encoder(luma(batch.gt[0])[None])[0].numpy()
        np.testing.assert_allclose(codes.image(codes.keys.index(key)), expected, atol=2e-6)


@pytest.mark.parametrize('raw', [False, True])
def test_the_student_learns_from_codes_what_it_learns_from_the_live_teacher(workspace, raw):
    opt = pisr(workspace)
    if raw:
        opt = on_raw(workspace, opt)
        opt['datasets']['train'].update(gt_size=32)
    make_cache(opt, progress=False)
    folder = workspace.train(opt)
    opt['distillation']['cache'] = {'path': 'codes.raw', 'exact': True}
    live = workspace.train({**opt, 'name': 'live'})
    # windows of raw sets know what lies beyond their border
    assert logged(folder, 'l_vid') == pytest.approx(logged(live, 'l_vid'), rel=2e-2 if raw else 1e-4)


@pytest.mark.parametrize('raw', [False, True])
def test_a_code_is_cropped_and_turned_with_its_image(workspace, raw):
    opt = on_raw(workspace, pisr(workspace), raw=raw)
    opt['datasets']['train'].update(use_hflip=True, use_rot=True, scale=2, phase='train')
    images = open_training_images(read_experiment(opt))  # codes that are the red plane of the small image
    writer = RawWriter(workspace.root / 'codes.raw', {}, dict.fromkeys(images.names, ''), 1, 'float32')
    with contextlib.closing(writer):
        writer.open()
        for number, name in enumerate(images.names):
            red = images.pair(number)[0][:1].astype(np.float32) / np.float32(255)
            writer.add(name, '', (red, [Window(*window) for window in images.windows[number]]))
        writer.finish()
    dataset = build_dataset(options.with_cache(opt)['datasets']['train'])
    for number in range(len(dataset)):
        sample = dataset[number]
        assert sample['code'].shape == (1, 8, 8)
        assert torch.equal(sample['code'], sample['lq'][:1])


def test_a_teacher_without_an_encoder_is_told(workspace):
    opt = pisr(workspace, init_from=None, features={'f': {'student': 'expanding', 'teacher': 'expanding'}})
    opt['distillation']['teachers'] = [
        {'name': 'plain', 'network': FSRCNN, 'path': workspace.weights(FSRCNN, 'plain'), 'input': 'gt'}
    ]
    with pytest.raises(UserError, match=r"'plain': with `cache` and `features`.*FSRCNN has no `encoder` and `decoder`"):
        make_cache(opt, progress=False)


@pytest.mark.parametrize('changes', [{'margin': 2}, {'self_ensemble': True}])
def test_what_makes_no_sense_for_features_is_refused(workspace, changes):
    opt = pisr(workspace, cache={'path': 'codes.raw', **changes})
    with pytest.raises(UserError, match=rf'cache\.{next(iter(changes))}: not where features are compared'):
        options.check(opt)


def test_a_cache_of_images_is_refused_for_codes(workspace):
    opt = pisr(workspace)
    images = {**opt, 'distillation': {**opt['distillation'], 'features': None, 'init_from': None}}
    images['distillation']['losses'] = {'l_kd': {'type': 'ResponseLoss'}}
    make_cache(images, progress=False)
    with pytest.raises(UserError, match=r'codes\.raw was made with content the image to be taught'):
        workspace.train(opt)
