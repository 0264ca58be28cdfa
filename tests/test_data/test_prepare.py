from __future__ import annotations

import functools
import json
import os
import signal
import socket
import subprocess
import sys
import time

import cv2
import lmdb
import numpy as np
import pytest
from basicsr.data.paired_image_dataset import PairedImageDataset
from PIL import Image

from kdsr import durable
from kdsr.data import lmdb_writer
from kdsr.data.matlab_bicubic import imresize_bicubic
from kdsr.data.prepare import prepare_benchmark_set, prepare_training_set
from kdsr.data.sub_images import list_sub_image_starts
from kdsr.errors import UserError
from tests.helpers.damage import damage_file

prepare = functools.partial(prepare_training_set, scales=(2, 3), crop_size=48, step=24, workers=1, progress=False)
benchmark = functools.partial(prepare_benchmark_set, scales=(2, 3), workers=1, progress=False)


def noise(height, width, seed=0):
    return np.random.default_rng([height, width, seed]).integers(0, 256, (height, width, 3), dtype=np.uint8)


def save(path, image, **options):
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(path, **options)


@pytest.fixture
def folder(tmp_path):
    """Three HR images in `set_HR`."""
    hr = tmp_path / 'set_HR'
    hr.mkdir()
    for seed, size in enumerate([(101, 77), (48, 60), (50, 130)]):
        save(hr / f'im{seed}.png', noise(*size, seed))
    return hr


def content(path):
    """Everything in a finished LMDB folder."""
    with lmdb.open(str(path), readonly=True, lock=False) as environment, environment.begin() as transaction:
        images = {key.decode(): bytes(value) for key, value in transaction.cursor()}
    names = sorted(p.name for p in path.iterdir())
    return images, (path / 'meta_info.txt').read_text(), (path / 'kdsr_prepare.json').read_text(), names


def contents(out):
    assert not list(out.glob('*.partial'))
    return {p.name: content(p) for p in sorted(out.glob('*.lmdb'))}


def decode(png):
    return cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_UNCHANGED)


@pytest.mark.parametrize(
    ('size', 'expected'),
    [
        (480, [0]),
        (720, [0, 240]),
        (732, [0, 240, 252]),
        (300, [0]),
        (2040, [0, 240, 480, 720, 960, 1200, 1440, 1560]),
    ],
)
def test_sub_images_reach_the_border(size, expected):
    assert list_sub_image_starts(size, 480, 240) == expected


def test_lmdbs_hold_aligned_crops_in_basicsr_format(folder, tmp_path):
    paths = prepare(folder, tmp_path / 'out')
    assert [p.name for p in paths] == ['set_HR_sub.lmdb', 'set_LR_bicubic_X2_sub.lmdb', 'set_LR_bicubic_X3_sub.lmdb']
    # im0 is cropped to 96x72, im1 to 48x60, im2 to 48x126
    corners = {
        'im0': [(y, x) for y in (0, 24, 48) for x in (0, 24)],
        'im1': [(0, 0), (0, 12)],
        'im2': [(0, 0), (0, 24), (0, 48), (0, 72), (0, 78)],
    }
    for scale, path in zip((1, 2, 3), paths):
        images, meta, _, names = content(path)
        assert names == ['checksums.json', 'data.mdb', 'kdsr_prepare.json', 'meta_info.txt']
        lines, side = [], 48 // scale
        for stem, positions in corners.items():
            hr = cv2.imread(str(folder / f'{stem}.png'))
            whole = imresize_bicubic(hr[: hr.shape[0] // 6 * 6, : hr.shape[1] // 6 * 6], scale)
            for number, (y, x) in enumerate(positions, 1):
                crop = whole[y // scale : y // scale + side, x // scale : x // scale + side]
                png = images.pop(f'{stem}_s{number:03d}')
                np.testing.assert_array_equal(decode(png), crop)
                assert png == cv2.imencode('.png', crop, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1].tobytes()
                lines.append(f'{stem}_s{number:03d}.png ({side},{side},3) 1\n')
        assert not images
        assert meta == ''.join(lines)


def test_basicsr_reads_the_pairs(folder, tmp_path):
    hr_lmdb, _, lr_lmdb = map(str, prepare(folder, tmp_path))
    options = {'dataroot_gt': hr_lmdb, 'dataroot_lq': lr_lmdb, 'io_backend': {'type': 'lmdb'}, 'scale': 3}
    dataset = PairedImageDataset({**options, 'phase': 'val'})
    pairs = {pair['gt_path']: pair for pair in dataset}
    assert len(pairs) == 13
    hr = cv2.imread(str(folder / 'im0.png'))[:96, :72, ::-1]
    pair = pairs['im0_s004']  # second row, second column
    for name, crop in (('gt', hr[24:72, 24:72]), ('lq', imresize_bicubic(hr, 3)[8:24, 8:24])):
        np.testing.assert_array_equal(np.rint(pair[name].numpy() * 255).transpose(1, 2, 0), crop)


def test_short_sides_are_used_whole(tmp_path):
    hr = tmp_path / 'small'
    hr.mkdir()
    save(hr / 'a.png', noise(31, 100))
    out = prepare(hr, tmp_path / 'out')
    assert [p.name for p in out] == [f'small_{n}_sub.lmdb' for n in ('HR', 'LR_bicubic_X2', 'LR_bicubic_X3')]
    shapes = [[line.split()[1] for line in (p / 'meta_info.txt').read_text().splitlines()] for p in out]
    assert shapes == [['(30,48,3)'] * 3, ['(15,24,3)'] * 3, ['(10,16,3)'] * 3]


def test_the_map_grows(folder, tmp_path, monkeypatch):
    expected = prepare(folder, tmp_path / 'large')
    monkeypatch.setattr(lmdb_writer, '_FIRST_MAP_SIZE', 32768)  # less than one image needs
    for a, b in zip(expected, prepare(folder, tmp_path / 'small')):
        assert content(a) == content(b)


def test_two_workers_write_what_one_writes(folder, tmp_path):
    for seed in range(3, 12):
        save(folder / f'im{seed}.png', noise(60, 60 + seed, seed))
    prepare(folder, tmp_path / 'one')
    prepare(folder, tmp_path / 'two', workers=2)
    assert contents(tmp_path / 'two') == contents(tmp_path / 'one') != {}
    for workers in (1, 2):
        benchmark(folder, tmp_path / f'png{workers}', workers=workers)
    files = [{p.relative_to(d): p.read_bytes() for p in d.rglob('*.png')} for d in tmp_path.glob('png*')]
    assert files[0] == files[1]
    assert len(files[0]) == 36


def test_a_finished_set_is_left_alone(folder, tmp_path, capsys):
    out = prepare(folder, tmp_path / 'out', progress=True)
    started = capsys.readouterr()
    assert '3 images' in started.out
    assert str(out[2]) in started.out
    assert '3/3' in started.err
    before = [(p / 'data.mdb').stat().st_mtime_ns for p in out]
    assert prepare(folder, tmp_path / 'out', progress=True) == out
    assert 'Nothing to do' in capsys.readouterr().out
    assert [(p / 'data.mdb').stat().st_mtime_ns for p in out] == before


class KilledError(BaseException):
    pass


def test_stopped_at_any_write_it_continues_to_the_same_content(folder, tmp_path, monkeypatch):
    prepare(folder, tmp_path / 'whole')
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
            prepare(folder, out)
        except KilledError:
            monkeypatch.undo()
            for complete in out.glob('*.lmdb'):
                assert content(complete)[:3] == expected[complete.name][:3]
            prepare(folder, out)
            assert contents(out) == expected
        else:
            break
    assert stop > 3 * (3 + 5)  # each of 3 LMDBs: 3 images, settings twice, meta_info, ...


SCRIPT = """
import sys
from kdsr.data.prepare import prepare_training_set
prepare_training_set(sys.argv[1], sys.argv[2], scales=(2, 4), crop_size=96, step=16, workers=2, progress=False)
"""


def alive(pid):
    try:
        with open(f'/proc/{pid}/stat') as file:
            return file.read().rsplit(')', 1)[1].split()[0] not in 'ZX'
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_for(condition, process=None):
    end = time.monotonic() + 300  # on a busy machine
    while not condition():
        assert time.monotonic() < end
        assert process is None or process.poll() is None, 'the run ended before it could be killed'
        time.sleep(0.002)


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith('linux'), reason='looks at processes through /proc')
def test_killed_run_continues_to_the_same_content(tmp_path):
    hr, out = tmp_path / 'set_HR', tmp_path / 'out'
    hr.mkdir()
    for seed in range(24):
        save(hr / f'{seed:02d}.png', noise(300, 200, seed), compress_level=1)
    again = functools.partial(prepare, hr, scales=(2, 4), crop_size=96, step=16)
    journal = out / 'set_LR_bicubic_X4_sub.lmdb.partial' / 'finished.jsonl'
    process = subprocess.Popen([sys.executable, '-c', SCRIPT, str(hr), str(out)])
    try:
        wait_for(lambda: journal.exists() and journal.read_bytes().count(b'\n') >= 3, process)
        process.send_signal(signal.SIGSTOP)
        with pytest.raises(UserError, match=rf'set_HR_sub\.lmdb is being written by process {process.pid} on '):
            again(out)
        with open(f'/proc/{process.pid}/task/{process.pid}/children') as file:
            workers = [int(pid) for pid in file.read().split()]
        assert len(workers) >= 1
    finally:
        process.kill()
        process.wait()
    assert journal.read_bytes().count(b'\n') < 24
    assert not list(out.glob('*.lmdb'))
    wait_for(lambda: not any(map(alive, workers)))
    finished = {p: p.read_bytes() for p in out.glob('*/finished.jsonl')}
    with pytest.raises(UserError, match='step'):  # a refusal leaves it alone
        again(out, step=32)
    assert finished == {p: p.read_bytes() for p in out.glob('*/finished.jsonl')}
    again(out)
    again(tmp_path / 'whole')
    assert contents(out) == contents(tmp_path / 'whole')


def stop_after_first(folder, out):
    """Begin a run that stops at a damaged second image."""
    damage_file(folder / 'im1.png')
    with pytest.raises(UserError, match=r'im1\.png: it is damaged or incomplete.*Remove or replace.*are kept'):
        prepare(folder, out)
    assert not list(out.glob('*.lmdb'))


@pytest.mark.parametrize('cure', ['remove', 'replace', 'rename'])
def test_a_damaged_image_stops_the_run_until_it_is_replaced(folder, tmp_path, cure):
    stop_after_first(folder, tmp_path / 'out')
    (folder / 'im1.png').unlink()
    if cure != 'remove':
        save(folder / {'replace': 'im1.png', 'rename': 'im1.bmp'}[cure], noise(70, 70))
    # as if the kill had come between committing and noting a larger version of the image
    stray = tmp_path / 'out' / 'set_HR_sub.lmdb.partial'
    with lmdb.open(str(stray)) as environment, environment.begin(write=True) as transaction:
        transaction.put(b'im1_s099', b'stray')
    prepare(folder, tmp_path / 'out')
    prepare(folder, tmp_path / 'whole')
    assert contents(tmp_path / 'out') == contents(tmp_path / 'whole')


def test_truncated_jpegs_are_not_filled_with_grey(tmp_path):
    save(tmp_path / 'a.jpg', noise(200, 200), quality=95)
    data = (tmp_path / 'a.jpg').read_bytes()
    (tmp_path / 'a.jpg').write_bytes(data[: len(data) // 2])
    with pytest.raises(UserError, match=r'a\.jpg: it is truncated'):
        benchmark(tmp_path, tmp_path / 'out')
    assert not list((tmp_path / 'out').rglob('*.png'))


def test_corrupt_png_data_is_noticed(folder, tmp_path):
    data = bytearray((folder / 'im0.png').read_bytes())
    data[len(data) // 2] ^= 1
    (folder / 'im0.png').write_bytes(data)
    with pytest.raises(UserError, match=r'im0\.png: it is damaged'):
        prepare(folder, tmp_path / 'out')


def test_a_begun_run_refuses_other_settings_and_images(folder, tmp_path):
    out = tmp_path / 'out'
    stop_after_first(folder, out)
    partial = 'set_HR_sub.lmdb.partial'
    with pytest.raises(UserError, match=rf'{partial} was begun with step 24 \(now 48\).*delete .*{partial}'):
        prepare(folder, out, step=48)
    with pytest.raises(UserError, match=r'crop_size 48 \(now 96\)'):
        prepare(folder, out, crop_size=96)
    with pytest.raises(UserError, match=r'scales \[2, 3\] \(now \[2\]\)'):
        prepare(folder, out, scales=(2,))
    save(folder / 'new.png', noise(60, 60))
    with pytest.raises(UserError, match=rf'{partial} was begun without the images new\. .*delete'):
        prepare(folder, out)
    (folder / 'new.png').unlink()
    save(folder / 'im0.png', noise(99, 60))
    with pytest.raises(UserError, match=rf'{partial} holds images that were changed or removed since: im0\.png'):
        prepare(folder, out)
    (folder / 'im0.png').unlink()
    with pytest.raises(UserError, match=r'changed or removed since: im0\.png'):
        prepare(folder, out)


def test_a_finished_set_refuses_other_settings_and_images(folder, tmp_path):
    out = tmp_path / 'out'
    prepare(folder, out)
    with pytest.raises(UserError, match=r'set_HR_sub\.lmdb exists, made with step 24 \(now 48\)\. Delete .*or choose'):
        prepare(folder, out, step=48)
    save(folder / 'new.png', noise(60, 60))
    with pytest.raises(UserError, match=r'exists, made with other source images \(new\.png\)'):
        prepare(folder, out)
    (folder / 'new.png').unlink()
    (out / 'set_HR_sub.lmdb' / 'kdsr_prepare.json').unlink()
    with pytest.raises(UserError, match=r'set_HR_sub\.lmdb exists, but not from this command'):
        prepare(folder, out)


@pytest.mark.parametrize('make', [prepare, benchmark])
def test_all_unusable_files_are_listed_at_once(folder, tmp_path, make):
    (folder / 'notes.png').write_text('hello')
    (folder / 'notes.txt').write_text('passed over')
    (folder / '.hidden').write_text('passed over')
    (folder / 'Thumbs.db').write_text('passed over')
    (folder / 'sub').mkdir()
    cv2.imwrite(str(folder / 'deep_rgb.png'), noise(20, 20).astype(np.uint16) * 257)
    cv2.imwrite(str(folder / 'deep_rgb.tiff'), noise(20, 20).astype(np.uint16) * 257)
    cv2.imwrite(str(folder / 'deep_grey.png'), noise(20, 20)[..., 0].astype(np.uint16) * 257)
    save(folder / 'print.jpg', Image.new('CMYK', (20, 20)))
    save(folder / 'tiny.png', noise(1, 50))
    save(folder / 'im0.bmp', noise(20, 20))
    with pytest.raises(UserError) as caught:
        make(folder, tmp_path / 'out')
    head, *lines = str(caught.value).splitlines()
    assert head.startswith('8 problems')
    told = {line.split(':')[0].strip(): line for line in lines}
    assert 'it is not a readable PNG, JPEG' in told['notes.png']
    for name in ('deep_rgb.png', 'deep_rgb.tiff', 'deep_grey.png'):
        assert '16 or more bits per channel. Convert it to 8 bit' in told[name]
    assert 'CMYK. Convert it to RGB' in told['print.jpg']
    assert '1x50 pixels; at least' in told['tiny.png']
    assert "would be named 'im0'" in told['im0.bmp, im0.png']
    assert "would be named 'deep_rgb'" in told['deep_rgb.png, deep_rgb.tiff']
    assert not (tmp_path / 'out').exists()


def test_lmdb_keys_are_ascii_without_dots(folder, tmp_path):
    save(folder / 'a.b.png', noise(48, 48))
    images = content(prepare(folder, tmp_path / 'out')[0])[0]
    assert 'a_b_s001' in images
    save(folder / 'a_b.png', noise(48, 48))
    save(folder / 'é.png', noise(48, 48))
    with pytest.raises(UserError, match=r"(?s)é\.png: LMDB keys must be ascii.*a\.b\.png, a_b\.png: .*'a_b'"):
        prepare(folder, tmp_path / 'other')


@pytest.mark.parametrize('make', [prepare, benchmark])
def test_names_that_windows_and_macos_take_for_one_are_refused(folder, tmp_path, make):
    save(folder / 'IM0.bmp', noise(20, 20))
    with pytest.raises(UserError, match=r"IM0\.bmp, im0\.png: all would be named 'IM0'"):
        make(folder, tmp_path / 'out')


def test_missing_and_empty_folders_are_named(tmp_path):
    with pytest.raises(UserError, match='gone does not exist'):
        prepare(tmp_path / 'gone', tmp_path / 'out')
    (tmp_path / 'empty').mkdir()
    with pytest.raises(UserError, match=r'no image in .*empty'):
        benchmark(tmp_path / 'empty', tmp_path / 'out')
    (tmp_path / 'file').write_text('')
    with pytest.raises(UserError, match='file is not a folder'):
        prepare(tmp_path / 'file', tmp_path / 'out')


@pytest.mark.parametrize(
    ('options', 'words'),
    [
        ({'crop_size': 50}, r'crop_size must be a multiple of every scale in \[2, 3\]; got 50'),
        ({'step': 16}, r'step must be a multiple of every scale in \[2, 3\]; got 16'),
        ({'step': 0}, 'step must be a multiple.*got 0'),
        ({'scales': ()}, r'scales must be .*got \[\]'),
        ({'scales': (1, 2)}, r'at least 2; got \[1, 2\]'),
        ({'scales': (2, 2)}, r'different integers.*got \[2, 2\]'),
        ({'workers': 0}, '1 worker is needed; got 0'),
    ],
)
def test_impossible_settings_are_named(folder, tmp_path, options, words):
    with pytest.raises(UserError, match=words):
        prepare(folder, tmp_path / 'out', **options)


def test_harmless_kinds_become_rgb(tmp_path):
    rgb, grey = noise(24, 36), noise(24, 36)[..., 0]
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: show it rotated clockwise
    palette = Image.fromarray(rgb).quantize(7)
    black_white = Image.fromarray(grey > 99)
    save(tmp_path / 'grey.png', grey)
    save(tmp_path / 'alpha.png', np.dstack([rgb, np.full_like(grey, 255)]))
    save(tmp_path / 'palette.png', palette)
    save(tmp_path / 'bits.png', black_white)
    save(tmp_path / 'turned.png', rgb, exif=exif)
    expected = {
        'grey': np.dstack([grey] * 3),
        'alpha': rgb,
        'palette': np.asarray(palette.getpalette(), np.uint8).reshape(-1, 3)[np.asarray(palette)],
        'bits': np.dstack([np.where(grey > 99, 255, 0)] * 3),
        'turned': np.rot90(rgb, k=-1),
    }
    gt, *_ = benchmark(tmp_path, tmp_path / 'out')
    for name, image in expected.items():
        np.testing.assert_array_equal(cv2.imread(str(gt / f'{name}.png'), cv2.IMREAD_UNCHANGED)[..., ::-1], image)
    assert benchmark(tmp_path, tmp_path / 'out')[0] == gt  # the turned size is no reason to refuse


@pytest.mark.parametrize('kind', ['alpha', 'palette'])
def test_transparency_is_refused(tmp_path, kind):
    rgb = Image.fromarray(noise(24, 36))
    alpha = Image.new('L', rgb.size, 255)
    alpha.putpixel((3, 4), 254)
    if kind == 'alpha':
        rgb.putalpha(alpha)
        save(tmp_path / 'a.png', rgb)
    else:
        save(tmp_path / 'a.png', rgb.quantize(9), transparency=3)
    with pytest.raises(UserError, match=r'a\.png: it is partly transparent\. Save it without'):
        benchmark(tmp_path, tmp_path / 'out')


@pytest.mark.parametrize('scales', [(2, 3, 4), (4,), (5, 2)])
def test_benchmark_folders_hold_whole_images_and_lr_images_of_the_own_crop(folder, tmp_path, scales):
    paths = benchmark(folder, tmp_path / 'out', scales=scales)
    assert [p.relative_to(tmp_path / 'out').as_posix() for p in paths] == ['HR', *(f'LR_bicubic/X{s}' for s in scales)]
    hr = cv2.imread(str(folder / 'im0.png'))
    assert hr.shape == (101, 77, 3)
    np.testing.assert_array_equal(cv2.imread(str(paths[0] / 'im0.png')), hr)
    for scale, path in zip(scales, paths[1:]):
        assert sorted(p.name for p in path.iterdir()) == [f'im{i}x{scale}.png' for i in range(3)]
        cropped = hr[: 101 - 101 % scale, : 77 - 77 % scale]
        np.testing.assert_array_equal(cv2.imread(str(path / f'im0x{scale}.png')), imresize_bicubic(cropped, scale))


@pytest.mark.parametrize(('scales', 'mod'), [((2, 3, 4), 12), ((4,), 12), ((5, 2), 10)])
def test_gtmod12_adds_images_cropped_to_a_multiple_of_all_scales(folder, tmp_path, scales, mod):
    paths = benchmark(folder, tmp_path / 'out', scales=scales, gtmod12=True)[len(scales) + 1 :]
    assert [p.name for p in paths] == [f'GTmod{mod}', *(f'LRbicx{s}' for s in scales)]
    for scale, path in zip((1, *scales), paths):
        assert sorted(p.name for p in path.iterdir()) == ['im0.png', 'im1.png', 'im2.png']
        hr = cv2.imread(str(folder / 'im0.png'))[: 101 // mod * mod, : 77 // mod * mod]
        np.testing.assert_array_equal(cv2.imread(str(path / 'im0.png')), imresize_bicubic(hr, scale))


def test_the_hr_folder_of_a_set_stays_as_it_is(folder, tmp_path):
    hr = tmp_path / 'out' / 'HR'
    folder.rename(folder.with_name('moved'))
    (tmp_path / 'out').mkdir()
    folder.with_name('moved').rename(hr)
    before = {p.name: (p.read_bytes(), p.stat().st_mtime_ns) for p in hr.iterdir()}
    assert benchmark(hr, tmp_path / 'out')[0] == hr
    assert {p.name: (p.read_bytes(), p.stat().st_mtime_ns) for p in hr.iterdir()} == before
    assert (tmp_path / 'out/LR_bicubic/X2/im0x2.png').is_file()
    Image.open(hr / 'im1.png').save(hr / 'im1.bmp')
    (hr / 'im1.png').unlink()
    with pytest.raises(UserError, match=r'1 image cannot stay here.*: im1\.bmp\. Rename this folder'):
        benchmark(hr, tmp_path / 'out')


def test_benchmark_completes_what_is_missing_only(folder, tmp_path):
    gt, x2, _ = benchmark(folder, tmp_path / 'out')
    expected = {p: p.read_bytes() for p in (tmp_path / 'out').rglob('*.png')}
    (gt / 'im1.png').unlink()
    (x2 / 'im2x2.png').unlink()
    ended = subprocess.Popen([sys.executable, '-c', ''])
    ended.wait()
    (x2 / f'.im2x2.png.01234567-{ended.pid}-{socket.gethostname()}.partial').write_bytes(b'left by a kill')
    kept = {p: p.stat().st_mtime_ns for p in expected if p.exists()}
    assert len(kept) == 7
    benchmark(folder, tmp_path / 'out')
    assert {p: p.read_bytes() for p in (tmp_path / 'out').rglob('*') if p.is_file()} == expected
    assert {p: p.stat().st_mtime_ns for p in kept} == kept


def test_benchmark_refuses_files_that_do_not_belong(folder, tmp_path):
    gt, x2, x3 = benchmark(folder, tmp_path / 'out')
    save(gt / 'other.png', noise(24, 24))
    save(x2 / 'im0x2.png', noise(24, 24))
    (x3 / 'im1x3.png').write_bytes(b'')
    with pytest.raises(UserError) as caught:
        benchmark(folder, tmp_path / 'out')
    head, *lines = str(caught.value).splitlines()
    assert 'Delete them or choose another output' in head
    assert [line.split(': ')[1] for line in lines] == [
        'there is no such HR image.',
        '24x24 pixels instead of 50x38.',
        'it cannot be read.',
    ]


def test_settings_name_what_the_lmdb_was_made_from(folder, tmp_path):
    made = json.loads((prepare(folder, tmp_path / 'out')[0] / 'kdsr_prepare.json').read_bytes())
    assert made['settings'] == {'crop_size': 48, 'step': 24, 'scales': [2, 3]}
    assert made['sources'] == {p.name: p.stat().st_size for p in folder.iterdir()}


def test_half_a_journal_line_is_forgotten(folder, tmp_path):
    stop_after_first(folder, tmp_path / 'out')
    (folder / 'im1.png').unlink()
    journals = list((tmp_path / 'out').glob('*/finished.jsonl'))
    for journal in journals:
        line = journal.read_bytes()
        assert line.count(b'\n') == 1
        journal.write_bytes(line + line.replace(b'im0', b'im2')[: len(line) // 2])
    save(folder / 'im1.png', noise(70, 70))
    whole = damage_file(folder / 'im2.png')
    with pytest.raises(UserError, match=r'im2\.png: it is damaged'):
        prepare(folder, tmp_path / 'out')
    for journal in journals:
        assert [json.loads(line)['file'] for line in journal.read_bytes().splitlines()] == ['im0.png', 'im1.png']
    (folder / 'im2.png').write_bytes(whole)
    prepare(folder, tmp_path / 'out')
    prepare(folder, tmp_path / 'whole')
    assert contents(tmp_path / 'out') == contents(tmp_path / 'whole')


def test_damage_that_a_worker_process_finds_is_reported_alike(folder, tmp_path):
    save(folder / 'im9.png', noise(60, 60))
    damage_file(folder / 'im9.png')
    with pytest.raises(UserError, match=r'im9\.png: it is damaged or incomplete'):
        prepare(folder, tmp_path / 'out', workers=2)
    for journal in (tmp_path / 'out').glob('*/finished.jsonl'):
        assert [json.loads(line)['file'] for line in journal.read_bytes().splitlines()] == [
            'im0.png',
            'im1.png',
            'im2.png',
        ]


def test_names_that_are_no_utf8_give_names_of_the_same_bytes(tmp_path, capsys):
    hr = tmp_path / 'hr'
    hr.mkdir()
    try:
        save(hr / os.fsdecode(b'caf\xe9.png'), noise(24, 24))
    except (OSError, ValueError):
        pytest.skip('the file system refuses such names')
    gt, *_ = benchmark(hr, tmp_path / os.fsdecode(b'\xff'), progress=True)
    assert [os.fsencode(p.name) for p in gt.iterdir()] == [b'caf\xe9.png']
    assert r'\udcff' in capsys.readouterr().out
    with pytest.raises(UserError, match=r'caf\\udce9\.png: LMDB keys must be ascii\. Rename it'):
        prepare(hr, tmp_path / 'out')


@pytest.mark.skipif(not hasattr(os, 'mkfifo'), reason='needs named pipes')
@pytest.mark.timeout(60)
@pytest.mark.parametrize('make', [prepare, benchmark])
def test_pipes_devices_and_links_that_lead_nowhere_are_named(folder, tmp_path, make):
    os.mkfifo(folder / 'pipe.png')
    os.symlink('/dev/zero', folder / 'device.png')
    os.symlink('gone.png', folder / 'dangling.png')
    os.symlink('loop.png', folder / 'loop.png')
    os.symlink('im0.png', folder / 'link.png')
    with pytest.raises(UserError) as caught:
        make(folder, tmp_path / 'out')
    head, *lines = str(caught.value).splitlines()
    assert head.startswith('4 problems with')
    assert [line.split(':')[0].strip() for line in lines] == ['dangling.png', 'device.png', 'loop.png', 'pipe.png']
    assert 'a link to gone.png, which cannot be followed' in lines[0]
    assert 'it is a device, not a file. Remove or replace it.' in lines[1]


@pytest.mark.parametrize('ending', ['png', 'webp', 'tif'])
def test_animated_files_are_refused(folder, tmp_path, ending):
    frames = [Image.fromarray(noise(60, 60, seed)) for seed in range(3)]
    frames[0].save(folder / f'film.{ending}', save_all=True, append_images=frames[1:])
    with pytest.raises(UserError, match=rf'1 problem .*\n  film\.{ending}: it has 3 frames\. Save the one that you'):
        prepare(folder, tmp_path / 'out')
