"""Reading finished sets through, to find damage that sizes and indexes do not show."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from kdsr.compat.dataset_files import list_folder
from kdsr.compat.lmdb_files import open_lmdb, read_meta_info
from kdsr.data.lmdb_to_raw import decode_entries
from kdsr.data.lmdb_writer import CHECKSUM_FILE
from kdsr.data.parallel import check_workers, ordered_map
from kdsr.data.raw_images import RawImages
from kdsr.data.source_images import read_rgb
from kdsr.errors import UserError
from kdsr.foreign import parse_json
from kdsr.foreign.kinds import CHECKSUMS
from kdsr.progress_bars import ProgressBar
from kdsr.wording import counted, printable

_RUN = 64  # images that a worker reads in a row
_MOST = 20  # names in one message


def verify_sets(folders: Iterable[Path], workers: int | None = None, progress: bool = True) -> None:
    """Read finished sets through: raw sets and caches, LMDBs, and folders of images.

    Raw sets and LMDBs are compared with the checksums that they were written with. The images of older LMDBs, and of
    folders, are decoded. Older raw sets have nothing to compare with, which is said.

    Args:
        folders: What :func:`~kdsr.data.prepare.prepare_training_set` or
            :func:`~kdsr.data.teacher_cache.make_cache` returned.
        workers: Number of processes; all processors when left out.
        progress: Say what was found, and show a bar.

    Raises:
        UserError: images are damaged; it lists them. Or there is less than one worker.
    """
    workers = check_workers(workers)
    for folder in folders:
        if folder.suffix == '.lmdb':
            found = _verify_lmdb(folder, workers, progress)
        elif (folder / 'index.json').is_file():
            found = _verify_raw(folder, progress)
        else:
            found = _verify_folder(folder, workers, progress)
        if progress:
            ProgressBar.write(printable(f'{folder}: {found}'))


def _verify_raw(folder: Path, progress: bool) -> str:
    images = RawImages(folder)
    if not images.has_checksums:
        return 'it was made by an older version, without checksums; its sizes are right.'
    bar = ProgressBar(images.find_damaged(), total=len(images.frames), unit='image', disable=not progress)
    _refuse_damaged(folder, [name for name in bar if name is not None])
    return f'{counted(len(images.frames), "image")}, all as they were written.'


def _verify_lmdb(folder: Path, workers: int, progress: bool) -> str:
    keys = sorted(read_meta_info(folder))
    path = folder / CHECKSUM_FILE
    checksums = _read_checksums(path) if path.is_file() else {}
    compared = set(keys) <= checksums.keys()
    work = partial(_find_changed, folder, checksums) if compared else partial(_find_undecodable, folder)
    _refuse_damaged(folder, _collect(work, keys, workers, progress))
    found = counted(len(keys), 'image')
    return f'{found}, all as they were written.' if compared else f'{found}, all can be decoded; it has no checksums.'


def _read_checksums(path: Path) -> dict[str, int]:
    try:
        return dict(parse_json(path.read_bytes(), CHECKSUMS))
    except ValueError as error:
        raise UserError(f'{path} is damaged ({error}). Make {path.parent} again.') from None


def _find_changed(folder: Path, checksums: dict[str, int], keys: Sequence[str]) -> list[str]:
    with open_lmdb(folder).begin(buffers=True) as content:
        return [
            key for key in keys if zlib.crc32(content.get(key.encode(errors='surrogateescape'), b'')) != checksums[key]
        ]


def _find_undecodable(folder: Path, keys: Sequence[str]) -> list[str]:
    return [key for key, image in zip(keys, decode_entries(folder, keys)) if image is None]


def _verify_folder(folder: Path, workers: int, progress: bool) -> str:
    names = list_folder(folder).names
    _refuse_damaged(folder, _collect(partial(_find_unreadable, folder), names, workers, progress))
    return f'{counted(len(names), "image")}, all can be decoded.'


def _find_unreadable(folder: Path, names: Sequence[str]) -> list[str]:
    damaged = []
    for name in names:
        try:
            read_rgb(folder / name)
        except (UserError, OSError):
            damaged.append(name)
    return damaged


def _collect(work: Any, names: Sequence[str], workers: int, progress: bool) -> list[str]:
    """Return the names that `work` finds in runs of them."""
    runs = [names[start : start + _RUN] for start in range(0, len(names), _RUN)]
    workers = min(workers, max(1, len(runs)))
    damaged: list[str] = []
    with ProgressBar(total=len(names), unit='image', disable=not progress) as bar:
        for run, found in zip(runs, ordered_map(work, runs, workers)):
            damaged += found
            bar.update(len(run))
    return damaged


def _refuse_damaged(folder: Path, damaged: Sequence[str]) -> None:
    if damaged:
        listed = ', '.join(map(repr, damaged[:_MOST])) + (', ...' if len(damaged) > _MOST else '')
        raise UserError(
            f'{folder}: {counted(len(damaged), "image")} damaged since they were written: {listed}. Delete it and make '
            'it again, or copy it again.'
        )
