"""The work of `kdsr upscale`: an image, a folder or a glob, each file written whole, bad ones told at the end."""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tqdm import tqdm

from kdsr.data.image_headers import read_size
from kdsr.deployment.pictures import SUFFIXES, Picture, encode, read_picture
from kdsr.deployment.upscaler import Upscaler
from kdsr.durable import write_durably
from kdsr.errors import UserError


@dataclass(frozen=True)
class Naming:
    """What the results are called, and what happens to results that are there.

    Attributes:
        suffix: Appended to the stem, '_x4' for example.
        kind: 'png', 'jpg', 'webp' or 'tif' for all; '' for the format of each image.
        overwrite: Replace results that are there.
        skip_existing: Leave them, and go on with the others.
    """

    suffix: str = ''
    kind: str = ''
    overwrite: bool = False
    skip_existing: bool = False


def upscale(source: str, out: str, naming: Naming, build: Callable[[], Upscaler]) -> str:
    """Enlarge images.

    Args:
        source: An image, a folder (not its subfolders), or a pattern such as 'photos/**/*.jpg'.
        out: A folder; or, for one image, the file to write.
        naming: Of the results.
        build: Makes the upscaler; called when there is something to do.

    Returns:
        What was done, in a line.

    Raises:
        UserError: nothing could be done, or some images could not; the others are written.
    """
    work = plan(source, out, naming)
    skipped = [target for _, target in work if target.exists()] if naming.skip_existing else []
    work = [(path, target) for path, target in work if target not in skipped]
    told = f' ({len(skipped)} were there)' if skipped else ''
    if not work:
        return f'0 images to enlarge{told}.'
    upscaler = build()
    problems = _run(upscaler, work)
    if problems:
        listed = '\n  '.join(problems)
        raise UserError(f'{len(work) - len(problems)} of {len(work)} images written{told}; these were not:\n  {listed}')
    return f'{len(work)} image{"s" * (len(work) > 1)} enlarged by {upscaler.scale} with {upscaler.name}{told}: {out}'


def plan(source: str, out: str, naming: Naming) -> list[tuple[Path, Path]]:
    """Return (image, result) for all of them, before anything is done.

    Raises:
        UserError: there is no image, two would have the same name, a result is there, or would replace its image.
    """
    paths = find_images(source)
    target = Path(out).expanduser()
    one_file = len(paths) == 1 and target.suffix.lower() in SUFFIXES and not os.path.isdir(source)
    work = [(path, target if one_file else target / _name(path, naming)) for path in paths]
    _check(work, naming)
    return work


def find_images(source: str) -> list[Path]:
    """List what a path or a pattern names: images by their suffixes, without hidden ones.

    Raises:
        UserError: there is none.
    """
    path = Path(source).expanduser()
    if path.is_file():
        return [path]
    if path.is_dir():
        found = sorted(path.iterdir())
    elif glob.has_magic(source):
        found = [Path(name) for name in sorted(glob.glob(str(path), recursive=True))]
    else:
        raise UserError(f'{source!r} does not exist (looked in {os.getcwd()!r}).')
    images = [p for p in found if p.is_file() and p.suffix.lower() in SUFFIXES and not p.name.startswith('.')]
    if not images:
        raise UserError(
            f'{source!r} names no image ({", ".join(SUFFIXES)}); subfolders need a pattern, "{source}/**/*".'
        )
    return images


def _name(path: Path, naming: Naming) -> str:
    suffix = f'.{naming.kind}' if naming.kind else path.suffix if path.suffix.lower() in SUFFIXES else '.png'
    return f'{path.stem}{naming.suffix}{suffix}'


def _check(work: Sequence[tuple[Path, Path]], naming: Naming) -> None:
    images: dict[Path, Path] = {}
    for path, target in work:
        if target in images:
            raise UserError(f'{images[target]} and {path} would both be written to {target}: enlarge them one by one.')
        images[target] = path
    sources = {path.resolve() for path, _ in work}
    for path, target in work:
        if target.resolve() in sources:
            raise UserError(f'{path} would be replaced by its result: give another --out, or a --suffix.')
    there = [target for _, target in work if target.exists()]
    if there and not (naming.overwrite or naming.skip_existing):
        raise UserError(f'{len(there)} results are there, {there[0]} for example: --overwrite or --skip-existing.')


def _run(upscaler: Upscaler, work: Sequence[tuple[Path, Path]]) -> list[str]:
    """Enlarge all images; return what went wrong."""
    problems: list[str] = []
    sizes = [_pixels(path) for path, _ in work]
    with tqdm(total=sum(sizes), unit='px', unit_scale=True) as bar:
        for (path, target), size in zip(work, sizes):
            bar.set_postfix_str(path.name)
            before = bar.n
            try:
                _enlarge(upscaler, path, target, partial(_advance, bar, size))
            except UserError as error:
                problems.append(str(error))
            except (OSError, MemoryError, RuntimeError) as error:  # a full disk; a network that refuses this image
                problems.append(f'{path}: {type(error).__name__}: {error}')
            bar.update(before + size - bar.n)
    return problems


def _advance(bar: tqdm, size: int, share: float) -> None:
    bar.update(share * size)


def _enlarge(upscaler: Upscaler, path: Path, target: Path, progress: Callable[[float], object]) -> None:
    picture = read_picture(path)
    large = upscaler(picture.pixels, progress)
    content = encode(Picture(large, picture.profile, picture.exif), SUFFIXES[target.suffix.lower()], str(path))
    target.parent.mkdir(parents=True, exist_ok=True)
    write_durably(target, content)


def _pixels(path: Path) -> int:
    try:
        height, width = read_size(path)
    except (OSError, SyntaxError, ValueError):  # told when it is its turn
        return 0
    return height * width
