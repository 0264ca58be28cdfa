"""`kdsr pictures`: crops and error maps of images in folders."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from kdsr.data.matlab_bicubic import imresize_bicubic, upsample_bicubic
from kdsr.errors import UserError, did_you_mean
from kdsr.pictures.images import read_image
from kdsr.pictures.photo_rows import BICUBIC, Box, Row, choose_rows_by_difference
from kdsr.wording import installing, printable

ENDINGS = ('.png', '.bmp', '.jpg', '.jpeg', '.tif', '.tiff')
SMALLEST = 16  # side of a crop in pixels; SSIM cannot use 5 pixels at each side


def draw_folders(
    gt_folder: str,
    folders: Sequence[str],
    *,
    scale: int | None = None,
    crops: Sequence[str] = (),
    count: int = 3,
    size: int = 96,
    out: str = 'results/pictures',
) -> str:
    """Draw crop comparisons and error maps of images in folders.

    Args:
        gt_folder: Folder of the ground truth.
        folders: Folders of results, `LABEL=FOLDER` or `FOLDER`, in the order of the columns. A result has the name of
            its ground truth, or that name with an underscore and more, as BasicSR writes it: `zebra_run.png`.
        scale: S, to draw bicubic too, made from the ground truth as MATLAB does; None for no bicubic.
        crops: `IMAGE:x,y,w,h`, to draw instead of the places where the methods differ most.
        count: How many photos to choose: those in which the methods differ most.
        size: Side of the chosen crops in pixels.
        out: Folder for `crops.png` and `errors.png`.

    Returns:
        The written files, in words.

    Raises:
        UserError: matplotlib is missing; folders, images or crops are missing or do not fit.
    """
    check_matplotlib()
    from kdsr.pictures.crops import draw_crops_and_errors

    wanted = parse_crops(crops)
    names = list(wanted) or None
    rows = read_rows(gt_folder, _label(folders), scale, names)
    chosen = choose_boxes(rows, wanted) if wanted else choose_rows_by_difference(rows, count, size)
    if not chosen:
        raise UserError(f'{gt_folder}: none of its images is in all the other folders.')
    files = draw_crops_and_errors(chosen, out)
    return f'Written to {out}: {", ".join(files.values())}'


def _label(folders: Sequence[str]) -> dict[str, str]:
    """Return label to folder; a folder without a label gets its own name."""
    found: dict[str, str] = {}
    for text in folders:
        label, equals, folder = text.partition('=')
        if not equals:
            label, folder = os.path.basename(os.path.normpath(text)), text
        if label in found:
            raise UserError(f'two folders have the name {label!r}: write LABEL=FOLDER.')
        found[label] = folder
    return found


def check_matplotlib() -> None:
    """Check that matplotlib is installed.

    Raises:
        UserError: it is not.
    """
    if importlib.util.find_spec('matplotlib') is None:
        raise UserError(f'drawing needs matplotlib; {installing("plots")}')


def parse_crops(crops: Iterable[str]) -> dict[str, list[Box]]:
    """Read `IMAGE:x,y,w,h`, or `IMAGE:x,y,w` for a square; return image to boxes.

    Raises:
        UserError: a crop is written differently, or is too small for SSIM.
    """
    found: dict[str, list[Box]] = {}
    for crop in crops:
        name, _, numbers = crop.rpartition(':')
        try:
            left, top, width, *rest = (int(n) for n in numbers.split(','))
            (height,) = rest or (width,)
        except ValueError:
            raise UserError(f'--crop {crop!r}: write IMAGE:x,y,w,h, for example zebra:120,80,96,96') from None
        if not name or min(width, height) < SMALLEST or min(left, top) < 0:
            raise UserError(
                f'--crop {crop!r}: name an image and a crop in it of at least {SMALLEST}x{SMALLEST} pixels.'
            )
        found.setdefault(name, []).append(Box(top, left, height, width))
    return found


def choose_boxes(rows: Iterable[Row], wanted: Mapping[str, Sequence[Box]]) -> list[Row]:
    """Return a row for every box, in the order of `wanted`.

    Args:
        rows: The photos.
        wanted: Name of the photo to its boxes.

    Raises:
        UserError: there is no such photo, or a box is not inside it.
    """
    known = {row.title: row for row in rows if row.title in wanted}
    found = []
    for name, boxes in wanted.items():
        if name not in known:
            raise UserError(f'--crop {name}: there is no such image in all folders.{did_you_mean(name, known)}')
        height, width = known[name].gt.shape[:2]
        for box in boxes:
            if box.top + box.height > height or box.left + box.width > width:
                numbers = f'{box.left},{box.top},{box.width},{box.height}'
                raise UserError(f'--crop {name}:{numbers} is not inside the image of {width}x{height} pixels.')
            found.append(replace(known[name], box=box))
    return found


def read_rows(
    gt_folder: str, folders: Mapping[str, str], scale: int | None, names: Sequence[str] | None = None
) -> Iterator[Row]:
    """Yield the photos that are in all folders, one at a time.

    Args:
        gt_folder: Folder of the ground truth.
        folders: Label to folder of results.
        scale: S, for bicubic too; None for no bicubic.
        names: Names of the photos to take; None for all.

    Raises:
        UserError: a folder is missing, or the sizes of images differ.
    """
    gts = _list_images(gt_folder)
    found = {label: _match(folder, gts) for label, folder in folders.items()}
    for name, path in gts.items():
        if not all(name in of for of in found.values()) or (names and name not in names):
            continue
        gt = read_image(path)
        if scale:
            gt = gt[: gt.shape[0] // scale * scale, : gt.shape[1] // scale * scale]
        methods = {BICUBIC: upsample_bicubic(imresize_bicubic(gt, scale), scale)} if scale else {}
        for label, of in found.items():
            methods[label] = read_image(of[name])
            if methods[label].shape != gt.shape:
                sides, wanted = (f'{i.shape[1]}x{i.shape[0]}' for i in (methods[label], gt))
                raise UserError(f'{of[name]} has {sides} pixels, its ground truth {wanted}.')
        yield Row(printable(name), gt, methods)


def _list_images(folder: str) -> dict[str, str]:
    if not os.path.isdir(folder):
        raise UserError(f'{folder!r} is not a folder (looked in {os.getcwd()!r}).')
    files = sorted(file for file in os.listdir(folder) if file.lower().endswith(ENDINGS))
    if not files:
        raise UserError(f'there are no images in {folder!r}.')
    return {os.path.splitext(file)[0]: os.path.join(folder, file) for file in files}


def _match(folder: str, gts: Iterable[str]) -> dict[str, str]:
    """Return name of the ground truth to file; if a file begins with several names, the longest one counts."""
    found: dict[str, str] = {}
    for name, path in _list_images(folder).items():
        fitting = [gt for gt in gts if name == gt or name.startswith(f'{gt}_')]
        if fitting:
            found.setdefault(max(fitting, key=len), path)
    return found
