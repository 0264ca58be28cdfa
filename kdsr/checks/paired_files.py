"""The files of a PairedImageDataset: does every image have a partner, and can each pair be trained with?"""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from kdsr.compat.dataset_files import find_missing, list_folder, list_pairs
from kdsr.compat.lmdb_files import open_lmdb, read_meta_info
from kdsr.compat.short_errors import NIQE_BLOCKS, has_niqe_blocks
from kdsr.data.image_headers import ImageHeader
from kdsr.data.pair_orientation import find_turned_pairs
from kdsr.data.set_headers import read_folder_headers, read_lmdb_headers
from kdsr.data.swapped_pairs import are_swapped, describe_swapped
from kdsr.errors import UserError
from kdsr.options import WARNING, KeyPath, Problem, block_of
from kdsr.wording import agree, counted, printable

Size = tuple[int, int]
Headers = Mapping[str, ImageHeader]
_MOST = 20  # names in one message


def find_paired_problems(
    where: KeyPath, dataset: Mapping[str, Any], scale: int, trains: bool, niqe_border: int | None = None
) -> Iterator[Problem]:
    """Look at the names and headers of all images of a set; of an LMDB at those of some hundred.

    Args:
        where: Key of the set.
        dataset: Its options; both folders are there.
        scale: Of the experiment; sizes are not compared where it is less than 1.
        trains: It is the training set.
        niqe_border: Pixels that NIQE, a metric of this set, cuts off; None without this metric.

    Raises:
        UserError: a list of images cannot be read.
    """
    kinds = {'lmdb': _find_lmdb_problems, 'disk': _find_folder_problems}
    find = kinds.get(str(block_of(dataset, 'io_backend').get('type')))
    for problem in find(where, dataset, scale, trains, niqe_border) if find else ():
        yield dataclasses.replace(problem, text=printable(problem.text))


def _find_lmdb_problems(
    where: KeyPath, dataset: Mapping[str, Any], scale: int, trains: bool, niqe_border: int | None
) -> Iterator[Problem]:
    if dataset.get('meta_info_file'):
        text = 'it is not read: an LMDB is used whole. Leave it out, or use `io_backend: {type: disk}`.'
        yield Problem((*where, 'meta_info_file'), text, WARNING)
    roots = _find_roots(dataset)
    if not all(os.path.isfile(os.path.join(root, 'meta_info.txt')) for root in roots.values()):
        return
    listed = {key: read_meta_info(root) for key, root in roots.items()}
    gt, lq = listed['dataroot_gt'], listed['dataroot_lq']
    unmatched = [(name, name) for name in sorted(gt.keys() ^ lq.keys())]
    yield from _report_unmatched(where, (roots['dataroot_gt'], gt), (roots['dataroot_lq'], lq), unmatched)
    headers: dict[str, Headers] = {key: {} for key in roots}
    for key, root in roots.items():
        problems = list(_check_content((*where, key), root, listed[key]))
        yield from problems
        if not problems:
            headers[key] = read_lmdb_headers(root)
            yield from _check_headers((*where, key), root, headers[key])
    sizes = {
        key: {name: headers[key][name].size if _is_usable(headers[key], name) else size for name, size in sizes.items()}
        for key, sizes in listed.items()
    }
    pairs = {name: (sizes['dataroot_lq'][name], size) for name, size in sizes['dataroot_gt'].items() if name in lq}
    yield from _check_sizes(where, pairs, scale, dataset.get('gt_size') if trains else None, trains)
    yield from _check_niqe_blocks(where, pairs, niqe_border)


def _check_content(where: KeyPath, root: str, listed: Mapping[str, Size]) -> Iterator[Problem]:
    """Look whether an LMDB can be opened and holds what its meta_info.txt lists; no image is read."""
    if not root.endswith('.lmdb'):
        yield Problem(where, f'{root}: BasicSR wants the name of an LMDB to end in .lmdb. Rename it.')
        return
    try:
        environment = open_lmdb(root)
    except UserError as error:
        yield Problem(where, str(error))
        return
    with environment.begin() as content, content.cursor() as cursor:
        lacking = [key for key in listed if not cursor.set_key(key.encode('ascii', 'replace'))]
    if lacking:
        yield Problem(
            where,
            f'{root} lacks {len(lacking)} of the images that its meta_info.txt lists; the first: {lacking[0]!r}. '
            'It was copied in part; make or copy it again.',
        )


def _find_folder_problems(
    where: KeyPath, dataset: Mapping[str, Any], scale: int, trains: bool, niqe_border: int | None
) -> Iterator[Problem]:
    roots, template = _find_roots(dataset), str(dataset.get('filename_tmpl') or '{}')
    gt_root, lq_root = roots['dataroot_gt'], roots['dataroot_lq']
    list_file = dataset.get('meta_info_file')
    try:
        template.format('0001')
    except (IndexError, KeyError, ValueError, AttributeError):
        yield Problem((*where, 'filename_tmpl'), f'{template!r} must hold one {{}} for the name, as in `{{}}x4`.')
        return
    if list_file:
        path = os.path.expanduser(str(list_file))
        if not os.path.isfile(path):
            return  # reported as missing
        names = {gt: lq for lq, gt in list_pairs((lq_root, gt_root), path, template)}
        yield from _list_problems((*where, 'meta_info_file'), path, roots, names)
    else:
        yield from _check_entries(where, roots)
        gt_names, lq_names = (list_folder(root).names for root in (gt_root, lq_root))
        names = {name: _name_partner(name, template) for name in gt_names}
        unmatched = [(n, lq_name) for n, lq_name in names.items() if lq_name not in set(lq_names)]
        unmatched += [(n, n) for n in sorted(set(lq_names) - set(names.values()))]
        yield from _report_unmatched(where, (gt_root, names), (lq_root, lq_names), unmatched)
    paired = {
        gt: lq
        for gt, lq in names.items()
        if os.path.isfile(os.path.join(gt_root, gt)) and os.path.isfile(os.path.join(lq_root, lq))
    }
    headers = {
        'dataroot_gt': read_folder_headers(gt_root, paired),
        'dataroot_lq': read_folder_headers(lq_root, paired.values()),
    }
    for key, root in roots.items():
        yield from _check_headers((*where, key), root, headers[key])
    good = {
        gt: (headers['dataroot_lq'][lq], headers['dataroot_gt'][gt])
        for gt, lq in paired.items()
        if _is_usable(headers['dataroot_gt'], gt) and _is_usable(headers['dataroot_lq'], lq)
    }
    yield from _check_orientations(where, roots, paired, good)
    sizes = {name: (lq.size, gt.size) for name, (lq, gt) in good.items()}
    yield from _check_sizes(where, sizes, scale, dataset.get('gt_size') if trains else None, trains)
    yield from _check_niqe_blocks(where, sizes, niqe_border)


def _find_roots(dataset: Mapping[str, Any]) -> dict[str, str]:
    return {key: os.path.expanduser(dataset[key]) for key in ('dataroot_gt', 'dataroot_lq')}


def _name_partner(name: str, template: str) -> str:
    stem, ending = os.path.splitext(name)
    return f'{template.format(stem)}{ending}'


def _is_usable(headers: Headers, name: str) -> bool:
    return name in headers and headers[name].fault is None


def _check_entries(where: KeyPath, roots: Mapping[str, str]) -> Iterator[Problem]:
    """Report links that lead nowhere, pipes and devices: the datasets would pass over them without a word."""
    for key, root in roots.items():
        unusable = list_folder(root).unusable
        if unusable:
            lines = [
                f'{os.path.join(root, name)}: {reason}. Remove or replace it.' for name, reason in unusable.items()
            ]
            yield Problem((*where, key), f'{counted(len(lines), "file")} cannot be read:{_format_lines(lines)}')


def _list_problems(where: KeyPath, path: str, roots: Mapping[str, str], names: Mapping[str, str]) -> Iterator[Problem]:
    """Report listed images that are not there."""
    pairs = {'dataroot_gt': list(names), 'dataroot_lq': list(names.values())}
    for key, root in roots.items():
        missing = find_missing(root, pairs[key])
        if missing:
            yield Problem(
                where,
                f'{len(missing)} of the {counted(len(names), "image")} that {path} lists '
                f'{agree(len(missing), "is", "are")} not in {root} ({key}): '
                f'{_list_some(missing)}. Correct the list, one NAME (height,width,3) a line, or the folder.',
            )


def _check_headers(where: KeyPath, root: str, headers: Headers) -> Iterator[Problem]:
    """Report all images that cannot be read, and warn of those that a decoder of 8-bit RGB changes."""
    faults = [f'{os.path.join(root, name)}: {h.fault}' for name, h in headers.items() if h.fault is not None]
    if faults:
        yield Problem(
            where,
            faults[0]
            if len(faults) == 1
            else f'{counted(len(faults), "image")} cannot be used:{_format_lines(faults)}',
        )
    losses: dict[str, list[str]] = {}
    for name, header in headers.items():
        loss = None if header.fault is not None else header.describe_loss()
        if loss is not None:
            losses.setdefault(loss, []).append(name)
    for loss, names in losses.items():
        who = repr(names[0]) if len(names) == 1 else f'{counted(len(names), "image")} ({_list_some(names)})'
        yield Problem(where, f'{who}: {loss}', WARNING)


def _check_orientations(
    where: KeyPath,
    roots: Mapping[str, str],
    names: Mapping[str, str],
    pairs: Mapping[str, tuple[ImageHeader, ImageHeader]],
) -> Iterator[Problem]:
    """Report pairs of which EXIF turns one image, and the other one shows the scene otherwise."""
    differing = {name: names[name] for name, (lq, gt) in pairs.items() if lq.orientation != gt.orientation}
    turned = find_turned_pairs(roots['dataroot_gt'], roots['dataroot_lq'], differing)
    if turned:
        lq, gt = pairs[turned[0]]
        yield Problem(
            where,
            f'EXIF turns one image of {counted(len(turned), "pair")} and not the other: {turned[0]!r} has the '
            f'orientation {gt.orientation} in dataroot_gt, and {lq.orientation} in dataroot_lq. '
            f'All: {_list_some(turned)}. '
            'Save both upright, without an EXIF orientation; `kdsr prepare` makes such sets.',
        )


def _report_unmatched(
    where: KeyPath, gt: tuple[str, Any], lq: tuple[str, Any], unmatched: list[tuple[str, str]]
) -> Iterator[Problem]:
    """Report how many images each set has, and which is the first without a partner."""
    if not len(gt[1]) or not len(lq[1]):
        empty = lq[0] if len(gt[1]) else gt[0]
        yield Problem(where, f'{empty} holds no images.')
    elif unmatched:
        name, partner = unmatched[0]
        (has, lacks), looked = ((gt[0], lq[0]), partner) if name in gt[1] else ((lq[0], gt[0]), name)
        wanted = f', as {looked!r},' if looked != name else ''
        yield Problem(
            where,
            f'{gt[0]} has {counted(len(gt[1]), "image")} and {lq[0]} {len(lq[1])}; {len(unmatched)} without a partner. '
            f'The first: '
            f'{name!r} is in {has}, but not{wanted} in {lacks}. Make both from the same images.',
        )


def _check_sizes(
    where: KeyPath, pairs: Mapping[str, tuple[Size, Size]], scale: int, gt_size: Any, trains: bool
) -> Iterator[Problem]:
    """Report pairs of another scale, and images that are smaller than a crop."""
    if scale < 1:
        return
    wrong = [name for name, (lq, gt) in pairs.items() if not _is_pair(lq, gt, scale, trains)]
    if wrong and are_swapped(pairs.values(), scale):
        lq, gt = pairs[wrong[0]]
        yield Problem(where, describe_swapped(wrong[0], _format_size(lq), _format_size(gt)))
        return
    if wrong:
        lq, gt = pairs[wrong[0]]
        more = f' In all {len(wrong)} of {counted(len(pairs), "pair")}: {_list_some(wrong)}.' if len(wrong) > 1 else ''
        yield Problem(
            where,
            f'the sets are not of scale {scale} (`scale`): {wrong[0]!r} has {_format_size(gt)} pixels (dataroot_gt) '
            f'against {_format_size(lq)} (dataroot_lq), which is x{gt[0] / max(1, lq[0]):g}.{more}',
        )
        return
    small = [name for name, (_, gt) in pairs.items() if type(gt_size) is int and min(gt) < gt_size]
    if small:
        size = _format_size(pairs[small[0]][1])
        more = f'; {len(small)} such: {_list_some(small)}' if len(small) > 1 else '; 1 such'
        yield Problem((*where, 'gt_size'), f'{gt_size} is larger than {small[0]!r} ({size}{more}): lower it.')


def _check_niqe_blocks(where: KeyPath, pairs: Mapping[str, tuple[Size, Size]], border: int | None) -> Iterator[Problem]:
    """Report images that are too small for NIQE."""
    if border is None:
        return
    small = [name for name, (_, gt) in pairs.items() if not has_niqe_blocks(*(side - 2 * border for side in gt))]
    if small:
        yield Problem(
            where,
            f'calculate_niqe needs {NIQE_BLOCKS} but {small[0]!r} has {_format_size(pairs[small[0]][1])}, with a '
            f'`crop_border` of {border} ({counted(len(small), "such image")}): leave this metric or these images out.',
        )


def _is_pair(lq: Size, gt: Size, scale: int, trains: bool) -> bool:
    """Say whether sizes fit: exactly in training; in validation GT may be larger by what a common multiple crops."""
    most = 0 if trains else math.lcm(scale, 12) - 1
    return min(lq) > 0 and all(0 <= large - scale * small <= most for large, small in zip(gt, lq))


def _format_size(size: Size) -> str:
    return f'{size[0]}x{size[1]}'


def _format_lines(lines: Sequence[str]) -> str:
    more = f'\n    ... and {len(lines) - _MOST} more' if len(lines) > _MOST else ''
    return ''.join(f'\n    {line}' for line in lines[:_MOST]) + more


def _list_some(names: Sequence[str]) -> str:
    return ', '.join(map(repr, names[:_MOST])) + (f' and {len(names) - _MOST} more' if len(names) > _MOST else '')
