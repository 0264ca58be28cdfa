"""Which images `kdsr upscale` takes, and what their results are called; decided before anything is computed."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from kdsr.durable import tells_case_apart
from kdsr.errors import UserError
from kdsr.image_files.formats import WRITABLE, looks_like_image, output_format, readable_suffixes
from kdsr.wording import counted

STREAM = '-'  # standard input, and standard output
_NAMED = 8  # skipped files that are named


@dataclass(frozen=True)
class Naming:
    """What the results are called, and what happens to results that exist.

    Attributes:
        suffix: Appended to the stem, '_x4' for example.
        kind: 'png', 'jpg', 'webp', 'tif' or 'bmp' for all; '' for the format of each image, PNG for formats that are
            only read.
        overwrite: Replace results that exist.
        skip_existing: Leave them, and do the others.
        recursive: Take the images in subfolders too, and keep the subfolders.
    """

    suffix: str = ''
    kind: str = ''
    overwrite: bool = False
    skip_existing: bool = False
    recursive: bool = False


@dataclass(frozen=True)
class Work:
    """One image to enlarge.

    Attributes:
        source: The file; None for standard input.
        target: The file of the result; None for standard output.
        format_name: Of the result, a key of `kdsr.image_files.formats.WRITABLE`; '' for the format of the source.
    """

    source: Path | None
    target: Path | None
    format_name: str

    @property
    def name(self) -> str:
        """The source, for messages."""
        return 'standard input' if self.source is None else display(self.source)


@dataclass(frozen=True)
class Plan:
    """All that is to be done.

    Attributes:
        work: Images to enlarge.
        existing: How many results exist and are left.
        skipped: Files in folders and patterns that are not images, or not of a kind that is read.
    """

    work: Sequence[Work]
    existing: int
    skipped: Sequence[Path]


@dataclass(frozen=True)
class _Found:
    path: Path
    folder: Path  # below the folder of the results


def display(path: Path | str) -> str:
    """Return a path for messages, whatever bytes its name has."""
    return os.fsencode(path).decode('utf-8', 'replace')


def make_plan(sources: Sequence[str], out: str, naming: Naming) -> Plan:
    """Find the images and name their results.

    Args:
        sources: Images, folders, patterns such as 'photos/**/*.jpg', or '-' alone for standard input.
        out: A folder; for one image also a file, or '-' for standard output.
        naming: Of the results.

    Raises:
        UserError: there is no image, `out` fits neither one nor several, two results would have the same name, a result
            exists, or would replace an image.
    """
    if STREAM in sources and len(sources) > 1:
        raise UserError("'-' (standard input) is one image and stands alone.")
    target = Path(out).expanduser()
    found, skipped = _find_all(sources, naming.recursive, target)
    wanted = output_format(f'x.{naming.kind}') or '' if naming.kind else ''
    if _is_one_file(sources, found, target, naming):
        format_name = wanted if out == STREAM else output_format(target)
        work = [Work(path, None if out == STREAM else target, format_name or '') for path in (_only(sources, found),)]
    elif sources == [STREAM]:
        raise UserError(f'the result of standard input needs a file name or -, not the folder {out!r}: -o large.png')
    else:
        work = [_named(one, target, naming, wanted) for one in found]
    if naming.suffix:  # beside their sources, results of an earlier run are not images to enlarge
        targets = {one.target.resolve() for one in work if one.target is not None}
        work = [one for one in work if one.source is None or one.source.resolve() not in targets]
    _check(work, naming)
    existing = [one for one in work if one.target is not None and one.target.exists()] if naming.skip_existing else []
    return Plan([one for one in work if one not in existing], len(existing), skipped)


def describe_skipped(skipped: Sequence[Path]) -> str:
    """Return a line that names files that were passed over; '' for none."""
    if not skipped:
        return ''
    names = ', '.join(display(path.name) for path in skipped[:_NAMED]) + (', ...' if len(skipped) > _NAMED else '')
    return f'{counted(len(skipped), "file")} skipped, not images that can be read: {names}'


def _only(sources: Sequence[str], found: Sequence[_Found]) -> Path | None:
    return None if list(sources) == [STREAM] else found[0].path


def _is_one_file(sources: Sequence[str], found: Sequence[_Found], target: Path, naming: Naming) -> bool:
    """Say whether the results are one file that `target` names; refuse names that cannot be meant."""
    stream = str(target) == STREAM
    if not stream and (target.is_dir() or not looks_like_image(target)):
        return False
    several = len(found) > 1 or any(os.path.isdir(source) for source in sources)
    if several:
        raise UserError(
            f'-o {display(target)} names one file, and there may be several images: name a folder, and --format for '
            'their format.'
        )
    if stream:
        return True
    name = output_format(target)
    if name is None:
        known = ', '.join(suffix for one in WRITABLE.values() for suffix in one.suffixes)
        raise UserError(f'-o {display(target)}: this format cannot be written; the suffixes are {known}.')
    if naming.kind and output_format(f'x.{naming.kind}') != name:
        raise UserError(f'--format {naming.kind} contradicts -o {display(target)}: leave out one of them.')
    return True


def _named(one: _Found, folder: Path, naming: Naming, wanted: str) -> Work:
    own = output_format(one.path)
    format_name = wanted or own or 'PNG'
    suffix = one.path.suffix if own == format_name and not wanted else WRITABLE[format_name].suffixes[0]
    suffix = f'.{naming.kind}' if naming.kind else suffix
    return Work(one.path, folder / one.folder / f'{one.path.stem}{naming.suffix}{suffix}', format_name)


def _find_all(sources: Sequence[str], recursive: bool, out: Path) -> tuple[list[_Found], list[Path]]:
    found: list[_Found] = []
    skipped: list[Path] = []
    for source in sources:
        if source == STREAM:
            continue
        images, others = _find(source, recursive, out)
        if not images:
            told = f' {describe_skipped(others)}.' if others else ''
            hint = '' if recursive else ' Subfolders: -r.'
            raise UserError(f'{display(source)!r} names no image that can be read.{told}{hint}')
        found += images
        skipped += others
    unique = {one.path.resolve(): one for one in reversed(found)}
    return [one for one in found if unique[one.path.resolve()] is one], skipped


def _find(source: str, recursive: bool, out: Path) -> tuple[list[_Found], list[Path]]:
    """Return the images that a source names, and the files that are none."""
    path = Path(source).expanduser()
    if path.is_dir():
        files: Iterable[_Found] = _walk(path, out) if recursive else (_Found(p, Path()) for p in sorted(path.iterdir()))
    elif os.path.lexists(path):
        return [_Found(path, Path())], []
    elif glob.has_magic(source):
        files = (_Found(Path(name), Path()) for name in sorted(glob.glob(str(path), recursive=True)))
    else:
        raise UserError(f'{display(source)!r} does not exist (looked in {os.getcwd()!r}).')
    images: list[_Found] = []
    others: list[_Found] = []
    for one in files:
        if one.path.name.startswith('.') or one.path.is_dir():
            continue
        taken = one.path.is_file() and one.path.suffix.lower() in readable_suffixes()
        (images if taken else others).append(one)
    return images, [one.path for one in others]


def _walk(root: Path, out: Path) -> Iterator[_Found]:
    """Yield the files in a folder and its subfolders, without hidden ones and without the folder of the results."""
    for folder, subfolders, files in os.walk(root):
        here = Path(folder)
        subfolders[:] = sorted(
            name for name in subfolders if not name.startswith('.') and (here / name).resolve() != out.resolve()
        )
        yield from (_Found(here / name, here.relative_to(root)) for name in sorted(files))


def _check(work: Sequence[Work], naming: Naming) -> None:
    images: dict[Path, Path | None] = {}
    folders = {one.target.parent for one in work if one.target is not None}
    apart = {folder: tells_case_apart(folder) for folder in folders}
    for one in work:
        if one.target is None:
            continue
        name = one.target.name if apart[one.target.parent] else one.target.name.casefold()
        target = one.target.with_name(name)
        if target in images:
            raise UserError(
                f'{display(images[target] or STREAM)} and {one.name} would both be written to '
                f'{display(one.target)}: enlarge them one by one.'
            )
        images[target] = one.source
    sources = {one.source.resolve() for one in work if one.source is not None}
    for one in work:
        if one.target is not None and one.target.resolve() in sources:
            raise UserError(f'{one.name} would be replaced by its result: give another --out, or a --suffix.')
    existing = [target for target in images if target.exists()]
    if existing and not (naming.overwrite or naming.skip_existing):
        raise UserError(
            f'{counted(len(existing), "result exists", "results exist")}, for example {display(existing[0])}: '
            '--overwrite or --skip-existing.'
        )
