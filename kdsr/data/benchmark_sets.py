"""Find test sets in the usual folder layouts, and make the low-resolution images that are missing."""

from __future__ import annotations

import hashlib
import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from kdsr.compat.dataset_files import decode_bgr, read_file
from kdsr.data.image_headers import read_size
from kdsr.data.matlab_bicubic import imresize_bicubic
from kdsr.data.set_headers import user_cache_folder
from kdsr.durable import write_durably
from kdsr.errors import UserError
from kdsr.wording import counted

IMAGES = ('.png', '.bmp', '.jpg', '.jpeg', '.tif', '.tiff', '.webp')
KNOWN = {'Set5': 5, 'Set14': 14, 'BSD100': 100, 'Urban100': 100, 'Manga109': 109}
OTHER_NAMES = {'b100': 'BSD100', 'bsds100': 'BSD100'}
ROOTS = ('', 'datasets', 'datasets/benchmark')  # where a set that is given by name is looked for
HR_FOLDERS = ('hr', 'gt', 'original', 'gtmod*')  # the first that is there
INNER_FOLDERS = (*HR_FOLDERS, 'image_srf_*')
LR_FOLDERS = ('lr_bicubic/x{s}', 'lr_bicubic_x{s}', 'lr/x{s}')
MOD_LR_FOLDERS = ('lrbicx{s}',)  # beside images that are cropped to a multiple of 12
LR_STEMS = ('{n}', '{n}x{s}', '{n}_x{s}', '{n}X{s}', '{n}_X{s}')


@dataclass(frozen=True)
class Pair:
    """One test image.

    Attributes:
        name: Stem of the HR file.
        gt: HR file.
        lq: LR file; None where it is made from the HR image.
    """

    name: str
    gt: Path
    lq: Path | None


@dataclass(frozen=True)
class BenchmarkSet:
    """The images of one test set at one scale.

    Attributes:
        name: `Set5`, `BSD100`, ..., or the folder's.
        scale: S.
        pairs: Sorted by name.
        lr_origin: Origin of the LR images, as text.
    """

    name: str
    scale: int
    pairs: tuple[Pair, ...]
    lr_origin: str

    def fingerprint(self) -> str:
        """Return a hash of the content of all files."""
        digest = hashlib.sha256(str(self.scale).encode())
        for pair in self.pairs:
            for path in (pair.gt, pair.lq):
                digest.update(os.fsencode(path.name) + path.read_bytes() if path is not None else b'made')
        return digest.hexdigest()

    def find_crop(self) -> int:
        """Return the number of which the sides of the scored images are multiples: the scale, or 12 for `GTmod12`.

        HR images are cropped at right and bottom before a test. How much is cropped moves PSNR by some 0.02 dB. It is
        read from the folder's name (`GTmod12`), and from the sizes of the LR images.

        Raises:
            OSError: an image cannot be read.
        """
        crop = self.scale
        for pair in self.pairs:
            if number := _mod_of(pair.gt.parent.name):
                return number
            size, small = read_size(pair.gt), read_size(pair.lq) if pair.lq is not None else None
            if small and any(self.scale * n != side - side % self.scale for side, n in zip(size, small)):
                crop = math.lcm(self.scale, 12)
        return crop


def describe_crop(crop: int, scale: int) -> str:
    """Return in words how the ground truth was cropped before a test.

    Example:
        >>> describe_crop(12, 4), describe_crop(4, 4)
        ('GT cropped to a multiple of 12', 'GT cropped to a multiple of the scale')
    """
    return f'GT cropped to a multiple of {"the scale" if crop == scale else crop}'


def find_sets(places: Iterable[str], scale: int) -> list[BenchmarkSet]:
    """Find test sets in folders.

    It recognises `HR` with `LR_bicubic/X4` (EDSR's benchmark), `GTmod12` with `LRbicx4`, `original`, `GT`,
    `image_SRF_4` with `*_HR` and `*_LR` files, and folders of HR images, in upper or lower case. If a set has several
    HR folders, whole images come before `GTmod12`, unless the place is the folder `GTmod12` itself.

    Args:
        places: Folder of a set, folder that holds sets, or the name of a set in `datasets/` or `datasets/benchmark/`.
        scale: S.

    Raises:
        UserError: a place holds no test set, or images are missing, unreadable or of other sizes; all are listed.
    """
    sets: list[BenchmarkSet] = []
    for place in places:
        folder = _find_folder(place)
        here = _find_set_in(folder, scale)
        found = [here] if here else [s for sub in _list_subfolders(folder) for s in [_find_set_in(sub, scale)] if s]
        if not found:
            raise UserError(
                f'{place!r} holds no test set for x{scale}. A set is a folder of HR images, or one with HR, GTmod12, '
                f'GT, original or image_SRF_{scale} in it; `kdsr prepare --benchmark` makes one.'
            )
        sets += found
    check_sizes(sets)
    return sets


def pair_folders(name: str, scale: int, gt: str, lq: str, template: str = '{}') -> BenchmarkSet:
    """Return the set of an HR folder and an LR folder, as an option file names them.

    Args:
        name: Of the set.
        scale: S.
        gt: Folder of HR images.
        lq: Folder of LR images.
        template: Template of the LR files' stems, as BasicSR's `filename_tmpl`.

    Raises:
        UserError: a folder is missing, or images are missing, unreadable or of other sizes.
    """
    for folder in (gt, lq):
        if not os.path.isdir(folder):
            raise UserError(f'test set {name!r}: there is no folder {folder!r}.')
    forms = (re.sub(r'\{0?(:s)?\}', '{n}', template),)
    found = BenchmarkSet(name, scale, _pair_files(Path(gt), Path(lq), scale, forms), f'given ({os.path.basename(lq)})')
    check_sizes([found])
    return found


def find_crop_of(dataset: Mapping[str, Any], scale: int) -> int:
    """Return how the ground truth of a validation or test set is cropped: :meth:`BenchmarkSet.find_crop`.

    If images are missing, the names of the folders decide.

    Args:
        dataset: Options of a `PairedImageDataset`.
        scale: S.
    """
    gt, lq = (os.path.expanduser(str(dataset.get(key) or '')) for key in ('dataroot_gt', 'dataroot_lq'))
    number = _mod_of(os.path.basename(os.path.normpath(gt)))
    if number or not (os.path.isdir(gt) and os.path.isdir(lq)):
        return number or scale
    try:
        return pair_folders('', scale, gt, lq, str(dataset.get('filename_tmpl') or '{}')).find_crop()
    except (OSError, UserError):  # reported where the images are read
        return scale


def _find_folder(place: str) -> Path:
    wanted = os.path.expanduser(place)
    for root in ROOTS:
        path = Path(root) / wanted
        if path.is_dir():
            return path
        parent = path.parent
        if root and parent.is_dir() and os.path.basename(wanted) == wanted:
            for sub in _list_subfolders(parent):
                if _normalise_name(sub.name).lower() == _normalise_name(wanted).lower():
                    return sub
    raise UserError(f'there is no test set {place!r}: no folder has this name, here or in {" or ".join(ROOTS[1:])}.')


def _list_subfolders(folder: Path) -> list[Path]:
    order = [name.lower() for name in KNOWN]
    subs = [p for p in folder.iterdir() if p.is_dir() and not p.name.startswith('.')]
    ranks = {p: _normalise_name(p.name).lower() for p in subs}
    return sorted(subs, key=lambda p: (order.index(ranks[p]) if ranks[p] in order else len(order), p.name))


def _normalise_name(name: str) -> str:
    lower = name.lower()
    return OTHER_NAMES.get(lower) or next((known for known in KNOWN if known.lower() == lower), name)


def _find_set_in(folder: Path, scale: int) -> BenchmarkSet | None:
    """Return the set in a folder, which may also be the HR folder of the set; None where there is none."""
    hr = None
    if any(fnmatch(folder.name.lower(), pattern) for pattern in INNER_FOLDERS) and _list_images(folder):
        hr = folder if _is_hr_folder(folder, scale) else None
        folder = folder.parent if folder.parent != folder else folder.absolute().parent
    name = _normalise_name(folder.absolute().name)
    srf = _find_child(folder, f'image_srf_{scale}')
    if srf is not None:
        return BenchmarkSet(name, scale, _pair_srf_files(srf), f'given ({srf.name})')
    hr = hr or _find_hr_folder(folder, scale)
    if hr is None:
        return None
    lr = _find_lr_folder(folder, hr, scale)
    if lr is None:
        pairs = tuple(Pair(path.stem, path, None) for path in _list_images(hr))
        return BenchmarkSet(name, scale, pairs, "made (MATLAB's bicubic)")
    return BenchmarkSet(
        name, scale, _pair_files(hr, lr, scale, LR_STEMS), f'given ({lr.relative_to(folder).as_posix()})'
    )


def _find_hr_folder(folder: Path, scale: int) -> Path | None:
    for pattern in HR_FOLDERS:
        for sub in _list_subfolders(folder):
            if fnmatch(sub.name.lower(), pattern) and _is_hr_folder(sub, scale):
                return sub
    return folder if _list_images(folder) else None


def _is_hr_folder(folder: Path, scale: int) -> bool:
    known = any(fnmatch(folder.name.lower(), pattern) for pattern in HR_FOLDERS)
    return known and _mod_of(folder.name) % scale == 0 and bool(_list_images(folder))


def _mod_of(name: str) -> int:
    """Return the number of a folder `GTmod12`, and 0 for other names."""
    number = name.lower().partition('gtmod')[2]
    return int(number) if number.isdigit() else 0


def _find_lr_folder(folder: Path, hr: Path, scale: int) -> Path | None:
    """Return the LR folder that belongs to an HR folder: `LRbicx4` to `GTmod12`, `LR_bicubic/X4` to whole images."""
    forms: tuple[str, ...]
    if _mod_of(hr.name):
        forms = MOD_LR_FOLDERS
    elif any(_mod_of(sub.name) for sub in _list_subfolders(folder)):
        forms = LR_FOLDERS
    else:
        forms = (*LR_FOLDERS, *MOD_LR_FOLDERS)
    return next((f for form in forms for f in [_find_child(folder, form.format(s=scale))] if f), None)


def _find_child(folder: Path, path: str) -> Path | None:
    """Return the folder at a path that is given in lower case, and may have upper case on the disk."""
    here: Path | None = folder
    for part in path.split('/'):
        here = next((p for p in _list_subfolders(here) if p.name.lower() == part), None) if here else None
    return here


def _list_images(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in IMAGES and not p.name.startswith('.'))


def _pair_srf_files(folder: Path) -> tuple[Pair, ...]:
    files = {path.stem: path for path in _list_images(folder)}
    stems = [stem[: -len('HR')] for stem in files if stem.endswith('_HR')]
    _refuse_missing(folder, [f'{stem}LR' for stem in stems if f'{stem}LR' not in files], bool(stems))
    return tuple(Pair(stem.partition('_SRF_')[0], files[f'{stem}HR'], files[f'{stem}LR']) for stem in stems)


def _pair_files(hr: Path, lr: Path, scale: int, forms: Sequence[str]) -> tuple[Pair, ...]:
    files = {path.stem: path for path in _list_images(lr)}
    pairs, missing = [], []
    for path in _list_images(hr):
        match = [files[s] for s in (form.format(n=path.stem, s=scale) for form in forms) if s in files]
        if match:
            pairs.append(Pair(path.stem, path, match[0]))
        else:
            missing.append(path.stem)
    _refuse_missing(lr, missing, bool(pairs or missing))
    return tuple(pairs)


def _refuse_missing(folder: Path, missing: list[str], any_image: bool) -> None:
    if not any_image:
        raise UserError(f'the LR images in {folder} have no HR images.')
    if missing:
        some = ', '.join(missing[:5]) + (', ...' if len(missing) > 5 else '')
        raise UserError(
            f'{folder} lacks the LR images of {counted(len(missing), "HR image")}: {some}. Complete the folder, or '
            'remove it: then the LR images are made.'
        )


def check_sizes(sets: Iterable[BenchmarkSet]) -> None:
    """Refuse LR images whose size is not that of the HR image, cropped at right and bottom, divided by the scale.

    Raises:
        UserError: lists all images that do not fit or cannot be read.
    """
    problems = []
    for one in sets:
        for pair in one.pairs:
            try:
                gt = read_size(pair.gt)
                lq = tuple(side // one.scale for side in gt) if pair.lq is None else read_size(pair.lq)
            except OSError as error:
                problems.append(f'{one.name}: {pair.name} cannot be read ({error}).')
                continue
            if min(lq) == 0 or not all(_fits(side, small, one.scale) for side, small in zip(gt, lq)):
                sizes = f'HR {gt[0]}x{gt[1]}, LR {lq[0]}x{lq[1]}'
                problems.append(f'{one.name}: {pair.name}: {sizes} do not belong together at x{one.scale}.')
    if problems:
        more = f'\n  ... and {len(problems) - 20} more' if len(problems) > 20 else ''
        raise UserError('some test images cannot be used:\n  ' + '\n  '.join(problems[:20]) + more)


def _fits(side: int, small: int, scale: int) -> bool:
    """Return whether an LR side fits the HR side, cropped for this scale or for x2, x3 and x4 together."""
    return scale * small in [side - side % multiple for multiple in (scale, math.lcm(scale, 12))]


def locate_lr_cache() -> Path:
    """Return the folder for LR images that are made: `kdsr/lr` in the user's cache folder."""
    return user_cache_folder() / 'lr'


def read_pair(pair: Pair, scale: int, lr_cache: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return the LR and the HR image, (h, w, 3) and (S*h, S*w, 3), uint8, BGR.

    If the set has no LR images, the LR image is MATLAB's bicubic of the HR image, cropped to a multiple of S at right
    and bottom. It is kept under the hash of the HR file.

    Args:
        pair: The files.
        scale: S.
        lr_cache: Folder for LR images that are made.

    Raises:
        UserError: a file cannot be read or is not an image, or `lr_cache` cannot be written to.
    """
    content = _read(pair.gt)
    gt = _decode(pair.gt, content)
    if pair.lq is not None:
        lq = _decode(pair.lq, _read(pair.lq))
    else:
        kept = lr_cache / f'x{scale}' / f'{hashlib.sha256(content).hexdigest()[:32]}.png'
        lq = _decode(kept, _read(kept)) if kept.is_file() else _make_lq(gt, scale, kept)
    height, width = (scale * side for side in lq.shape[:2])
    return lq, gt[:height, :width]


def _read(path: Path) -> bytes:
    try:
        return read_file(path)
    except OSError as error:
        raise UserError(f'{str(path)!r} cannot be read ({error.strerror or error}).') from None


def _decode(path: Path, content: bytes) -> np.ndarray:
    try:
        image = decode_bgr(content)
    except cv2.error as error:
        raise UserError(f'{str(path)!r} cannot be decoded ({" ".join(str(error).split())}).') from None
    if image is None:
        raise UserError(f'{str(path)!r} is not a readable image.')
    return image


def _make_lq(gt: np.ndarray, scale: int, kept: Path) -> np.ndarray:
    height, width = (side - side % scale for side in gt.shape[:2])
    lq = imresize_bicubic(gt[:height, :width], scale)
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        write_durably(kept, cv2.imencode('.png', lq)[1].tobytes())
    except OSError as error:
        raise UserError(
            f'the LR images that are made cannot be kept ({error}). Name another folder with --lr-cache.'
        ) from None
    return lq
