"""Find test sets in the usual folder layouts, and make the low-resolution images that are missing."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

import cv2
import numpy as np

from kdsr.compat.image_files import decode_bgr, read_file
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
HR_FOLDERS = ('gtmod*', 'hr', 'gt', 'original')
INNER_FOLDERS = (*HR_FOLDERS, 'image_srf_*')
LR_FOLDERS = ('lrbicx{s}', 'lr_bicubic/x{s}', 'lr_bicubic_x{s}', 'lr/x{s}')
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
                digest.update(path.name.encode() + path.read_bytes() if path is not None else b'made')
        return digest.hexdigest()


def find_sets(places: Iterable[str], scale: int) -> list[BenchmarkSet]:
    """Find test sets in folders.

    It recognises `GTmod12` with `LRbicx4`, `HR` with `LR_bicubic/X4` (EDSR's benchmark), `original`, `GT`,
    `image_SRF_4` with `*_HR` and `*_LR` files, and folders of HR images, in upper or lower case.

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
                f'{place!r} holds no test set for x{scale}. A set is a folder of HR images, or one with GTmod12, HR, '
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
    forms = (template.replace('{}', '{n}'),)
    found = BenchmarkSet(name, scale, _pair_files(Path(gt), Path(lq), scale, forms), f'given ({os.path.basename(lq)})')
    check_sizes([found])
    return found


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
    if any(fnmatch(folder.name.lower(), pattern) for pattern in INNER_FOLDERS) and _list_images(folder):
        folder = folder.absolute().parent
    name = _normalise_name(folder.absolute().name)
    srf = _find_child(folder, f'image_srf_{scale}')
    if srf is not None:
        return BenchmarkSet(name, scale, _pair_srf_files(srf), f'given ({srf.name})')
    hr = _find_hr_folder(folder, scale)
    if hr is None:
        return None
    lr = next((f for form in LR_FOLDERS for f in [_find_child(folder, form.format(s=scale))] if f), None)
    if lr is None:
        pairs = tuple(Pair(path.stem, path, None) for path in _list_images(hr))
        return BenchmarkSet(name, scale, pairs, "made (MATLAB's bicubic)")
    return BenchmarkSet(
        name, scale, _pair_files(hr, lr, scale, LR_STEMS), f'given ({lr.relative_to(folder).as_posix()})'
    )


def _find_hr_folder(folder: Path, scale: int) -> Path | None:
    for pattern in HR_FOLDERS:
        for sub in _list_subfolders(folder):
            number = sub.name.lower().partition('gtmod')[2]
            fits = not number.isdigit() or int(number) % scale == 0
            if fnmatch(sub.name.lower(), pattern) and fits and _list_images(sub):
                return sub
    return folder if _list_images(folder) else None


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
        UserError: a file cannot be read or is no image, or `lr_cache` cannot be written to.
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
        raise UserError(f'{str(path)!r} is no image.')
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
