import shutil

import cv2
import numpy as np
import pytest

from kdsr.cli import main
from kdsr.errors import UserError
from kdsr.pictures.folders import parse_crops, read_rows
from kdsr.pictures.photo_rows import BICUBIC, Box


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """Ground truth of two photos, and two methods' images of them as BasicSR's test names them."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for folder in ('gt', 'ours', 'theirs'):
        (tmp_path / folder).mkdir()
    for name in ('img', 'img_2'):
        gt = cv2.resize(rng.integers(0, 255, (12, 12, 3), np.uint8), (48, 48))
        cv2.imwrite(f'gt/{name}.png', gt)
        cv2.imwrite(f'ours/{name}_run.png', np.clip(gt + rng.normal(0, 9, gt.shape), 0, 255))
        cv2.imwrite(f'theirs/{name}.png', 255 - gt if name == 'img_2' else gt)
    return tmp_path


def test_images_of_a_name_come_together(folders):
    rows = list(read_rows('gt', {'a': 'ours', 'b': 'theirs'}, 4))
    assert [row.title for row in rows] == ['img', 'img_2']
    assert list(rows[0].methods) == [BICUBIC, 'a', 'b']
    np.testing.assert_array_equal(rows[1].methods['b'], 255 - rows[1].gt)
    assert np.abs(rows[1].methods['a'].astype(int) - rows[1].gt).mean() < 10


def test_the_command_draws_crops_and_errors(folders, capsys):
    main(['pictures', 'gt', 'mine=ours', 'theirs', '--scale', '2', '--size', '20', '--count', '1', '--out', 'out'])
    assert 'crops.png, errors.png' in capsys.readouterr().out
    assert all(cv2.imread(f'out/{file}.png').std() > 20 for file in ('crops', 'errors'))


def test_crops_by_hand():
    assert parse_crops(['zebra:1,2,30,40', 'a:b:3,4,16']) == {
        'zebra': [Box(2, 1, 40, 30)], 'a:b': [Box(4, 3, 16, 16)],
    }  # fmt: skip


@pytest.mark.parametrize(
    ('arguments', 'told'),
    [
        (['gt', 'ours', '--crop', 'img'], 'IMAGE:x,y,w,h'),
        (['gt', 'ours', '--crop', 'img:0,0,8,8'], 'at least 16x16'),
        (['gt', 'ours', '--crop', 'img:40,0,16,16'], 'not inside'),
        (['gt', 'ours', '--crop', 'imgs:0,0,16,16'], 'no such image'),
        (['gt', 'nothing'], 'is not a folder'),
        (['gt', 'ours', 'ours'], "two folders have the name 'ours'"),
        (['empty', 'ours'], 'no images'),
    ],
)
def test_mistakes_are_told(folders, arguments, told):
    (folders / 'empty').mkdir()
    with pytest.raises(SystemExit, match=told):
        main(['pictures', *arguments])


def test_images_of_another_size_are_refused(folders):
    cv2.imwrite('theirs/img.png', np.zeros((20, 24, 3)))
    with pytest.raises(UserError, match='has 24x20 pixels, its ground truth 48x48'):
        list(read_rows('gt', {'theirs': 'theirs'}, None))
    shutil.rmtree('theirs')
