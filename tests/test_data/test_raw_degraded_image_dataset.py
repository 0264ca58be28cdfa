"""Samples of RawDegradedImageDataset: GT stays clean, each degradation does what its range says."""

import random

import cv2
import numpy as np
import pytest
from basicsr.data import build_dataset

from kdsr.data.prepare import prepare_training_set
from kdsr.data.raw_degraded_image_dataset import degrade_lightly
from kdsr.errors import UserError


@pytest.fixture(scope='module')
def options(tmp_path_factory):
    root = tmp_path_factory.mktemp('degraded')
    (root / 'HR').mkdir()
    rng = np.random.default_rng(0)
    for number in range(2):
        small = rng.integers(0, 256, (12, 12, 3), np.uint8)
        cv2.imwrite(str(root / 'HR' / f'{number}.png'), cv2.resize(small, (96, 96), interpolation=cv2.INTER_CUBIC))
    gt, lq = prepare_training_set(root / 'HR', root, (2,), 96, 96, workers=1, progress=False, raw=True)
    return {
        'name': 'set', 'type': 'RawDegradedImageDataset', 'dataroot_gt': str(gt), 'dataroot_lq': str(lq), 'scale': 2,
        'gt_size': 64, 'use_hflip': True, 'use_rot': True, 'phase': 'train', 'uint8': True,
        'degradation': {'blur': [0.3, 1.0], 'noise': [2, 8], 'jpeg': [40, 80], 'clean_share': 0},
    }  # fmt: skip


def sample(opt, seed=0, index=0):
    random.seed(seed)
    np.random.seed(seed)
    return build_dataset(opt)[index]


@pytest.fixture
def flat():
    return np.full((3, 64, 64), 128, np.uint8)


def test_only_lq_of_training_samples_changes(options):
    clean = {**options, 'type': 'RawPairedImageDataset'}
    del clean['degradation']
    degraded, wanted = sample(options), sample(clean)
    assert (degraded['gt'] == wanted['gt']).all()
    assert degraded['lq'].shape == wanted['lq'].shape
    assert (degraded['lq'] != wanted['lq']).float().mean() > 0.5
    error = degraded['lq'].float() - wanted['lq'].float()
    assert abs(error.mean()) < 3  # the same crop, and red stays red: swapped channels would be far off
    assert all(error[channel].abs().mean() < 25 for channel in range(3))
    validation = {**options, 'phase': 'val'}
    assert (sample(validation)['lq'] == sample({**clean, 'phase': 'val'})['lq']).all()


def test_the_same_seed_gives_the_same_sample(options):
    assert (sample(options, 3)['lq'] == sample(options, 3)['lq']).all()
    assert (sample(options, 3)['lq'] != sample(options, 4)['lq']).any()


def test_a_share_of_samples_stays_clean(flat):
    random.seed(0)
    clean = sum((degrade_lightly(flat, noise=(5, 5), clean_share=0.25) == flat).all() for _ in range(400))
    assert 70 < clean < 130


def test_noise_has_the_standard_deviation_of_its_range(flat):
    np.random.seed(0)
    noisy = [degrade_lightly(flat, noise=(5, 5), clean_share=0).astype(float) for _ in range(40)]
    assert np.mean([image.std() for image in noisy]) == pytest.approx(5, abs=0.1)
    assert np.mean(noisy) == pytest.approx(128, abs=0.1)  # rounded, not cut off, which would darken by half a level


def test_one_in_four_noises_is_grey(flat):
    random.seed(0)
    noisy = [degrade_lightly(flat, noise=(5, 5), clean_share=0) for _ in range(400)]
    assert 70 < sum((image == image[:1]).all() for image in noisy) < 130


def test_blur_is_a_gaussian_of_its_range():
    dot = np.zeros((3, 21, 21), np.uint8)
    dot[:, 10, 10] = 255
    blurred = degrade_lightly(dot, blur=(1, 1), clean_share=0).astype(float) / 255
    expected = np.exp(-(np.arange(-1, 2) ** 2) / 2)
    expected = np.outer(expected, expected) / (2 * np.pi)
    np.testing.assert_allclose(blurred[0, 9:12, 9:12], expected, atol=0.01)


def test_jpeg_is_opencvs(flat):
    image = np.random.default_rng(0).integers(0, 256, flat.shape, np.uint8)
    compressed = degrade_lightly(image, jpeg=(30, 30), clean_share=0)
    bgr = image.transpose(1, 2, 0)[..., ::-1].copy()
    expected = cv2.imdecode(cv2.imencode('.jpg', bgr, [cv2.IMWRITE_JPEG_QUALITY, 30])[1], cv2.IMREAD_COLOR)
    assert (compressed == expected[..., ::-1].transpose(2, 0, 1)).all()


@pytest.mark.parametrize(
    ('degradation', 'text'),
    [
        (None, 'must be a mapping'),
        ({'blurr': [0, 1]}, "Did you mean 'blur'"),
        ({'blur': 1}, 'must be two numbers'),
        ({'noise': [5, 1]}, 'must be two numbers'),
        ({'jpeg': [0, 50]}, 'from 1 to 100'),
        ({'jpeg': [50.5, 60]}, 'two whole numbers'),
        ({'clean_share': 2}, 'from 0 to 1'),
    ],
)
def test_wrong_degradations_are_refused(options, degradation, text):
    with pytest.raises(UserError, match=text):
        build_dataset({**options, 'degradation': degradation})


def test_a_cache_is_refused():
    from kdsr.options.caching import cache_problems

    opt = {
        'scale': 2, 'model_type': 'DistillationModel', 'distillation': {'cache': 'c.raw', 'teachers': [{'name': 'a'}]},
        'datasets': {'train': {'type': 'RawDegradedImageDataset', 'gt_size': 64}},
    }  # fmt: skip
    assert any('degrades them' in problem.text for problem in cache_problems(opt))
