import cv2
import numpy as np
import pytest

from kdsr.metrics import score
from kdsr.pictures import crops as comparison_figure
from kdsr.pictures.crops import crop_comparison, draw_error_comparison
from kdsr.pictures.photo_rows import BICUBIC, Box, Row, choose_rows_by_difference, find_box


def row(height=60, width=90, title='photo', level=200, **changes):
    gt = np.full((height, width, 3), 90, np.uint8)
    first, second = gt.copy(), gt.copy()
    second[40:50, 70:80] = level  # here the two methods differ
    settings = {'methods': {'first': first, 'second': second}, 'captions': {'first': '30.00 dB'}, **changes}
    return Row(title, gt, **settings)


@pytest.fixture
def seen(monkeypatch):
    """What is drawn: (title, caption, bold) of every axes."""
    cells = []
    real = comparison_figure._dress

    def dress(axis, title, caption, bold):
        cells.append((title, caption, bold))
        real(axis, title, caption, bold)

    monkeypatch.setattr(comparison_figure, '_dress', dress)
    return cells


def test_the_box_is_put_where_the_methods_differ_most():
    assert find_box(row(), 10) == (40, 70)
    top, left = find_box(row(), 20)
    assert 30 <= top <= 40
    assert 60 <= left <= 70
    top, left = find_box(row(), 200)  # larger than the photo
    assert (top, left) == (0, 0)


def test_references_do_not_choose_the_box():
    methods = row().methods
    far = methods['first'].copy()
    far[:10, :10] = 255
    assert find_box(row(methods={BICUBIC: far, **methods}), 10) == (40, 70)
    named = row(methods={'teacher': far, **methods}, references=frozenset({'teacher'}))
    assert find_box(named, 10) == (40, 70)
    assert find_box(row(methods={'only': methods['second']}), 10) == (40, 70)  # against the truth


def test_the_most_telling_photos_are_kept_in_their_order():
    rows = [row(title='little', level=100), row(title='much', level=250), row(title='some', level=150)]
    found = choose_rows_by_difference(iter(rows), 2, 10)
    assert [r.title for r in found] == ['much', 'some']
    assert found[0].box == Box(40, 70, 10, 10)
    small = choose_rows_by_difference([row()], 3, 500)[0].box  # larger than the photo
    assert (small.top, small.height, small.width) == (0, 60, 60)


def test_the_picture_shows_the_photo_the_truth_and_every_method(tmp_path):
    path = tmp_path / 'new' / 'figure.png'
    crop_comparison([row(), row()], str(path), size=10)
    picture = cv2.imread(str(path))
    assert min(picture.shape[:2]) > 200
    red = (picture[..., 2] > 200) & (picture[..., :2].max(axis=2) < 60)
    assert red.sum() > 50  # the box around what is enlarged
    assert (np.abs(picture.astype(int) - 200).max(axis=2) < 3).sum() > 1000  # the second method's crop, enlarged


def test_crops_are_scored_and_the_best_method_is_bold(tmp_path, seen):
    rng = np.random.default_rng(0)
    gt = rng.integers(0, 255, (40, 40, 3), np.uint8)
    near, far = (np.clip(gt + rng.normal(0, s, gt.shape), 0, 255).astype(np.uint8) for s in (5, 20))
    box = Box(4, 8, 20, 24)
    methods = {BICUBIC: gt, 'far': far, 'near': near}
    crop_comparison([Row('photo', gt, methods, box=box)], str(tmp_path / 'a.png'))
    psnr, ssim = score(near[4:24, 8:32], gt[4:24, 8:32], 0)
    assert ('near', f'{psnr:.2f} / {ssim:.4f}', True) in seen
    assert [title for title, _, bold in seen if bold] == ['near']  # the reference is perfect, and no method


def test_errors_are_on_one_scale(tmp_path, seen):
    path = tmp_path / 'errors.png'
    draw_error_comparison([row(), row(level=100)], str(path), size=10)
    picture = cv2.imread(str(path))
    assert picture.std() > 20
    assert [caption for title, caption, _ in seen if title == 'second'] == ['110.00', '10.00']


def test_many_methods_go_into_several_lines(tmp_path):
    methods = {str(i): np.full((30, 30, 3), 10 * i, np.uint8) for i in range(13)}
    crop_comparison([Row('photo', methods['0'], methods)], str(tmp_path / 'a.png'), size=16)
    height, width = cv2.imread(str(tmp_path / 'a.png')).shape[:2]
    assert 1.0 < width / height < 2.6
