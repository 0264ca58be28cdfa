"""HR images as the source of data sets: find them, check them, read them."""

from __future__ import annotations

import collections
import dataclasses
import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from kdsr.compat.dataset_files import list_folder, read_file
from kdsr.data.image_headers import FORMATS, ImageHeader, find_kind_problem
from kdsr.data.set_headers import read_folder_headers
from kdsr.errors import UserError
from kdsr.wording import counted, printable


@dataclasses.dataclass(frozen=True)
class Source:
    """One image file.

    Attributes:
        path: The file.
        name: Stem for what is made from it.
        size: (height, width), upright.
        file_bytes: Size of the file.
    """

    path: Path
    name: str
    size: tuple[int, int]
    file_bytes: int


def list_sources(folder: Path, smallest: int, lmdb_names: bool) -> list[Source]:
    """List the images of a folder, sorted by file name, after every header was checked.

    Hidden files, text files, Thumbs.db and desktop.ini are skipped, and subfolders are not searched.

    Args:
        folder: Where the images are.
        smallest: Least height and width that is accepted.
        lmdb_names: Make names that BasicSR accepts as LMDB keys: ascii, with '_' for '.'.

    Raises:
        UserError: the folder is missing or holds no image, or files cannot be used; all of them are listed.
    """
    if not folder.is_dir():
        raise UserError(f'The HR folder {folder} {"is not a folder" if folder.exists() else "does not exist"}.')
    names, unusable = list_folder(folder)
    if not names and not unusable:
        raise UserError(f'There is no image in {folder} (subfolders are not searched).')
    headers = read_folder_headers(folder, names)
    problems = [f'{name}: {reason}. Remove or replace it.' for name, reason in unusable.items()]
    sources = []
    for name, header in headers.items():
        path = folder / name
        problem = _find_problem(header, smallest)
        if problem is not None:
            problems.append(f'{name}: {problem}')
        else:
            sources.append(Source(path, _make_name(path, lmdb_names), header.size, path.stat().st_size))
        if lmdb_names and not _make_name(path, lmdb_names).isascii():
            problems.append(f'{name}: LMDB keys must be ascii. Rename it.')
    problems += _find_name_clashes([folder / name for name in names], lmdb_names)
    if problems:
        listed = printable('\n  '.join(problems))
        found = counted(len(problems), 'problem')
        raise UserError(f'{found} with the files in {folder}; nothing was changed:\n  {listed}')
    return sources


def _find_problem(header: ImageHeader, smallest: int) -> str | None:
    """Say why an image cannot be prepared; None where it can. Whether alpha is opaque, only its pixels show."""
    if header.fault is not None or header.kind is not None:
        return header.fault or header.kind
    if header.frames > 1:
        return f'it has {header.frames} frames. Save the one that you want alone.'
    if min(header.size) < smallest:
        height, width = header.size
        return f'{height}x{width} pixels; at least {smallest}x{smallest} are needed. Remove it.'
    return None


def read_rgb(path: Path) -> tuple[np.ndarray, int]:
    """Read an image: upright, with grey, palette and opaque alpha converted to RGB.

    Returns:
        The image, (H, W, 3) uint8, and the size of its file in bytes.

    Raises:
        UserError: the file is truncated or damaged, or cannot be converted without a decision.
        OSError: the file cannot be opened, or is a pipe or a device.
    """
    content = read_file(path)
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            return np.asarray(_to_rgb(image)), len(content)
    except UserError as error:
        reason = str(error)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        reason = f'it is damaged or incomplete ({error}). Remove or replace it.'
    raise UserError(f'{path}: {reason} Then run the same command again; finished images are kept.')


def _to_rgb(image: Image.Image) -> Image.Image:
    problem = find_kind_problem(image)
    if problem is not None:
        raise UserError(problem)
    image = ImageOps.exif_transpose(image)
    if 'A' in image.getbands() or 'transparency' in image.info:
        image = image.convert('RGBA')
        if image.getchannel('A').getextrema() != (255, 255):
            raise UserError('it is partly transparent. Save it without transparency.')
    return image.convert('RGB')


def _make_name(path: Path, lmdb_names: bool) -> str:
    return path.stem.replace('.', '_') if lmdb_names else path.stem


def _find_name_clashes(paths: list[Path], lmdb_names: bool) -> list[str]:
    """Say which files would get one name; names that differ only in capitals are one on Windows and most Macs."""
    files = collections.defaultdict(list)
    for path in paths:
        files[_make_name(path, lmdb_names).casefold()].append(path)
    return [
        f'{", ".join(path.name for path in clashing)}: all would be named {_make_name(clashing[0], lmdb_names)!r}. '
        'Rename or remove all but one.'
        for clashing in files.values()
        if len(clashing) > 1
    ]
