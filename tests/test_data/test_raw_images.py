from __future__ import annotations

import errno
import functools
import json
import os
import shutil

import cv2
import lmdb
import numpy as np
import pytest
from PIL import Image

from kdsr import durable
from kdsr.data import prepare, raw_writer
from kdsr.data.lmdb_to_raw import convert_lmdb
from kdsr.data.raw_images import RawImages
from kdsr.errors import UserError
from tests.helpers.damage import damage_file

prepare_raw = functools.partial(
    prepare.prepare_training_set, scales=(2, 3), crop_size=48, step=24, workers=1, progress=False, raw=True
)


@pytest.fixture
def folder(tmp_path):
    """Three HR images in `set_HR`."""
    hr = tmp_path / 'set_HR'
    hr.mkdir()
    for seed, size in enumerate([(101, 77), (48, 60), (31, 130)]):
        pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(hr / f'im{seed}.png')
    return hr


def content(path):
    """Everything in a finished raw folder, wherever it lies in the file."""
    images = RawImages(path)
    names = sorted(p.name for p in path.iterdir())
    pixels = {key: images.image(n).tobytes() for n, key in enumerate(images.keys)}
    return pixels, images.sizes.tolist(), (path / 'kdsr_prepare.json').read_text(), names


def contents(out):
    assert not list(out.glob('*.partial'))
    return {p.name: content(p) for p in sorted(out.glob('*.raw'))}


def test_raw_sets_hold_what_the_lmdbs_hold(folder, tmp_path):
    lmdbs = prepare_raw(folder, tmp_path, raw=False)
    raws = prepare_raw(folder, tmp_path)
    assert [p.name for p in raws] == [p.name.replace('.lmdb', '.raw') for p in lmdbs]
    for raw, path in zip(raws, lmdbs):
        assert sorted(p.name for p in raw.iterdir()) == ['index.json', 'kdsr_prepare.json', 'pixels.bin']
        images = RawImages(raw)
        lines = (path / 'meta_info.txt').read_text().splitlines()
        shapes = [f'{k}.png ({h},{w},3) 1' for k, (h, w) in zip(images.keys, images.sizes)]
        assert shapes == lines
        with lmdb.open(str(path), readonly=True, lock=False) as environment, environment.begin() as transaction:
            for number, key in enumerate(images.keys):
                bgr = cv2.imdecode(np.frombuffer(transaction.get(key.encode()), np.uint8), cv2.IMREAD_COLOR)
                np.testing.assert_array_equal(images.image(number), bgr[..., ::-1].transpose(2, 0, 1))


def test_overlapping_sub_images_are_stored_once_and_the_size_is_told_before(folder, tmp_path, capsys):
    paths = prepare_raw(folder, tmp_path / 'out', progress=True)
    size = sum((p / 'pixels.bin').stat().st_size for p in paths)
    hr_pixels = 96 * 72 + 48 * 60 + 30 * 126  # cropped to multiples of 6
    assert size == 3 * hr_pixels * (36 + 9 + 4) // 36
    assert f'{size / 1e6:.2f} MB of disk' in capsys.readouterr().out


def test_a_disk_that_is_too_small_is_told_before(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(raw_writer.shutil, 'disk_usage', lambda path: shutil._ntuple_diskusage(9, 9, 50_000))
    with pytest.raises(UserError, match=r'0\.06 MB are needed in .*, and 0\.05 MB are free'):
        prepare_raw(folder, tmp_path / 'out')
    assert not (tmp_path / 'out').exists()


def test_a_disk_that_fills_up_keeps_what_is_finished(folder, tmp_path, monkeypatch):
    calls, flush = [], os.fsync

    def full(descriptor):
        calls.append(descriptor)
        if len(calls) == 20:
            raise OSError(errno.ENOSPC, 'No space left on device')
        flush(descriptor)

    monkeypatch.setattr(raw_writer.os, 'fsync', full)
    with pytest.raises(UserError, match=r'No space left .*Make room and run the same command again'):
        prepare_raw(folder, tmp_path / 'out')
    monkeypatch.undo()
    prepare_raw(folder, tmp_path / 'out')
    prepare_raw(folder, tmp_path / 'whole')
    assert contents(tmp_path / 'out') == contents(tmp_path / 'whole') != {}


class KilledError(BaseException):
    pass


def test_stopped_at_any_write_it_continues_to_the_same_content(folder, tmp_path, monkeypatch):
    prepare_raw(folder, tmp_path / 'whole')
    expected = contents(tmp_path / 'whole')
    flush = os.fsync
    for stop in range(1, 1000):
        out, left = tmp_path / f'out{stop}', [stop]

        def stopping(descriptor, left=left):
            left[0] -= 1
            if left[0] == 0:
                raise KilledError
            flush(descriptor)

        monkeypatch.setattr(durable.os, 'fsync', stopping)
        try:
            prepare_raw(folder, out)
        except KilledError:
            monkeypatch.undo()
            for complete in out.glob('*.raw'):
                assert content(complete)[:3] == expected[complete.name][:3]
            for half in out.glob('*.partial'):
                with pytest.raises(UserError, match='is not finished: run the command that began it again'):
                    RawImages(out / half.stem)
            for pixels in out.glob('*.partial/pixels.bin'):  # as if half an image had been written
                with pixels.open('ab') as file:
                    file.write(b'half an image')
            prepare_raw(folder, out)
            assert contents(out) == expected
        else:
            break
    assert stop > 3 * (2 * 3 + 5)  # each of 3 sets: pixels and journal of 3 images, settings twice, index, ...


def test_a_begun_run_refuses_other_settings_and_a_shortened_file(folder, tmp_path):
    whole = damage_file(folder / 'im1.png')
    with pytest.raises(UserError, match=r'im1\.png: it is damaged'):
        prepare_raw(folder, tmp_path)
    with pytest.raises(UserError, match=r'set_HR_sub\.raw\.partial was begun with step 24 \(now 48\)'):
        prepare_raw(folder, tmp_path, step=48)
    (folder / 'im1.png').write_bytes(whole)
    (tmp_path / 'set_HR_sub.raw.partial' / 'pixels.bin').write_bytes(b'short')
    with pytest.raises(UserError, match=r'set_HR_sub\.raw\.partial is damaged: pixels\.bin is too short'):
        prepare_raw(folder, tmp_path)


def test_two_workers_write_what_one_writes(folder, tmp_path):
    prepare_raw(folder, tmp_path / 'one')
    prepare_raw(folder, tmp_path / 'two', workers=2)
    assert contents(tmp_path / 'one') == contents(tmp_path / 'two') != {}


def damage(path, name, change):
    (path / name).write_bytes(change((path / name).read_bytes()))


@pytest.mark.parametrize(
    ('name', 'change', 'words'),
    [
        ('pixels.bin', lambda b: b[:-1], r'pixels\.bin has 41471 bytes instead of 41472.*copied in part'),
        ('index.json', lambda b: b[:-9], r'index\.json is damaged'),
        ('index.json', lambda b: b'[]', r'index\.json is damaged'),
        ('index.json', lambda b: b'\xff\xfe', r'index\.json is damaged'),
        ('index.json', lambda b: b.replace(b'kdsr raw 1', b'other'), r"in the format 'other', not 'kdsr raw 1'"),
    ],
)
def test_damaged_sets_are_refused(folder, tmp_path, name, change, words):
    (folder / 'im1.png').unlink()
    (folder / 'im2.png').unlink()
    path = prepare_raw(folder, tmp_path, step=48)[0]
    (path / 'pixels.bin').write_bytes((path / 'pixels.bin').read_bytes() + bytes(41472 - 3 * 96 * 72))
    index = json.loads((path / 'index.json').read_bytes())
    (path / 'index.json').write_text(json.dumps({**index, 'bytes': 41472}))
    RawImages(path)
    damage(path, name, change)
    with pytest.raises(UserError, match=rf'dataroot_gt: .*set_HR_sub\.raw.*{words}|dataroot_gt: .*{words}'):
        RawImages(path, 'dataroot_gt')


def test_foreign_folders_are_refused(folder, tmp_path):
    path = prepare_raw(folder, tmp_path, raw=False)[0]
    with pytest.raises(UserError, match=r'set_HR_sub\.lmdb holds no index\.json: it is no raw set'):
        RawImages(path)
    with pytest.raises(UserError, match=r'nowhere does not exist'):
        RawImages(tmp_path / 'nowhere')


def test_an_lmdb_is_converted_and_a_killed_conversion_continued(folder, tmp_path, monkeypatch):
    lmdbs = prepare_raw(folder, tmp_path, raw=False)
    expected = {
        key: pixels for path in prepare_raw(folder, tmp_path / 'raw')[:1] for key, pixels in content(path)[0].items()
    }
    add = raw_writer.RawWriter.add

    def stopping(self, name, *arguments):
        if name == 'im1_s001':
            raise KilledError
        add(self, name, *arguments)

    monkeypatch.setattr(raw_writer.RawWriter, 'add', stopping)
    with pytest.raises(KilledError):
        convert_lmdb(lmdbs[0], tmp_path / 'out', workers=1, progress=False)
    monkeypatch.undo()
    path = convert_lmdb(lmdbs[0], tmp_path / 'out', workers=1, progress=False)
    assert path.name == 'set_HR_sub.raw'
    assert content(path)[0] == expected
    assert convert_lmdb(lmdbs[0], tmp_path / 'out', progress=False) == path  # nothing to do


def test_what_is_no_lmdb_is_told(folder, tmp_path):
    with pytest.raises(UserError, match=r'set_HR is no LMDB of BasicSR: it has no meta_info\.txt'):
        convert_lmdb(folder, tmp_path)
    path = prepare_raw(folder, tmp_path, raw=False)[0]
    with open(path / 'meta_info.txt', 'a') as file:
        file.write('zebra.png (48,48,3) 1\n')
    with pytest.raises(UserError, match=r"the image 'zebra' is missing or damaged"):
        convert_lmdb(path, tmp_path / 'out', workers=1, progress=False)


def test_an_lmdb_without_images_makes_no_raw_set(tmp_path):
    with lmdb.open(str(tmp_path / 'empty.lmdb')):
        (tmp_path / 'empty.lmdb/meta_info.txt').write_text('\n')
    with pytest.raises(UserError, match=r'empty\.lmdb holds no image'):
        convert_lmdb(tmp_path / 'empty.lmdb', tmp_path / 'out')
    assert not (tmp_path / 'out').exists()
