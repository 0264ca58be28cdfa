"""What a training learns from, as digests for its state: a resumed run must find the same images and teachers."""

from __future__ import annotations

import os
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kdsr.compat.dataset_files import list_folder, list_pairs
from kdsr.data.lmdb_writer import CHECKSUM_FILE
from kdsr.data.raw_images import INDEX_FILE, RawImages
from kdsr.data.set_headers import digest_headers, read_folder_headers, read_lmdb_headers
from kdsr.distillation.teacher_key import NOT_HERE, digest_weights
from kdsr.experiment import Experiment, read_experiment


def describe_content(opt: Mapping[str, Any] | Experiment) -> dict[str, str]:
    """Digest the training images, the teacher cache, and the weights of the teachers that run.

    Of files, the size and the first, middle and last bytes count, where PNG files hold a checksum of all pixels; of
    LMDBs so much of some hundred images, and the checksums of all where `kdsr prepare` has made it; of raw sets and
    caches the checksums of all. Where things lie does not count.

    Args:
        opt: The experiment, or all options of the run. Its files are there.

    Returns:
        Names for messages and digests, for :func:`kdsr.lifecycle.data_order.describe_order`.
    """
    experiment = read_experiment(opt)
    train_set = experiment.datasets['train']
    content = {}
    for key, path in train_set.items():
        if str(key).startswith('dataroot') and isinstance(path, str) and os.path.isdir(os.path.expanduser(path)):
            content[f'content of {key}'] = _digest_set(str(key), Path(os.path.expanduser(path)), train_set)
    return {**content, **_digest_teachers(experiment)}


def _digest_set(key: str, folder: Path, train_set: Mapping[str, Any]) -> str:
    if (folder / INDEX_FILE).is_file():
        return RawImages(folder).digest()
    if (folder / 'meta_info.txt').is_file() and (folder / 'data.mdb').is_file():
        return _digest_lmdb(folder)
    return digest_headers(read_folder_headers(folder, _list_names(key, folder, train_set)))


def _digest_lmdb(folder: Path) -> str:
    digest = zlib.crc32(digest_headers(read_lmdb_headers(folder)).encode())
    for name in ('meta_info.txt', CHECKSUM_FILE):
        if (folder / name).is_file():
            digest = zlib.crc32((folder / name).read_bytes(), digest)
    return f'{digest:08x}'


def _list_names(key: str, folder: Path, train_set: Mapping[str, Any]) -> list[str]:
    """Return the names of the files of a folder that are trained with."""
    list_file = train_set.get('meta_info_file')
    if not list_file or key not in ('dataroot_lq', 'dataroot_gt'):
        return list_folder(folder).names
    folders = [os.path.expanduser(train_set[name]) for name in ('dataroot_lq', 'dataroot_gt')]
    pairs = list_pairs(folders, os.path.expanduser(list_file), str(train_set.get('filename_tmpl') or '{}'))
    return [lq if key == 'dataroot_lq' else gt for lq, gt in pairs]


def _digest_teachers(experiment: Experiment) -> dict[str, str]:
    if experiment.used_cache is not None and experiment.content != 'code':
        return {}  # none runs; the cache is one of the sets
    digests = digest_weights(experiment)
    return {name: digest for name, digest in digests.items() if digest != NOT_HERE}
