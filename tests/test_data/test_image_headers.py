from __future__ import annotations

import io
import os

import numpy as np
import pytest
from PIL import Image

from kdsr.data import set_headers
from kdsr.data.image_headers import read_header
from kdsr.data.set_headers import digest_headers, read_folder_headers, read_lmdb_headers
from tests.helpers.damage import damage_file

KINDS = {
    'png': {},
    'jpg': {},
    'bmp': {},
    'webp': {'lossless': True},
    'tif': {},
    'lzw.tif': {'compression': 'tiff_lzw'},
}


def noise(height=60, width=90, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


@pytest.fixture(params=KINDS)
def image(request, tmp_path):
    path = tmp_path / f'a.{request.param}'
    Image.fromarray(noise()).save(path, **KINDS[request.param])
    return path


def test_a_whole_file_has_no_fault(image):
    header = read_header(image)
    assert (header.size, header.orientation, header.frames) == ((60, 90), 1, 1)
    assert header.fault is None
    assert header.describe_loss() is None


@pytest.mark.parametrize('left', [0.99, 0.6, 0.05])
def test_a_truncated_file_is_noticed_without_decoding_it(image, left):
    content = image.read_bytes()
    image.write_bytes(content[: int(left * len(content))])
    assert read_header(image).fault is not None


def test_bytes_behind_the_end_are_no_fault(image):
    image.write_bytes(image.read_bytes() + bytes(2**21))  # phones put films there
    assert read_header(image).fault is None


def test_damage_in_the_middle_changes_no_header_and_a_new_image_changes_the_mark(tmp_path):
    path = tmp_path / 'a.png'
    Image.fromarray(noise(400, 400)).save(path)
    before = read_header(path)
    path.write_bytes(path.read_bytes()[:-20] + bytes(20))
    assert read_header(path).mark != before.mark
    Image.fromarray(noise(400, 400, 1)).save(path)
    assert read_header(path).mark != before.mark
    Image.fromarray(noise(400, 400)).save(path)
    assert read_header(path) == before


@pytest.mark.parametrize(
    ('make', 'words'),
    [
        (lambda p: Image.fromarray(noise().astype(np.uint16)[..., 0] * 257).save(p), '16 or more bits'),
        (lambda p: Image.fromarray(noise()).convert('RGBA').save(p), 'alpha channel, which is dropped'),
        (lambda p: Image.fromarray(noise()).quantize(9).save(p, transparency=3), 'alpha channel'),
        (
            lambda p: Image.fromarray(noise()).save(p, save_all=True, append_images=[Image.fromarray(noise(seed=1))]),
            'it has 2 frames, of which the first is used',
        ),
    ],
    ids=['16 bits', 'alpha', 'transparent colour', 'animated'],
)
def test_what_a_decoder_drops_is_said(tmp_path, make, words):
    make(tmp_path / 'a.png')
    header = read_header(tmp_path / 'a.png')
    assert header.fault is None
    assert words in header.describe_loss()


def test_further_pictures_of_a_jpeg_file_are_no_frames(tmp_path):
    first, second = (Image.fromarray(noise(seed=n)) for n in (0, 1))
    first.save(tmp_path / 'a.jpg', 'MPO', save_all=True, append_images=[second])
    header = read_header(tmp_path / 'a.jpg')
    assert (header.size, header.frames, header.fault) == ((60, 90), 1, None)


def fill(folder, count=4):
    for number in range(count):
        Image.fromarray(noise(8 + number, 20, number)).save(folder / f'{number}.png')
    return [f'{number}.png' for number in range(count)]


def test_headers_of_large_folders_are_kept_and_read_again_where_files_change(tmp_path, monkeypatch):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    monkeypatch.setattr(set_headers, '_WORTH_KEEPING', 4)
    (tmp_path / 'images').mkdir()
    names = fill(tmp_path / 'images')
    for name in names:
        os.utime(tmp_path / 'images' / name, (1e9, 1e9))  # long ago
    reads = []
    read = set_headers.read_header
    monkeypatch.setattr(set_headers, 'read_header', lambda path: reads.append(os.path.basename(path)) or read(path))
    headers = read_folder_headers(tmp_path / 'images', names)
    assert [h.size for h in headers.values()] == [(8, 20), (9, 20), (10, 20), (11, 20)]
    assert sorted(reads) == names
    assert read_folder_headers(tmp_path / 'images', names) == headers
    assert sorted(reads) == names  # none was read again
    (tmp_path / 'images' / '2.png').write_bytes(b'no image')
    again = read_folder_headers(tmp_path / 'images', names)
    assert sorted(reads) == sorted([*names, '2.png'])
    assert again['2.png'].fault is not None
    read_folder_headers(tmp_path / 'images', names)
    assert reads.count('2.png') == 3  # it has just been changed, perhaps again within the clock's step
    for kept in (tmp_path / 'cache/kdsr/headers').iterdir():
        kept.write_text(kept.read_text().replace('[9, 20]', '[9, 21]'))  # damage that is JSON, and even a header
    assert '[9, 21]' in kept.read_text()
    assert read_folder_headers(tmp_path / 'images', names) == again
    for kept in (tmp_path / 'cache/kdsr/headers').iterdir():
        kept.write_text('{"version": 1, "files": {"0.png": 3}}')  # of an older version
    assert read_folder_headers(tmp_path / 'images', names) == again
    monkeypatch.setenv('XDG_CACHE_HOME', '/dev/null/nowhere')
    assert read_folder_headers(tmp_path / 'images', names) == again


def test_digests_depend_on_every_name_and_image(tmp_path):
    names = fill(tmp_path)
    digest = digest_headers(read_folder_headers(tmp_path, names))
    assert digest_headers(read_folder_headers(tmp_path, names[::-1])) == digest
    (tmp_path / '3.png').rename(tmp_path / '4.png')
    renamed = digest_headers(read_folder_headers(tmp_path, [*names[:3], '4.png']))
    (tmp_path / '4.png').rename(tmp_path / '3.png')
    damage_file(tmp_path / '1.png')
    assert len({digest, renamed, digest_headers(read_folder_headers(tmp_path, names))}) == 3


def test_headers_in_an_lmdb(tmp_path):
    import lmdb

    sixteen = io.BytesIO()
    Image.fromarray(noise()[..., 0].astype(np.uint16) * 257).save(sixteen, 'PNG')
    rgb = io.BytesIO()
    Image.fromarray(noise(30, 40)).save(rgb, 'PNG')
    folder = tmp_path / 'a.lmdb'
    with lmdb.open(str(folder)) as environment, environment.begin(write=True) as content:
        content.put(b'deep', sixteen.getvalue())
        content.put(b'half', rgb.getvalue()[:500])
        content.put(b'whole', rgb.getvalue())
    (folder / 'meta_info.txt').write_text(''.join(f'{k}.png (30,40,3) 1\n' for k in ('deep', 'half', 'gone', 'whole')))
    headers = read_lmdb_headers(folder)
    assert sorted(headers) == ['deep', 'half', 'whole']
    assert '16 or more bits' in headers['deep'].describe_loss()
    assert 'truncated' in headers['half'].fault
    assert headers['whole'].size == (30, 40)
    assert list(read_lmdb_headers(folder, most=2)) == ['deep', 'half']
