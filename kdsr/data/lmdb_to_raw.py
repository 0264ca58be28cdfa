"""A BasicSR LMDB as a raw set: for those who have the LMDBs, and no longer the images they were made of."""

from __future__ import annotations

import contextlib
import functools
import os
from pathlib import Path

import numpy as np
from tqdm import tqdm

from kdsr.compat.image_files import decode_bgr
from kdsr.compat.lmdb_files import open_lmdb, read_meta_info
from kdsr.data.parallel import check_workers, ordered_map
from kdsr.data.raw_images import Window
from kdsr.data.raw_writer import RawWriter, check_room, gigabytes
from kdsr.errors import UserError
from kdsr.wording import printable

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
        UserError: it is no LMDB of BasicSR, holds no image or one that cannot be decoded, the disk is too small, or
            there is less than one worker.
    """
    folder = Path(os.path.abspath(source))
    sizes = read_meta_info(folder)
    if not sizes:
        raise UserError(f'{folder} holds no image: its meta_info.txt is empty.')
    names = sorted(sizes)
    versions = {name: 'x'.join(map(str, sizes[name])) for name in names}
    writer = RawWriter(Path(out) / f'{folder.stem}.raw', {'lmdb': folder.name}, versions)
    if writer.complete:
        return writer.final
    pending = [name for name in names if name not in writer.finished]
    needed = sum(3 * height * width for height, width in map(sizes.__getitem__, pending))
    check_room(Path(out), needed)
    if progress:
        tqdm.write(printable(f'{len(names)} images of {folder} -> {writer.final}: {gigabytes(needed)} of disk.'))
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


def _decode(folder: Path, keys: list[str]) -> list[np.ndarray]:
    """Return images as (3, h, w) RGB."""
    images = []
    with open_lmdb(folder).begin() as transaction:
        for key in keys:
            content = transaction.get(key.encode())
            bgr = None if content is None else decode_bgr(content)
            if bgr is None:
                raise UserError(f'{folder}: the image {key!r} is missing or damaged.')
            images.append(np.ascontiguousarray(bgr[..., ::-1].transpose(2, 0, 1)))
    return images
