"""Convert a BasicSR LMDB to a raw set, where the images that it was made from are gone."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np

from kdsr.compat.dataset_files import decode_bgr
from kdsr.compat.lmdb_files import open_lmdb, read_meta_info
from kdsr.data.disk_room import check_room, format_size
from kdsr.data.parallel import check_workers, ordered_map
from kdsr.data.raw_images import Window
from kdsr.data.raw_writer import RawWriter
from kdsr.errors import UserError
from kdsr.progress_bars import ProgressBar
from kdsr.wording import counted, printable

_RUN = 64  # images that a worker decodes in a row


def convert_lmdb(
    source: str | os.PathLike[str], out: str | os.PathLike[str], workers: int | None = None, progress: bool = True
) -> Path:
    """Decode the PNG files of an LMDB into `<out>/<name>.raw`, under the same keys.

    The same call continues a killed run. Overlapping sub-images are stored as they are. A set that
    :func:`~kdsr.data.prepare.prepare_training_set` makes from the whole images is smaller.

    Args:
        source: A finished LMDB folder with its ``meta_info.txt``.
        out: Folder for the result, created if missing.
        workers: Number of processes; all processors when left out.
        progress: Print what is done, and show a bar.

    Raises:
        UserError: the folder is not an LMDB of BasicSR, an image is missing or damaged, the disk is full, another
            process writes to the output, a worker process was killed, or `workers` is less than 1.
    """
    folder = Path(os.path.abspath(source))
    sizes = read_meta_info(folder)
    if not sizes:
        raise UserError(f'{folder} holds no image: its meta_info.txt is empty.')
    names = sorted(sizes)
    versions = {name: 'x'.join(map(str, sizes[name])) for name in names}
    pixels = sum(height * width for height, width in sizes.values())
    writer = RawWriter(Path(out) / f'{folder.stem}.raw', {'lmdb': folder.name}, versions, pixels=pixels)
    if writer.complete:
        return writer.final
    check_room(Path(out), writer.estimate_needed())
    with contextlib.ExitStack() as stack:
        writer.open()
        stack.callback(writer.close)
        if writer.complete:  # by another process
            return writer.final
        pending = [name for name in names if name not in writer.finished]
        if progress:
            needed = format_size(writer.estimate_needed())
            ProgressBar.write(
                printable(f'{counted(len(names), "image")} of {folder} -> {writer.final}: {needed} of disk.')
            )
        _write_entries(
            writer=writer,
            folder=folder,
            pending=pending,
            sizes=sizes,
            versions=versions,
            workers=check_workers(workers),
            progress=progress,
        )
        writer.finish()
    return writer.final


def _write_entries(
    writer: RawWriter,
    folder: Path,
    pending: list[str],
    sizes: Mapping[str, tuple[int, int]],
    versions: Mapping[str, str],
    workers: int,
    progress: bool,
) -> None:
    runs = [pending[start : start + _RUN] for start in range(0, len(pending), _RUN)]
    decode = functools.partial(_decode, folder)
    results = ordered_map(decode, runs, workers, name_item=lambda run: f'{run[0]} to {run[-1]}')
    bar = ProgressBar(total=len(sizes), initial=len(sizes) - len(pending), unit='image', disable=not progress)
    with contextlib.closing(results), bar:
        for run, images in zip(runs, results):
            for name, image in zip(run, images):
                if image.shape[1:] != sizes[name]:
                    raise UserError(f'{folder}: {name!r} has another size than its meta_info.txt says.')
                writer.add(name, versions[name], (image, [Window(name, 0, 0, *sizes[name])]))
                bar.update()


def decode_entries(folder: Path, keys: Iterable[str]) -> Iterator[np.ndarray | None]:
    """Yield images of an LMDB as (H, W, 3) uint8, BGR; None for those that are missing or damaged.

    Raises:
        UserError: the LMDB cannot be opened.
    """
    with open_lmdb(folder).begin() as transaction:
        for key in keys:
            content = transaction.get(key.encode(errors='surrogateescape'))
            yield None if content is None else decode_bgr(content)


def _decode(folder: Path, keys: list[str]) -> list[np.ndarray]:
    """Return images as (3, h, w) RGB."""
    images = []
    for key, bgr in zip(keys, decode_entries(folder, keys)):
        if bgr is None:
            raise UserError(f'{folder}: the image {key!r} is missing or damaged.')
        images.append(np.ascontiguousarray(bgr[..., ::-1].transpose(2, 0, 1)))
    return images
