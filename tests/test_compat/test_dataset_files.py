"""BasicSR's datasets read folders in one order, lists as people write them, and every image upright."""

import io
import os
import socket

import cv2
import numpy as np
import pytest
from basicsr.data import build_dataset
from basicsr.utils import imfrombytes
from PIL import Image

from kdsr.compat.dataset_files import decode_bgr, list_folder, read_file, read_image_list
from kdsr.data.image_headers import read_size
from kdsr.data.source_images import read_rgb
from kdsr.errors import UserError
from kdsr.image_files.orientation import turn_upright

FORMATS = {
    'png': ('PNG', {}),
    'jpg': ('JPEG', {'quality': 95}),
    'tif': ('TIFF', {}),
    'webp': ('WEBP', {'lossless': True}),
}


def pixels(height=40, width=56, seed=0):
    small = np.random.default_rng(seed).integers(0, 256, (height // 4, width // 4, 3), np.uint8)
    return cv2.resize(small, (width, height))


def dataset(workspace, **options):
    found = workspace.images()
    return build_dataset({**found, 'phase': 'val', 'scale': 2, **options})


def names(samples):
    return [os.path.basename(path['gt_path']) for path in samples.paths]


def test_folders_are_read_in_the_order_of_their_names(workspace, monkeypatch):
    scandir = os.scandir
    monkeypatch.setattr(os, 'scandir', lambda *args: iter(sorted(scandir(*args), key=lambda e: e.name, reverse=True)))
    assert names(dataset(workspace)) == ['000.png', '001.png', '002.png', '003.png']


def test_what_is_no_image_by_its_name_is_passed_over(workspace):
    workspace.images()
    for name in ('Thumbs.db', 'notes.txt', '.hidden', 'desktop.ini', 'list.CSV', 'notes.HTML'):
        (workspace.root / 'photos/gt' / name).write_text('no image')
    assert names(dataset(workspace)) == ['000.png', '001.png', '002.png', '003.png']


LISTS = {
    'as BasicSR writes it': '{0}.png (48,48,3)\n{1}.png (48,48,3)\n',
    'names alone': '{0}.png\n{1}.png',
    'tabs': '{0}.png\t(48,48,3)\n{1}.png\t(48,48,3)\n',
    'blank lines': '\n{0}.png (48,48,3)\n\n  \n{1}.png (48,48,3)\n\n',
    'a byte order mark': '\ufeff{0}.png (48,48,3)\n{1}.png (48,48,3)\n',
    'carriage returns': '{0}.png (48,48,3)\r\n{1}.png (48,48,3)\r\n',
    'no ending': '{0} (48,48,3)\n{1}\n',
    'more columns': '{0}.png (48, 48, 3) 1\n{1}.png (48,48) 1\n',
}


@pytest.mark.parametrize('stem', ['{}', 'my photo {}', '{} (1)'])
@pytest.mark.parametrize('text', LISTS.values(), ids=LISTS)
def test_lists_are_read_as_people_write_them(workspace, text, stem):
    workspace.images()
    stems = [stem.format('002'), stem.format('000')]
    for number in ('000', '002'):
        for folder in ('gt', 'lq2'):
            photo = workspace.root / 'photos' / folder / f'{number}.png'
            photo.rename(photo.with_name(f'{stem.format(number)}.png'))
    (workspace.root / 'list.txt').write_bytes(text.format(*stems).encode())
    samples = build_dataset({
        'name': 'x', 'type': 'PairedImageDataset', 'dataroot_gt': 'photos/gt', 'dataroot_lq': 'photos/lq2',
        'io_backend': {'type': 'disk'}, 'phase': 'val', 'scale': 2, 'meta_info_file': 'list.txt',
    })  # fmt: skip
    assert names(samples) == [f'{name}.png' for name in stems]
    assert samples[0]['gt'].shape == (3, 48, 48)
    assert samples[1]['lq'].shape == (3, 24, 24)


def test_a_first_word_counts_where_the_line_is_no_file(workspace):
    (workspace.root / 'list.txt').write_text('001.png 48 48 3\n003.png 48 48 3\n')
    assert names(dataset(workspace, meta_info_file='list.txt')) == ['001.png', '003.png']


@pytest.mark.parametrize(('content', 'words'), [(b'\n\n', 'lists no image'), (b'\0PNG', 'is not a text file')])
def test_lists_without_names_are_refused(workspace, content, words):
    (workspace.root / 'list.txt').write_bytes(content)
    with pytest.raises(UserError, match=words):
        dataset(workspace, meta_info_file='list.txt')


def test_lines_keep_their_number_and_size(tmp_path):
    (tmp_path / 'list.txt').write_text('\na b.png (5,7,3) 1\nc\n')
    assert read_image_list(tmp_path / 'list.txt') == [('a b.png', (5, 7), 2), ('c', None, 3)]


@pytest.mark.parametrize('orientation', range(1, 9))
@pytest.mark.parametrize('ending', FORMATS)
def test_every_reader_gives_the_same_upright_image(tmp_path, ending, orientation):
    kind, options = FORMATS[ending]
    exif, stored = Image.Exif(), pixels()
    exif[0x0112] = orientation
    path = tmp_path / f'a.{ending}'
    Image.fromarray(stored).save(path, kind, exif=exif, **options)
    expected = {
        1: stored, 2: stored[:, ::-1], 3: stored[::-1, ::-1], 4: stored[::-1], 5: np.rot90(stored[:, ::-1]),
        6: np.rot90(stored, -1), 7: np.rot90(stored[:, ::-1], -1), 8: np.rot90(stored),
    }[orientation]  # fmt: skip
    shown = read_rgb(path)[0]
    assert np.abs(shown.astype(int) - expected).mean() <= (8 if ending == 'jpg' else 0)
    content = path.read_bytes()
    np.testing.assert_array_equal(decode_bgr(content)[..., ::-1], shown)
    np.testing.assert_array_equal(imfrombytes(content)[..., ::-1], shown)
    np.testing.assert_array_equal(turn_upright(stored, orientation), expected)
    assert read_size(path) == shown.shape[:2]


def test_webp_is_turned_where_opencv_does_not(monkeypatch):
    exif, buffer = Image.Exif(), io.BytesIO()
    exif[0x0112] = 6
    Image.fromarray(pixels()).save(buffer, 'WEBP', exif=exif, lossless=True)
    decode = cv2.imdecode

    def as_before_version_5(content, flags):
        webp = bytes(content[8:12]) == b'WEBP'
        return decode(content, flags | cv2.IMREAD_IGNORE_ORIENTATION if webp else flags)

    monkeypatch.setattr(cv2, 'imdecode', as_before_version_5)
    np.testing.assert_array_equal(decode_bgr(buffer.getvalue())[..., ::-1], np.rot90(pixels(), -1))


@pytest.mark.skipif(not hasattr(os, 'mkfifo'), reason='needs named pipes')
@pytest.mark.timeout(30)
def test_pipes_devices_and_links_that_lead_nowhere_are_named_and_never_block(tmp_path):
    (tmp_path / 'a.png').write_bytes(b'content')
    os.mkfifo(tmp_path / 'pipe.png')
    os.symlink('gone.png', tmp_path / 'dangling.png')
    os.symlink('loop.png', tmp_path / 'loop.png')
    os.symlink('a.png', tmp_path / 'link.png')
    os.symlink('/dev/zero', tmp_path / 'device.png')
    (tmp_path / 'folder.png').mkdir()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(tmp_path / 'socket.png'))
    files = list_folder(tmp_path)
    assert files.names == ['a.png', 'link.png']
    assert list(files.unusable) == ['dangling.png', 'device.png', 'loop.png', 'pipe.png', 'socket.png']
    words = ['link to gone.png', 'a device', 'link to loop.png', 'a named pipe', 'a socket']
    assert all(word in reason for word, reason in zip(words, files.unusable.values()))
    for name in ('pipe.png', 'device.png'):
        with pytest.raises(OSError, match='not a regular file'):
            read_file(tmp_path / name)
    assert read_file(tmp_path / 'link.png') == b'content'
