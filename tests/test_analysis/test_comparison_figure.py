import cv2
import numpy as np

from kdsr.analysis.comparison_figure import Row, crop_comparison, most_telling_box


def row(height=60, width=90):
    gt = np.full((height, width, 3), 90, np.uint8)
    first, second = gt.copy(), gt.copy()
    second[40:50, 70:80] = 200  # here the two methods differ
    return Row('photo', gt, {'first': first, 'second': second}, {'first': '30.00 dB'})


def test_the_box_is_put_where_the_methods_differ_most():
    assert most_telling_box(row(), 10) == (40, 70)
    top, left = most_telling_box(row(), 20)
    assert 30 <= top <= 40
    assert 60 <= left <= 70
    top, left = most_telling_box(row(), 200)  # larger than the photo
    assert (top, left) == (0, 0)


def test_the_picture_shows_the_photo_the_truth_and_every_method(tmp_path):
    path = tmp_path / 'new' / 'figure.png'
    crop_comparison([row(), row()], str(path), size=10)
    picture = cv2.imread(str(path))
    assert picture.shape[1] > picture.shape[0] > 200
    red = (picture[..., 2] > 200) & (picture[..., :2].max(axis=2) < 60)
    assert red.sum() > 50  # the box around what is enlarged
    assert (np.abs(picture.astype(int) - 200).max(axis=2) < 3).sum() > 1000  # the second method's crop, enlarged
