"""Names beside the points of a picture, placed so that they cover neither each other nor the points."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from matplotlib.text import Annotation
from matplotlib.transforms import Bbox

Offset = tuple[int, int, Literal['left', 'center', 'right']]
# Offsets in points and horizontal alignments, the preferred ones first.
_NEAR: tuple[Offset, ...] = (
    (6, 4, 'left'),
    (-6, 4, 'right'),
    (6, -9, 'left'),
    (-6, -9, 'right'),
    (0, 7, 'center'),
    (0, -13, 'center'),
)
_FAR: tuple[Offset, ...] = tuple((2 * x, 3 * y, side) for x, y, side in _NEAR)
POINT = 8  # side in pixels of the square that a point keeps free


@dataclass(frozen=True)
class Label:
    """The name of a point.

    Attributes:
        text: The name.
        x, y: The point, in the units of the axes.
        colour: Of the name.
        size: Of the font, in points.
    """

    text: str
    x: float
    y: float
    colour: str = 'grey'
    size: float = 6


def place_labels(axis: Any, labels: Sequence[Label]) -> list[Annotation]:
    """Write names beside their points. Where there is no free place, the one with the least overlap is taken.

    Args:
        axis: Axes of matplotlib with their points; later changes of their limits or size would move the names.
        labels: The important ones first: they get the best places.

    Returns:
        The names, in the same order.
    """
    figure = axis.figure
    figure.draw_without_rendering()  # the layout decides where the points are
    renderer = figure.canvas.get_renderer()
    taken = [text.get_window_extent(renderer) for text in axis.texts if text.get_text()]
    taken += [_box_around(axis.transData.transform((label.x, label.y))) for label in labels]
    return [_place(axis, label, taken, renderer) for label in labels]


def _place(axis: Any, label: Label, taken: list[Bbox], renderer: Any) -> Annotation:
    name: Annotation = axis.annotate(
        label.text, (label.x, label.y), xytext=(0, 0), textcoords='offset points', fontsize=label.size,
        color=label.colour,
    )  # fmt: skip
    name.set_in_layout(False)  # or the axes would change their size
    found: list[tuple[float, int]] = []
    for number, place in enumerate((*_NEAR, *_FAR)):
        _move(name, place)
        box = name.get_window_extent(renderer)
        outside = box.width * box.height - _shared_area(box, [axis.get_window_extent(renderer)])
        found.append((_shared_area(box, taken) + outside, number))
        if found[-1][0] <= 0:
            break
    _move(name, (*_NEAR, *_FAR)[min(found)[1]])
    taken.append(name.get_window_extent(renderer).padded(2))
    return name


def _move(name: Annotation, place: Offset) -> None:
    name.set_position(place[:2])
    name.set_horizontalalignment(place[2])


def _box_around(point: Sequence[float]) -> Bbox:
    return Bbox.from_bounds(point[0] - POINT / 2, point[1] - POINT / 2, POINT, POINT)


def _shared_area(box: Bbox, others: Iterable[Bbox]) -> float:
    shared = (Bbox.intersection(box, other) for other in others)
    return sum(one.width * one.height for one in shared if one is not None)
