from __future__ import annotations

import copy
import functools
import pickle
import random

import numpy as np
import pytest
import torch
from basicsr.data import build_dataset
from basicsr.utils import bgr2ycbcr
from PIL import Image

from kdsr.data.prepare import prepare_training_set
from kdsr.data.raw_images import Window
from kdsr.data.raw_paired_image_dataset import RawPairedImageDataset, compute_luma
from kdsr.data.raw_writer import RawWriter
from kdsr.errors import UserError
from tests.helpers.loaders import assert_same, batches

prepare = functools.partial(prepare_training_set, scales=(2, 4), crop_size=48, step=24, workers=1, progress=False)


@pytest.fixture(scope='module')
def sets(tmp_path_factory):
    """The same images as LMDBs, raw, and in folders of PNG files: options by kind."""
    root = tmp_path_factory.mktemp('sets')
    hr = root / 'hr_HR'
    hr.mkdir()
    rng = np.random.default_rng(0)
    for number, size in enumerate([(101, 77), (49, 60), (50, 131)]):
        Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)).save(hr / f'im{number}.png')
    options = {}
    for kind in ('lmdb', 'raw'):
        gt, _, lq = prepare(hr, root / kind, raw=kind == 'raw')
        options[kind] = {
            'name': kind, 'type': 'PairedImageDataset', 'io_backend': {'type': 'lmdb'}, 'dataroot_gt': str(gt),
            'dataroot_lq': str(lq), 'scale': 4, 'gt_size': 32, 'use_hflip': True, 'use_rot': True, 'phase': 'train',
            'batch_size_per_gpu': 3, 'num_worker_per_gpu': 0,
        }  # fmt: skip
    options['raw']['type'] = 'RawPairedImageDataset'
    del options['raw']['io_backend']
    return options


@pytest.mark.parametrize('workers', [0, 2])
@pytest.mark.parametrize(
    'changes',
    [
        {},
        {'use_hflip': False},
        {'use_rot': False},
        {'color': 'y'},
        {'mean': [0.4, 0.5, 0.6], 'std': [0.5, 1.0, 2.0]},
    ],
    ids=str,
)
def test_its_batches_are_those_of_basicsr_bit_for_bit(sets, changes, workers):
    if workers and changes:
        pytest.skip('one case with processes is enough')
    expected = batches({**sets['lmdb'], **copy.deepcopy(changes), 'io_backend': {'type': 'lmdb'}}, workers)
    assert_same(batches({**sets['raw'], **changes}, workers), expected)


def test_its_validation_samples_are_those_of_basicsr(sets):
    expected = list(build_dataset({**sets['lmdb'], 'phase': 'val', 'io_backend': {'type': 'lmdb'}}))
    assert_same(list(build_dataset({**sets['raw'], 'phase': 'val'})), expected)


def test_a_copy_for_a_spawned_worker_opens_the_files_itself(sets):
    dataset = build_dataset({**sets['raw'], 'phase': 'val'})
    first = dataset[0]['lq']
    assert dataset.sets['lq']._pixels is not None  # mapped
    content = pickle.dumps(dataset)
    assert len(content) < 20_000
    copied = pickle.loads(content)
    assert copied.sets['lq']._pixels is None
    assert torch.equal(copied[0]['lq'], first)


def test_uint8_becomes_the_same_numbers_on_the_device(sets):
    expected = batches(sets['raw'])
    found = batches({**sets['raw'], 'uint8': True})
    assert found[0]['lq'].dtype == found[0]['gt'].dtype == torch.uint8
    for batch in found:
        batch.update({key: batch[key].float().div_(255) for key in ('lq', 'gt')})
    assert_same(found, expected)


def test_every_8_bit_value_is_divided_as_numpy_does():
    values = np.arange(256, dtype=np.uint8)
    divided = torch.from_numpy(values).float().div_(255)
    np.testing.assert_array_equal(divided.numpy(), values.astype(np.float32) / 255.0)


def test_luma_is_basicsrs_for_every_colour():
    green, blue = np.meshgrid(np.arange(256, dtype=np.uint8), np.arange(256, dtype=np.uint8))
    for red in range(256):
        rgb = np.stack([np.full_like(green, red), green, blue])
        expected = bgr2ycbcr(rgb[::-1].transpose(1, 2, 0).astype(np.float32) / 255.0, y_only=True)
        np.testing.assert_array_equal(compute_luma(rgb)[0], expected)


def write_set(path, images, channels=3):
    """A raw set with one image per key."""
    writer = RawWriter(path, {}, dict.fromkeys(images, 0), channels)
    writer.open()
    for key, image in images.items():
        writer.add(key, 0, (image, [Window(key, 0, 0, *image.shape[1:])]))
    writer.finish()
    return str(path)


def test_a_third_image_is_cropped_and_flipped_with_the_gt(sets, tmp_path):
    plain = build_dataset({**sets['raw'], 'uint8': True})
    gt = plain.sets['gt']
    images = {key: np.concatenate([255 - gt.image(n), gt.image(n)]) for n, key in enumerate(gt.keys)}
    teacher = write_set(tmp_path / 'teacher.raw', images, channels=6)
    with_teacher = build_dataset({**sets['raw'], 'uint8': True, 'dataroot_teacher': teacher})
    for number in range(len(plain)):
        random.seed(number)
        expected = plain[number]
        random.seed(number)
        sample = with_teacher[number]
        assert torch.equal(sample['gt'], expected['gt'])
        assert torch.equal(sample['teacher'], torch.cat([255 - sample['gt'], sample['gt']]))


@pytest.mark.parametrize(
    ('changes', 'words'),
    [
        ({'scale': 2}, r"raw: .*hr_HR_sub\.raw is not 2 times .*X4_sub\.raw.*'im0_s001' has 48x48 against 12x12"),
        ({'gt_size': 52}, r"raw: 'im0_s001' in .*hr_HR_sub\.raw has 48x48 pixels, .* `gt_size: 52` \(19 such"),
        ({'dataroot_lq': 'gone.raw'}, r'raw: dataroot_lq: gone\.raw does not exist'),
        ({'meta_info_file': 'list.txt'}, 'raw: `meta_info_file` is for folders'),
        ({'uint8': True, 'color': 'y'}, 'raw: `color` needs values that are no whole numbers'),
        ({'uint8': True, 'mean': [0, 0, 0]}, 'raw: `mean` needs values that are no whole numbers'),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named(sets, changes, words):
    with pytest.raises(UserError, match=words):
        RawPairedImageDataset({**sets['raw'], **changes})


def test_sets_of_different_images_are_refused(sets, tmp_path):
    image = np.zeros((3, 12, 12), np.uint8)
    lq = write_set(tmp_path / 'lq.raw', {'im0_s001': image, 'zebra': image})
    with pytest.raises(
        UserError, match=r"hr_HR_sub\.raw and .*lq\.raw hold .*'im0_s002' is only in the first \(19 differ"
    ):
        RawPairedImageDataset({**sets['raw'], 'dataroot_lq': lq})
