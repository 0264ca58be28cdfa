from __future__ import annotations

import errno
import functools
import json
import os
import pickle
import shutil
import zlib

import cv2
import lmdb
import numpy as np
import pytest
from PIL import Image

from kdsr import durable
from kdsr.cli import main
from kdsr.data import disk_room, prepare, raw_images, raw_writer
from kdsr.data.lmdb_to_raw import convert_lmdb
from kdsr.data.raw_images import RawImages
from kdsr.data.verifying import verify_sets
from kdsr.errors import UserError
from tests.helpers.damage import damage_file, flip_byte

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
    monkeypatch.setattr(disk_room.shutil, 'disk_usage', lambda path: shutil._ntuple_diskusage(9, 9, 50_000))
    with pytest.raises(UserError, match=r'0\.06 MB more are needed, and 0\.05 MB are free: 0\.01 MB are missing'):
        prepare_raw(folder, tmp_path / 'out')
    assert not (tmp_path / 'out').exists()


def test_the_room_that_is_needed_shrinks_with_every_stored_image(tmp_path):
    """Two images of 4x5 pixels are announced, of three channels in single precision."""
    writer = raw_writer.RawWriter(tmp_path / 'set.raw', {}, {'a': 1, 'b': 1}, 3, 'float32', pixels=40)
    assert writer.estimate_needed() == 2 * 20 * 3 * 4
    writer.open()
    writer.add('a', 1, (np.zeros((3, 4, 5), np.float32), [raw_images.Window('a', 0, 0, 4, 5)]))
    assert writer.estimate_needed() == 20 * 3 * 4
    writer.close()


def test_a_disk_that_fills_up_keeps_what_is_finished(folder, tmp_path, monkeypatch):
    calls, flush = [], os.fsync

    def full(descriptor):
        calls.append(descriptor)
        if len(calls) == 20:
            raise OSError(errno.ENOSPC, 'No space left on device')
        flush(descriptor)

    monkeypatch.setattr(raw_writer.os, 'fsync', full)
    with pytest.raises(UserError, match=r'There is no room in .*Make room and run the same command again'):
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
    with pytest.raises(UserError, match=r'set_HR_sub\.lmdb has no index\.json, so it is not a raw set'):
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
    with pytest.raises(UserError, match=r'set_HR is not an LMDB of BasicSR: it has no meta_info\.txt'):
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


# checksums


def spoil(path, name, change):
    """Change the pixels of one whole image; the size of the file stays."""
    images = RawImages(path)
    number = images.frames.index(name)
    size = images.frame(number).size
    with (path / 'pixels.bin').open('r+b') as file:
        file.seek(images._offsets[number])
        content = bytearray(file.read(size))
        change(content)
        file.seek(images._offsets[number])
        file.write(content)


def flip(content):
    content[len(content) // 3] ^= 4


def zero(content):
    content[:] = bytes(len(content))


@pytest.mark.parametrize('change', [flip, zero])
def test_changed_pixels_are_noticed_when_the_image_is_read_first(folder, tmp_path, change):
    path = prepare_raw(folder, tmp_path)[0]
    spoil(path, 'im1.png', change)
    images = RawImages(path, 'dataroot_gt')
    keys = {images.frames[frame]: number for number, (frame, *_) in enumerate(images._windows.tolist())}
    images.image(keys['im0.png'])
    for _ in range(2):
        with pytest.raises(UserError, match=r"dataroot_gt: the pixels of 'im1\.png' in .*set_HR_sub\.raw are damaged"):
            images.image(keys['im1.png'])
    images.image(keys['im2.png'])


def test_an_image_is_compared_once_in_all_forked_processes_and_again_after_pickling(folder, tmp_path, monkeypatch):
    images = RawImages(prepare_raw(folder, tmp_path)[0])
    compared, crc32 = [], zlib.crc32
    monkeypatch.setattr(raw_images.zlib, 'crc32', lambda content: compared.append(len(content)) or crc32(content))
    if hasattr(os, 'fork'):
        child = os.fork()
        if child == 0:
            images.frame(0)
            os._exit(len(compared))
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1
        images.frame(0)
        assert compared == []
    images.image(0)
    images.frame(1)
    count = len(compared)
    for number in range(len(images)):
        images.image(number)
    assert len(compared) <= 3
    pickle.loads(pickle.dumps(images)).frame(1)
    assert len(compared) > count


def test_sets_of_older_versions_are_read_without_checksums(folder, tmp_path):
    path = prepare_raw(folder, tmp_path)[0]
    index = json.loads((path / 'index.json').read_bytes())
    del index['crc32']
    (path / 'index.json').write_text(json.dumps(index))
    spoil(path, 'im1.png', zero)
    images = RawImages(path)
    assert not images.has_checksums
    assert all(images.image(number).size for number in range(len(images)))
    assert list(images.find_damaged()) == [None] * 3


def test_verification_reads_everything_and_names_what_is_damaged(folder, tmp_path, capsys):
    paths = prepare_raw(folder, tmp_path)
    verify_sets(paths, workers=1)
    assert capsys.readouterr().out.count('3 images, all as they were written.') == 3
    spoil(paths[1], 'im1.png', flip)
    spoil(paths[1], 'im2.png', flip)
    with pytest.raises(UserError, match=r"X2_sub\.raw: 2 images damaged .*: 'im1\.png', 'im2\.png'\. Delete it and"):
        verify_sets(paths, workers=1, progress=False)
    index = json.loads((paths[0] / 'index.json').read_bytes())
    del index['crc32']
    (paths[0] / 'index.json').write_text(json.dumps(index))
    verify_sets(paths[:1], workers=1)
    assert 'made by an older version, without checksums' in capsys.readouterr().out


def test_verification_of_lmdbs_and_folders(folder, tmp_path, capsys):
    gt, *_ = prepare_raw(folder, tmp_path, raw=False)
    verify_sets([gt, folder], workers=1)
    assert capsys.readouterr().out.count('all as they were written') == 1
    with lmdb.open(str(gt), lock=False) as environment, environment.begin(write=True) as content:
        content.put(b'im0_s001', flip_byte(content.get(b'im0_s001')))
        image = cv2.imencode('.png', np.zeros((48, 48, 3), np.uint8))[1].tobytes()
        content.put(b'im0_s002', image)  # whole, but another
    with pytest.raises(UserError, match=r"set_HR_sub\.lmdb: 2 images damaged .*'im0_s001', 'im0_s002'"):
        verify_sets([gt], workers=1, progress=False)
    (gt / 'checksums.json').unlink()
    with pytest.raises(UserError, match=r"set_HR_sub\.lmdb: 1 image damaged .*'im0_s001'"):
        verify_sets([gt], workers=1, progress=False)
    damage_file(folder / 'im2.png')
    with pytest.raises(UserError, match=r"set_HR: 1 image damaged .*'im2\.png'"):
        verify_sets([folder], workers=1, progress=False)


def test_the_commands_verify(folder, tmp_path, capsys):
    words = [
        'prepare',
        str(folder),
        '--out',
        str(tmp_path),
        '--scale',
        '2',
        '--crop-size',
        '48',
        '--step',
        '24',
        '--raw',
    ]
    main([*words, '--workers', '1', '--verify'])
    assert capsys.readouterr().out.count('all as they were written') == 2
    spoil(tmp_path / 'set_HR_sub.raw', 'im0.png', flip)
    main(words)  # finished, as far as sizes tell
    with pytest.raises(SystemExit, match=r"1 image damaged since they were written: 'im0\.png'"):
        main([*words, '--verify'])


@pytest.mark.parametrize(
    ('change', 'words'),
    [
        (lambda index: index['frames'][1].__setitem__(1, 10**9), r"image 'im1\.png' does not lie in pixels\.bin"),
        (lambda index: index['frames'][1].__setitem__(2, -5), r"image 'im1\.png' does not lie in pixels\.bin"),
        (lambda index: index['windows'][0].__setitem__(0, 7), 'a window of an image that is not there'),
        (lambda index: index['windows'][2].__setitem__(2, 90), r"'im0_s003' does not lie in its image"),
        (lambda index: index['windows'][2].__setitem__(3, -1), r"'im0_s003' does not lie in its image"),
        (lambda index: index['crc32'].pop(), '2 checksums for 3 images'),
        (lambda index: index.pop('frames'), 'index.json is damaged'),
        (lambda index: index.update(frames=3), 'index.json is damaged'),
        (lambda index: index.update(dtype='no type'), 'index.json is damaged'),
        (lambda index: index.update(windows=[[0]]), 'index.json is damaged'),
    ],
)
def test_an_index_that_points_elsewhere_is_refused(folder, tmp_path, change, words):
    path = prepare_raw(folder, tmp_path)[0]
    index = json.loads((path / 'index.json').read_bytes())
    change(index)
    (path / 'index.json').write_text(json.dumps(index))
    with pytest.raises(UserError, match=rf'dataroot_gt: .*index\.json is damaged.*{words}|dataroot_gt: .*{words}'):
        RawImages(path, 'dataroot_gt')
