"""The images of an experiment: do low and high resolution belong together, and the teacher cache to both?"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path as FilePath
from typing import Any

from kdsr.data.growing_folder import differences, read_settings
from kdsr.data.lmdb_to_raw import open_lmdb, read_meta_info
from kdsr.data.raw_images import RawImages
from kdsr.data.raw_paired_image_dataset import RawPairedImageDataset
from kdsr.data.source_images import header_size, unusual_kind
from kdsr.distillation.teacher_key import teacher_key
from kdsr.errors import UserError
from kdsr.options import WARNING, Path, Problem, block_of, used_cache
from kdsr.options.table import RAW_SET

Size = tuple[int, int]
PROBES = 8  # image files of a folder whose headers are read


def pair_problems(opt: Mapping[str, Any], is_train: bool) -> Iterator[Problem]:
    """Look at the images of every set that is there: names, counts, sizes; no pixel is read.

    Args:
        opt: All options, their keys checked.
        is_train: For a training.
    """
    for phase, dataset in block_of(opt, 'datasets').items():
        if not isinstance(dataset, Mapping) or not all(
            isinstance(dataset.get(key), str) and os.path.isdir(os.path.expanduser(dataset[key]))
            for key in ('dataroot_gt', 'dataroot_lq')
        ):
            continue
        where, trains = ('datasets', phase), is_train and phase == 'train'
        try:
            if dataset.get('type') == RAW_SET:
                _open_raw(where, dataset, opt, trains)
            elif dataset.get('type') == 'PairedImageDataset':
                yield from _paired_problems(where, dataset, opt.get('scale'), trains)
        except UserError as error:
            yield Problem(where, str(error))
    yield from _cache_problems(opt, is_train)


def _open_raw(where: Path, dataset: Mapping[str, Any], opt: Mapping[str, Any], trains: bool) -> None:
    """Let the dataset judge: it reads no more than its index."""
    if type(opt.get('scale')) is int and (not trains or type(dataset.get('gt_size')) is int):
        phase = 'train' if trains else 'val'
        RawPairedImageDataset({'name': where[1], **dataset, 'scale': opt['scale'], 'phase': phase})


def _paired_problems(where: Path, dataset: Mapping[str, Any], scale: Any, trains: bool) -> Iterator[Problem]:
    gt_root, lq_root = (os.path.expanduser(dataset[key]) for key in ('dataroot_gt', 'dataroot_lq'))
    backend = block_of(dataset, 'io_backend').get('type')
    if backend == 'lmdb' and all(os.path.isfile(os.path.join(root, 'meta_info.txt')) for root in (gt_root, lq_root)):
        gt, lq = (read_meta_info(FilePath(root)) for root in (gt_root, lq_root))
        pairs = {name: (lq[name], size) for name, size in gt.items() if name in lq}
        unmatched = [(name, name) for name in sorted(gt.keys() ^ lq.keys())]
        yield from _unmatched_problems(where, (gt_root, gt), (lq_root, lq), unmatched)
        for key, listed in (('dataroot_gt', gt), ('dataroot_lq', lq)):
            yield from _lmdb_problems((*where, key), os.path.expanduser(dataset[key]), listed)
    elif backend == 'disk' and not dataset.get('meta_info_file'):
        names = _file_pairs(gt_root, str(dataset.get('filename_tmpl') or '{}'))
        lq_names = _files(lq_root)
        unmatched = [(n, lq_name) for n, lq_name in names.items() if lq_name not in lq_names]
        unmatched += [(n, n) for n in sorted(lq_names - set(names.values()))]
        yield from _unmatched_problems(where, (gt_root, names), (lq_root, lq_names), unmatched)
        pairs = dict(_probed(gt_root, lq_root, {n: other for n, other in names.items() if other in lq_names}))
        yield from _kind_problems(where, [FilePath(gt_root, n) for n in pairs])
    else:
        return
    if type(scale) is int and scale >= 1:
        yield from _size_problems(where, pairs, scale, dataset.get('gt_size') if trains else None, trains)


def _lmdb_problems(where: Path, root: str, listed: Iterable[str]) -> Iterator[Problem]:
    """Look whether an LMDB can be opened and holds what its meta_info.txt lists; no image is read."""
    if not root.endswith('.lmdb'):
        yield Problem(where, f'{root}: BasicSR wants the name of an LMDB to end in .lmdb. Rename it.')
        return
    try:
        environment = open_lmdb(FilePath(root))
    except UserError as error:
        if 'already open' not in str(error):  # by a dataset of this process, that is: it is readable
            yield Problem(where, str(error))
        return
    with environment, environment.begin() as content, content.cursor() as cursor:
        lacking = [key for key in listed if not cursor.set_key(key.encode('ascii', 'replace'))]
    if lacking:
        yield Problem(
            where,
            f'{root} lacks {len(lacking)} of the images that its meta_info.txt lists; the first: {lacking[0]!r}. '
            'It was copied in part; make or copy it again.',
        )


def _kind_problems(where: Path, files: Iterable[FilePath]) -> Iterator[Problem]:
    """Warn of ground truth that OpenCV reads as 8-bit RGB, though it is more."""
    for file in files:
        kind = unusual_kind(file)
        if kind is not None:
            yield Problem((*where, 'dataroot_gt'), f'{file.name!r}: {kind}', WARNING)
            return


def _files(root: str) -> set[str]:
    return {entry.name for entry in os.scandir(root) if entry.is_file() and not entry.name.startswith('.')}


def _file_pairs(gt_root: str, template: str) -> dict[str, str]:
    """Return the files of the ground truth, and how the low-resolution file of each is called."""
    stems = {name: os.path.splitext(name) for name in sorted(_files(gt_root))}
    return {name: f'{template.replace("{}", stem)}{ending}' for name, (stem, ending) in stems.items()}


def _probed(gt_root: str, lq_root: str, names: Mapping[str, str]) -> Iterator[tuple[str, tuple[Size, Size]]]:
    chosen = sorted(names)
    for name in chosen[:: max(1, len(chosen) // PROBES)][:PROBES]:
        paths = [FilePath(lq_root, names[name]), FilePath(gt_root, name)]
        sizes = []
        for path in paths:
            try:
                sizes.append(header_size(path))
            except OSError as error:
                raise UserError(f'{path} is no image that can be read ({error}). Remove or replace it.') from None
        yield name, (sizes[0], sizes[1])


def _unmatched_problems(
    where: Path, gt: tuple[str, Any], lq: tuple[str, Any], unmatched: list[tuple[str, str]]
) -> Iterator[Problem]:
    """Tell how many images each set has, and which is the first without a partner."""
    if not len(gt[1]) or not len(lq[1]):
        empty = lq[0] if len(gt[1]) else gt[0]
        yield Problem(where, f'{empty} holds no images.')
    elif unmatched:
        name, partner = unmatched[0]
        (has, lacks), looked = ((gt[0], lq[0]), partner) if name in gt[1] else ((lq[0], gt[0]), name)
        wanted = f', as {looked!r},' if looked != name else ''
        yield Problem(
            where,
            f'{gt[0]} has {len(gt[1])} images and {lq[0]} {len(lq[1])}; {len(unmatched)} without a partner. The first: '
            f'{name!r} is in {has}, but not{wanted} in {lacks}. Make both from the same images.',
        )


def _size_problems(
    where: Path, pairs: Mapping[str, tuple[Size, Size]], scale: int, gt_size: Any, trains: bool
) -> Iterator[Problem]:
    """Find pairs of another scale, and images that are smaller than a crop."""
    for name, (lq, gt) in pairs.items():
        wanted = (lq[0] * scale, lq[1] * scale)
        if gt != wanted if trains else (gt[0] < wanted[0] or gt[1] < wanted[1]):
            yield Problem(
                where,
                f'the sets are not of scale {scale} (`scale`): {name!r} has {_by(gt)} pixels (dataroot_gt) against '
                f'{_by(lq)} (dataroot_lq), which is x{gt[0] / lq[0]:g}.',
            )
            return
    small = [name for name, (_, gt) in pairs.items() if type(gt_size) is int and min(gt) < gt_size]
    if small:
        size = _by(pairs[small[0]][1])
        yield Problem(
            (*where, 'gt_size'), f'{gt_size} is larger than {small[0]!r} ({size}; {len(small)} such): lower it.'
        )


def _by(size: Size) -> str:
    return f'{size[0]}x{size[1]}'


def _cache_problems(opt: Mapping[str, Any], is_train: bool) -> Iterator[Problem]:
    """Compare what the teacher cache was made with, as far as no file has to be read through for it."""
    cache = used_cache(opt) if is_train else None
    if cache is None or not os.path.isdir(os.path.expanduser(cache.path)):
        return
    where = ('distillation', 'cache')
    try:
        made = read_settings(RawImages(cache.path, 'the cache').folder)
        wanted = teacher_key(opt, cache, weights=False)
    except UserError as error:
        yield Problem(where, str(error))
        return
    for told in differences({name: made.get(name) for name in wanted}, wanted):
        text = f'{cache.path} was made with {told}. Make another (`kdsr cache FILE`), or name the one that fits.'
        yield Problem(where, text)
