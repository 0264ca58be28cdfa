"""Names beside the points of a picture."""

from itertools import combinations

import matplotlib as mpl
import pytest

mpl.use('Agg')
from matplotlib import pyplot as plt
from matplotlib.transforms import Bbox

from kdsr.benchmark.labels import Label, place_labels


@pytest.fixture
def axis():
    figure, axis = plt.subplots(figsize=(4.6, 3.8), layout='constrained')
    axis.set(xlim=(0, 100), ylim=(0, 100))
    yield axis
    plt.close(figure)


def boxes(axis, names):
    renderer = axis.figure.canvas.get_renderer()
    return [name.get_window_extent(renderer) for name in names]


def overlapping(found):
    shared = [Bbox.intersection(a, b) for a, b in combinations(found, 2)]
    return [box for box in shared if box is not None and box.width * box.height > 0]


def test_names_of_close_points_do_not_cover_each_other(axis):
    close = [(50, 50), (53, 51), (51, 46), (56, 48), (50, 55), (49, 41)]
    names = place_labels(axis, [Label(f'network {i}', x, y) for i, (x, y) in enumerate(close)])
    assert [name.get_text() for name in names] == [f'network {i}' for i in range(6)]
    assert not overlapping(boxes(axis, names))


def test_a_name_stays_inside_and_off_the_text_that_is_there(axis):
    corner = axis.text(0.98, 0.03, 'bicubic: 28.43 dB', transform=axis.transAxes, ha='right')
    names = place_labels(axis, [Label('a long name of a network', 97, 20), Label('another', 80, 5)])
    inside = axis.get_window_extent()
    found = boxes(axis, names)
    assert all(inside.x0 <= box.x0 and box.x1 <= inside.x1 for box in found)
    assert not overlapping([*found, corner.get_window_extent(axis.figure.canvas.get_renderer())])


def test_a_lone_name_stands_right_above_its_point(axis):
    (name,) = place_labels(axis, [Label('alone', 20, 20)])
    x, y = axis.transData.transform((20, 20))
    (box,) = boxes(axis, [name])
    assert box.x0 > x
    assert box.y0 > y
