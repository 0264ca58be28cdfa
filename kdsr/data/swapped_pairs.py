"""Low and high resolution under each other's keys."""

from __future__ import annotations

from collections.abc import Iterable


def are_swapped(sizes: Iterable[tuple[tuple[int, int], tuple[int, int]]], scale: int) -> bool:
    """Return whether every low-quality image is `scale` times as large as its ground truth.

    Args:
        sizes: (width, height) of each low-quality image and of its ground truth, in pixels.
        scale: S.
    """
    return scale > 1 and all(small * scale == large for lq, gt in sizes for large, small in zip(lq, gt))


def describe_swapped(name: str, lq: str, gt: str) -> str:
    """Say what is swapped, and the cure.

    Args:
        name: Of an image.
        lq: Its size in the set that is named as the low-quality one.
        gt: Its size in the other set.
    """
    return (
        f'dataroot_lq and dataroot_gt are swapped: {name!r} has {lq} pixels in dataroot_lq, and only {gt} in '
        'dataroot_gt. Exchange the two folders.'
    )
