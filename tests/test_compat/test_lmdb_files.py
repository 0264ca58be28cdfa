"""One LMDB environment a process, whoever reads it; lists with spaces, without endings, with a byte order mark."""

import gc
import shutil

import cv2
import lmdb
import numpy as np
import pytest
from basicsr.data import build_dataset

from kdsr.compat.lmdb_files import open_lmdb, read_meta_info
from kdsr.data.prepare import prepare_training_set
from kdsr.errors import UserError


@pytest.fixture
def lmdbs(workspace):
    workspace.images()
    paths = prepare_training_set('photos/gt', 'data', [2], 48, 48, workers=1, progress=False)
    return [str(path) for path in paths]


def build(lmdbs):
    gt, lq = lmdbs
    return build_dataset({
        'name': 'x', 'type': 'PairedImageDataset', 'dataroot_gt': gt, 'dataroot_lq': lq, 'phase': 'val', 'scale': 2,
        'io_backend': {'type': 'lmdb'},
    })  # fmt: skip


def test_datasets_share_an_lmdb(lmdbs):
    first, second = build(lmdbs), build(lmdbs)
    np.testing.assert_array_equal(first[1]['gt'], second[1]['gt'])
    content = open_lmdb(lmdbs[0])  # a check while both are read
    with content.begin() as transaction:
        assert transaction.get(b'001_s001')
    del first, second, content, transaction
    gc.collect()
    with lmdb.open(lmdbs[0]) as environment:  # nobody holds it any more
        assert environment.stat()['entries'] == 4


def test_a_training_validates_on_the_lmdb_that_it_trains_on(workspace, lmdbs):
    opt = workspace.options(iterations=2)
    images = {'dataroot_gt': lmdbs[0], 'dataroot_lq': lmdbs[1], 'io_backend': {'type': 'lmdb'}}
    opt['datasets']['train'].update(images)
    opt['datasets']['val'].update(images)
    opt['val']['val_freq'] = 1
    assert (workspace.train(opt) / 'models/net_g_2.pth').is_file()


def test_an_lmdb_that_was_made_again_is_read_anew(lmdbs):
    held = open_lmdb(lmdbs[0])
    shutil.copytree(lmdbs[1], 'copy')
    shutil.rmtree(lmdbs[0])
    shutil.move('copy', lmdbs[0])
    with open_lmdb(lmdbs[0]).begin() as content, held.begin() as old:
        sizes = [cv2.imdecode(np.frombuffer(c.get(b'000_s001'), np.uint8), 1).shape for c in (content, old)]
    assert sizes == [(24, 24, 3), (48, 48, 3)]


@pytest.mark.parametrize(
    ('line', 'key'),
    [
        ('my photo_s001.png (48,60,3) 1', 'my photo_s001'),
        ('photo (2)_s001.png (48,60,3) 1', 'photo (2)_s001'),
        ('no ending (48,60,3) 1', 'no ending'),
        ('tab_s001.png\t(48,60,3)\t1', 'tab_s001'),
        ('\ufeffmark.png (48,60,3) 1', 'mark'),
        ('\n\nblank.png (48, 60, 3)', 'blank'),
    ],
)
def test_lists_are_split_from_the_right(tmp_path, line, key):
    (tmp_path / 'meta_info.txt').write_bytes(f'{line}\n'.encode())
    assert read_meta_info(tmp_path) == {key: (48, 60)}


def test_lists_that_say_less_are_refused(tmp_path):
    (tmp_path / 'meta_info.txt').write_text('a.png (4,4,3) 1\nb.png\n')
    with pytest.raises(UserError, match=r'line 2 of its meta_info\.txt cannot be read'):
        read_meta_info(tmp_path)
    (tmp_path / 'meta_info.txt').write_text('a.png (4,4,3) 1\na.jpg (4,4,3) 1\n')
    with pytest.raises(UserError, match=r"lists 'a' twice \(line 2\)"):
        read_meta_info(tmp_path)
    (tmp_path / 'meta_info.txt').write_text(f'a.png (4,4,3) 1\n{"n" * 512}.png (4,4,3) 1\n')
    with pytest.raises(UserError, match='name in line 2 is too long for an LMDB'):
        read_meta_info(tmp_path)


def test_a_set_of_files_with_spaces_in_their_names_is_prepared_checked_and_trained_with(workspace):
    workspace.images()
    for path in sorted((workspace.root / 'photos/gt').iterdir()):
        path.rename(path.with_name(f'my photo {path.name}'))
    gt, lq = prepare_training_set('photos/gt', 'data', [2], 48, 48, workers=1, progress=False)
    opt = workspace.options(iterations=1)
    del opt['datasets']['val']
    opt['datasets']['train'].update(dataroot_gt=str(gt), dataroot_lq=str(lq), io_backend={'type': 'lmdb'})
    assert (workspace.train(opt) / 'models/net_g_latest.pth').is_file()
