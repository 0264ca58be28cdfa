"""Make BasicSR's training and test sets from a folder of HR images."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from kdsr.data.disk_room import DiskFullError, check_room, format_size, is_disk_full, make_disk_full_error
from kdsr.data.growing_folder import GrowingFolder
from kdsr.data.image_headers import read_size
from kdsr.data.lmdb_writer import LmdbWriter
from kdsr.data.parallel import check_workers, ordered_map
from kdsr.data.raw_writer import RawWriter
from kdsr.data.source_images import Source, list_sources
from kdsr.data.sub_images import Cutting, SetFolder, count_frame_pixels, cut_image, degrade_image, frame_image
from kdsr.durable import remove_partial_files
from kdsr.errors import UserError
from kdsr.progress_bars import ProgressBar
from kdsr.wording import counted, printable

Result = TypeVar('Result')


def prepare_training_set(
    hr_folder: str | os.PathLike[str],
    out: str | os.PathLike[str],
    scales: Sequence[int] = (2, 3, 4),
    crop_size: int = 480,
    step: int = 240,
    workers: int | None = None,
    progress: bool = True,
    raw: bool = False,
) -> list[Path]:
    """Cut HR images and their bicubic LR images into aligned sub-images, in LMDBs as BasicSR reads them.

    Every image is cropped to a multiple of all scales and downscaled as a whole (MATLAB's bicubic). Then HR and LR are
    cut at the same places: every `step` HR pixels, and at the far border. A side shorter than `crop_size` gives one
    sub-image of its full length. `<folder>_HR` gives `<folder>_HR_sub.lmdb` and
    `<folder>_LR_bicubic_X<scale>_sub.lmdb` (`HR` alone: without a prefix), with the keys `<stem>_s001`, ...

    The same call continues a killed run. Until a set is finished, its name ends in `.partial`. An image that stopped
    the run (damaged, transparent) may be removed, or replaced under its stem, before the run continues. Images that
    are finished must stay as they were, and no new ones may be added. Finished sets of the same images and settings
    are kept.

    With `raw` the same sub-images are stored as plain pixels, in `*_sub.raw` instead of `*_sub.lmdb`, for
    :class:`~kdsr.data.raw_paired_image_dataset.RawPairedImageDataset`: whole images, of which the sub-images are
    windows. The function prints and checks the disk space that this takes before it writes.

    Args:
        hr_folder: PNG, JPEG, BMP, TIFF or WebP images of 8 bits; grey ones, palettes and opaque alpha become RGB.
        out: Folder for the LMDBs, created if missing.
        scales: Downscaling factors >= 2.
        crop_size: Side of the HR sub-images in pixels, a multiple of every scale.
        step: Distance between HR sub-images in pixels, a multiple of every scale.
        workers: Number of processes; all processors when left out. 1 works in this process.
        progress: Print what is done, and show a bar.
        raw: Write raw pixels instead of LMDBs of PNG files.

    Returns:
        The finished sets: HR, then one per scale.

    Raises:
        UserError: a setting is impossible, images cannot be used, the disk is full, a worker process was killed,
            another process writes to the output, or the output was made or begun with other settings or images. The
            message names them and the cure.
    """
    mod, workers = _check_arguments(scales, workers)
    cutting = _check_cutting(crop_size, step, tuple(scales))
    sources = list_sources(Path(hr_folder), smallest=mod, lmdb_names=True)
    writers = _make_writers(Path(hr_folder), Path(out), cutting, sources, raw)
    outputs = [writer.final for writer in writers.values()]
    growing = {scale: writer for scale, writer in writers.items() if not writer.complete}
    if raw:
        check_room(Path(out), sum(writer.estimate_needed() for writer in growing.values()))
    with contextlib.ExitStack() as stack:
        for writer in growing.values():
            writer.open()
            stack.callback(writer.close)
        growing = {scale: writer for scale, writer in growing.items() if not writer.complete}  # by another process
        pending = [s for s in sources if any(s.path.name not in w.finished for w in growing.values())]
        made = f'sub-images of {crop_size}x{crop_size} every {step} pixels'
        if raw:
            made += f', {format_size(sum(writer.estimate_needed() for writer in growing.values()))} of disk'
        if progress:
            _print_plan(hr_folder, made if growing else None, outputs, total=len(sources), pending=len(pending))

        def keep(source: Source, result: tuple[int, Mapping[int, Any]]) -> None:
            file_bytes, contents = result
            for scale, writer in growing.items():
                if source.path.name not in writer.finished:
                    writer.add(source.path.name, file_bytes, contents[scale])

        cut: Callable[..., tuple[int, Mapping[int, Any]]] = frame_image if raw else cut_image
        work = functools.partial(cut, cutting=cutting)
        try:
            show = progress and bool(growing)
            _process_pending(work, pending, keep, total=len(sources), workers=workers, progress=show)
            for writer in growing.values():
                writer.finish()
        except DiskFullError as error:  # it knows of one set only
            raise make_disk_full_error(
                Path(out), sum(writer.estimate_needed() for writer in growing.values())
            ) from error
    return outputs


def prepare_benchmark_set(
    hr_folder: str | os.PathLike[str],
    out: str | os.PathLike[str],
    scales: Sequence[int] = (2, 3, 4),
    workers: int | None = None,
    progress: bool = True,
    gtmod12: bool = False,
) -> list[Path]:
    """Make a test set in the layout of EDSR's benchmark: `<out>/HR` and `<out>/LR_bicubic/X<scale>`, PNG files.

    `HR/<name>.png` is the whole image. `LR_bicubic/X<scale>/<name>x<scale>.png` is MATLAB's bicubic of the HR image,
    cropped to a multiple of the scale at right and bottom. A test crops the HR image to the size of the result. So
    scores are those of EDSR, RCAN, RFDN, FAKD, LSFD, FACD and PISR. `hr_folder` may be `<out>/HR`, with PNG files.

    With `gtmod12` it also writes the layout of BasicSR, which MTKD used: `<out>/GTmod12` (cropped to a multiple of 12)
    and `<out>/LRbicx<scale>` of that, with the same names. If a scale does not divide 12, images are cropped to a
    multiple of the least common multiple of the scales, and the folder has its name (`GTmod40`).

    Every file is complete or absent, and existing files are kept, so the same call continues a killed run.

    Args:
        hr_folder: PNG, JPEG, BMP, TIFF or WebP images of 8 bits; grey ones, palettes and opaque alpha become RGB.
        out: Folder for the folders, created if missing.
        scales: Downscaling factors >= 2.
        workers: Number of processes; all processors when left out. 1 works in this process.
        progress: Print what is done, and show a bar.
        gtmod12: Also write the images that are cropped to a multiple of 12.

    Returns:
        The folders: HR, then one per scale; with `gtmod12` the same once more.

    Raises:
        UserError: a setting is impossible, images cannot be used, the disk is full, a worker process was killed, or the
            folders hold files of another size or name than these images give. The message names them and the cure.
        OSError: a folder cannot be written to.
    """
    mod, workers = _check_arguments(scales, workers)
    mod = 12 if 12 % mod == 0 else mod
    sources = list_sources(Path(hr_folder), smallest=mod if gtmod12 else max(scales), lmdb_names=False)
    folders = _list_set_folders(Path(out), scales, mod if gtmod12 else 0)
    paths = [folder.path for folder in folders]
    if paths[0].is_dir() and paths[0].samefile(hr_folder):
        _refuse_other_formats(sources)
        del folders[0]  # the HR images are in their place
    _check_benchmark_folders(folders, sources)
    pending = [s for s in sources if not all(folder.file_of(s).exists() for folder in folders)]
    made = 'whole images' + (f', and images cropped to a multiple of {mod}' if gtmod12 else '')
    if progress:
        _print_plan(hr_folder, made if pending else None, paths, total=len(sources), pending=len(pending))
    for folder in folders:
        folder.path.mkdir(parents=True, exist_ok=True)
        remove_partial_files(folder.path)
    work = functools.partial(degrade_image, folders=folders)
    try:
        _process_pending(work, pending, None, total=len(sources), workers=workers, progress=progress and bool(pending))
    except OSError as error:
        if not is_disk_full(error):
            raise
        values = sum(3 * height * width for height, width in (source.size for source in pending))
        raise make_disk_full_error(Path(out), (1 + gtmod12) * values // 2) from error  # what PNG leaves of photos
    return paths


def _list_set_folders(out: Path, scales: Sequence[int], mod: int) -> list[SetFolder]:
    """Return the folders of a test set; a `mod` of 0 leaves out the images that are cropped to a multiple of it."""
    whole = [SetFolder(out / 'HR', 1, 1)]
    whole += [SetFolder(out / 'LR_bicubic' / f'X{s}', s, s, f'{{}}x{s}') for s in scales]
    if not mod:
        return whole
    return [*whole, SetFolder(out / f'GTmod{mod}', 1, mod), *(SetFolder(out / f'LRbicx{s}', s, mod) for s in scales)]


def _refuse_other_formats(sources: Sequence[Source]) -> None:
    """Refuse HR images in the test set's own HR folder that are not PNG: a pair needs files of one ending."""
    others = [s.path.name for s in sources if s.path.suffix != '.png']
    if others:
        raise UserError(
            f'{sources[0].path.parent}: {counted(len(others), "image")} cannot stay here, because the LR images are '
            f'PNG files (.png): {", ".join(others[:5])}. Rename this folder, for example to original, and prepare the '
            'set from there.'
        )


def _check_arguments(scales: Sequence[int], workers: int | None) -> tuple[int, int]:
    """Return the least common multiple of the scales and the number of workers."""
    if not scales or len(set(scales)) < len(scales) or not all(isinstance(s, int) and s >= 2 for s in scales):
        raise UserError(f'The scales must be different integers of at least 2; got {list(scales)}.')
    return math.lcm(*scales), check_workers(workers)


def _check_cutting(crop_size: int, step: int, scales: tuple[int, ...]) -> Cutting:
    for name, value in (('crop_size', crop_size), ('step', step)):
        if value < 1 or any(value % s for s in scales):
            raise UserError(f'{name} must be a multiple of every scale in {list(scales)}; got {value}.')
    return Cutting(crop_size, step, scales)


def _make_writers(
    hr_folder: Path, out: Path, cutting: Cutting, sources: list[Source], raw: bool
) -> Mapping[int, GrowingFolder[Any]]:
    name = Path(os.path.abspath(hr_folder)).name  # not resolve(): a link's own name counts
    prefix = '' if name == 'HR' else f'{name[: -len("_HR")] if name.endswith("_HR") else name}_'
    settings = dataclasses.asdict(cutting)
    files = {s.path.name: s.file_bytes for s in sources}
    names = {scale: f'{prefix}{"HR" if scale == 1 else f"LR_bicubic_X{scale}"}_sub' for scale in (1, *cutting.scales)}
    if not raw:
        return {scale: LmdbWriter(out / f'{name}.lmdb', settings, files) for scale, name in names.items()}
    pixels = {scale: sum(count_frame_pixels(s, cutting, scale) for s in sources) for scale in names}
    return {
        scale: RawWriter(out / f'{name}.raw', settings, files, pixels=pixels[scale]) for scale, name in names.items()
    }


def _check_benchmark_folders(folders: Sequence[SetFolder], sources: list[Source]) -> None:
    """Refuse to complete folders whose files were made from other images or otherwise."""
    problems = []
    for folder in folders:
        made = {folder.file_of(s).name: folder.size_of(s) for s in sources}
        for path in sorted(folder.path.glob('[!.]*')):
            expected = made.get(path.name)
            if expected is None:
                problems.append(f'{path}: there is no such HR image.')
                continue
            try:
                found = read_size(path)
            except OSError:
                problems.append(f'{path}: it cannot be read.')
                continue
            if found != expected:
                problems.append(f'{path}: {found[0]}x{found[1]} pixels instead of {expected[0]}x{expected[1]}.')
    if problems:
        listed = '\n  '.join(problems)
        raise UserError(f'These files do not come from these images. Delete them or choose another output:\n  {listed}')


def _print_plan(folder: object, made: str | None, outputs: list[Path], total: int, pending: int) -> None:
    """Print what will be made of the images, or, where `made` is None, that all is there."""
    if made is None:
        ProgressBar.write(
            printable(f'Nothing to do: {_join_paths(outputs)} has {counted(total, "image")} of {folder} already.')
        )
        return
    done = f' ({total - pending} done before)' if pending < total else ''
    ProgressBar.write(printable(f'{counted(total, "image")} of {folder}{done} -> {_join_paths(outputs)}: {made}.'))


def _join_paths(paths: list[Path]) -> str:
    return ', '.join(str(p) for p in paths)


def _process_pending(
    work: Callable[[Source], Result],
    pending: list[Source],
    keep: Callable[[Source, Result], None] | None,
    total: int,
    workers: int,
    progress: bool,
) -> None:
    """Process the pending images in several processes, and pass the results to `keep` in this one, in order."""
    workers = min(workers, max(1, len(pending)))
    done = total - len(pending)
    results = ordered_map(work, pending, workers, name_item=lambda source: source.path.name)
    bar = ProgressBar(total=total, initial=done, unit='image', disable=not progress)
    with contextlib.closing(results), bar:
        for source, result in zip(pending, results):
            if keep:
                keep(source, result)
            bar.update()
