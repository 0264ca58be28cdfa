"""A BasicSR LMDB as a raw set: for those who have the LMDBs, and no longer the images they were made of."""

from __future__ import annotations

import contextlib
import functools
import os
from pathlib import Path

import cv2
import lmdb
import numpy as np
from tqdm import tqdm

from kdsr.data.parallel import check_workers, ordered_map
from kdsr.data.raw_images import Window
from kdsr.data.raw_writer import RawWriter, check_room, gigabytes
from kdsr.errors import UserError

_RUN = 64  # images that are decoded and noted together


def convert_lmdb(
    source: str | os.PathLike[str], out: str | os.PathLike[str], workers: int | None = None, progress: bool = True
) -> Path:
    """Decode the PNG files of an LMDB into `<out>/<name>.raw`, under the same keys.

    A killed run is continued by the same call. Overlapping sub-images stay as they are: a set that
    :func:`~kdsr.data.prepare.prepare_training_set` makes of the whole images is smaller.

    Args:
        source: A finished LMDB folder with its ``meta_info.txt``.
        out: Folder for the result, created if missing.
        workers: Number of processes; all processors when left out.
        progress: Say what is done and show a bar.

    Raises:
        UserError: it is no LMDB of BasicSR's, an image cannot be decoded, the disk is too small, or there
            is less than one worker.
    """
    folder = Path(os.path.abspath(source))
    sizes = read_meta_info(folder)
    names = sorted(sizes)
    versions = {name: 'x'.join(map(str, sizes[name])) for name in names}
    writer = RawWriter(Path(out) / f'{folder.stem}.raw', {'lmdb': folder.name}, versions)
    if writer.complete:
        return writer.final
    pending = [name for name in names if name not in writer.finished]
    needed = sum(3 * height * width for height, width in map(sizes.__getitem__, pending))
    check_room(Path(out), needed)
    if progress:
        tqdm.write(f'{len(names)} images of {folder} -> {writer.final}: {gigabytes(needed)} of disk.')
    runs = [pending[start : start + _RUN] for start in range(0, len(pending), _RUN)]
    decode = functools.partial(_decode, folder)
    results = ordered_map(decode, runs, check_workers(workers), name_item=lambda run: f'{run[0]} to {run[-1]}')
    bar = tqdm(total=len(names), initial=len(names) - len(pending), unit='image', disable=not progress)
    with contextlib.ExitStack() as stack:
        stack.enter_context(bar)
        writer.open()
        stack.callback(writer.close)
        stack.enter_context(contextlib.closing(results))
        for run, images in zip(runs, results):
            for name, image in zip(run, images):
                if image.shape[1:] != sizes[name]:
                    raise UserError(f'{folder}: {name!r} has another size than its meta_info.txt says.')
                writer.add(name, versions[name], (image, [Window(name, 0, 0, *sizes[name])]))
                bar.update()
        writer.finish()
    return writer.final


def read_meta_info(folder: Path) -> dict[str, tuple[int, int]]:
    """Return key and (height, width) of every image of a BasicSR LMDB.

    Raises:
        UserError: `folder` is none.
    """
    sizes = {}
    try:
        for line in (folder / 'meta_info.txt').read_text().splitlines():
            name, shape, _ = line.split(' ')
            height, width, _ = shape.strip('()').split(',')
            sizes[name.split('.')[0]] = int(height), int(width)
    except (OSError, ValueError) as error:
        raise UserError(f'{folder} is no LMDB of BasicSR: its meta_info.txt cannot be read ({error}).') from None
    return sizes


def open_lmdb(folder: Path) -> lmdb.Environment:
    """Open an LMDB for reading, if its file is whole: behind the end of a truncated one the system ends the process.

    Raises:
        UserError: it is missing, damaged or truncated.
    """
    try:
        environment = lmdb.open(str(folder), readonly=True, lock=False, readahead=False)
    except lmdb.Error as error:
        told = f'{error}'.replace(f'{folder}: ', '')
        raise UserError(
            f'{folder} cannot be opened ({told}). It is damaged or was copied in part; make it again.'
        ) from error
    needed = (environment.info()['last_pgno'] + 1) * environment.stat()['psize']
    found = (folder / 'data.mdb').stat().st_size
    if found < needed:
        environment.close()
        raise UserError(
            f'{folder}/data.mdb has {found} bytes instead of {needed}: it is truncated. Make or copy it again.'
        )
    return environment


def _decode(folder: Path, keys: list[str]) -> list[np.ndarray]:
    """Return images as (3, h, w) RGB."""
    images = []
    with open_lmdb(folder) as environment, environment.begin() as transaction:
        for key in keys:
            content = transaction.get(key.encode('ascii'))
            bgr = None if content is None else cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
            if bgr is None:
                raise UserError(f'{folder}: the image {key!r} is missing or damaged.')
            images.append(np.ascontiguousarray(bgr[..., ::-1].transpose(2, 0, 1)))
    return images
