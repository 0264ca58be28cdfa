"""Finding, checking and reading the HR images that data sets are made from."""

from __future__ import annotations

import collections
import dataclasses
import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from kdsr.errors import UserError

_FORMATS = ('PNG', 'JPEG', 'BMP', 'TIFF', 'WEBP')
_HARMLESS_MODES = ('RGB', 'RGBA', 'L', 'LA', '1', 'P', 'PA')
_SYSTEM_FILES = ('thumbs.db', 'desktop.ini')


@dataclasses.dataclass(frozen=True)
class Source:
    """One image file.

    Attributes:
        path: The file.
        name: Stem for what is made from it.
        size: (height, width) in its header; EXIF orientation may swap them.
        file_bytes: Size of the file.
    """

    path: Path
    name: str
    size: tuple[int, int]
    file_bytes: int


def list_sources(folder: Path, smallest: int, lmdb_names: bool) -> list[Source]:
    """List the images in `folder`, sorted by file name, after a look at every header.

    Hidden files, Thumbs.db and desktop.ini are passed over, and subfolders are not searched.

    Args:
        folder: Where the images are.
        smallest: Least height and width that is accepted.
        lmdb_names: Make names that BasicSR accepts as LMDB keys: ascii, with '_' for '.'.

    Raises:
        UserError: the folder is missing or holds no image, or files cannot be used; all of them are listed.
    """
    if not folder.is_dir():
        raise UserError(f'The HR folder {folder} {"is not a folder" if folder.exists() else "does not exist"}.')
    paths = sorted(p for p in folder.iterdir() if p.is_file() and not _is_ignored(p))
    if not paths:
        raise UserError(f'There is no image in {folder} (subfolders are not searched).')
    sources, problems = [], []
    for path in paths:
        name = _name(path, lmdb_names)
        try:
            sources.append(Source(path, name, _header_size(path, smallest), path.stat().st_size))
        except UserError as error:
            problems.append(str(error))
        if lmdb_names and not name.isascii():
            problems.append(f'{path.name}: LMDB keys must be ascii. Rename it.')
    problems += _name_clashes(paths, lmdb_names)
    if problems:
        listed = '\n  '.join(problems)
        raise UserError(f'{len(problems)} problem(s) with the files in {folder}; nothing was changed:\n  {listed}')
    return sources


def read_rgb(path: Path) -> tuple[np.ndarray, int]:
    """Read an image completely: upright, with grey, palette and opaque alpha converted to RGB.

    Returns:
        The image, (H, W, 3) uint8, and the size of its file in bytes.

    Raises:
        UserError: the file is truncated or damaged, or is of a kind that cannot be converted without a decision.
    """
    content = path.read_bytes()
    try:
        with Image.open(io.BytesIO(content), formats=_FORMATS) as image:
            return np.asarray(_to_rgb(image)), len(content)
    except UserError as error:
        reason = str(error)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        reason = f'it is damaged or incomplete ({error}). Remove or replace it.'
    raise UserError(f'{path}: {reason} Then run the same command again; finished images are kept.')


def header_size(path: Path) -> tuple[int, int]:
    """Return (height, width) from the header of an image file.

    Raises:
        OSError: the file is not an image.
    """
    try:
        with Image.open(path, formats=_FORMATS) as image:
            return image.height, image.width
    except (SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise OSError(f'{path}: {error}') from error


def unusual_kind(path: Path) -> str | None:
    """Say, from the header of an image file, what a decoder of 8-bit RGB drops or converts; None where nothing.

    Raises:
        OSError: the file is not an image.
    """
    with Image.open(path, formats=_FORMATS) as image:
        if 'A' in image.getbands() or 'transparency' in image.info:
            return 'it has an alpha channel, which is dropped. Save it without.'
        try:
            _refuse_kind(image)
        except UserError as error:
            return str(error)
    return None


def _header_size(path: Path, smallest: int) -> tuple[int, int]:
    try:
        with Image.open(path, formats=_FORMATS) as image:
            _refuse_kind(image)
            size = image.height, image.width
    except UserError as error:
        raise UserError(f'{path.name}: {error}') from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        wanted = 'not a readable PNG, JPEG, BMP, TIFF or WebP image'
        raise UserError(f'{path.name}: {wanted} ({error}). Remove or replace it.') from None
    if min(size) < smallest:
        raise UserError(
            f'{path.name}: {size[0]}x{size[1]} pixels; at least {smallest}x{smallest} are needed. Remove it.'
        )
    return size


def _refuse_kind(image: Image.Image) -> None:
    # Pillow opens 16-bit RGB as mode RGB and drops the low bytes without a word; only the decoder's arguments tell
    if image.mode.startswith(('I', 'F')) or ';16' in str(getattr(image, 'tile', '')):
        raise UserError('it has 16 or more bits per channel. Convert it to 8 bit.')
    if image.mode not in _HARMLESS_MODES:
        raise UserError(f'its colours are {image.mode}. Convert it to RGB.')


def _to_rgb(image: Image.Image) -> Image.Image:
    _refuse_kind(image)
    image = ImageOps.exif_transpose(image)
    if 'A' in image.getbands() or 'transparency' in image.info:
        image = image.convert('RGBA')
        if image.getchannel('A').getextrema() != (255, 255):
            raise UserError('it is partly transparent. Save it without transparency.')
    return image.convert('RGB')


def _name(path: Path, lmdb_names: bool) -> str:
    return path.stem.replace('.', '_') if lmdb_names else path.stem


def _is_ignored(path: Path) -> bool:
    return path.name.startswith('.') or path.name.lower() in _SYSTEM_FILES


def _name_clashes(paths: list[Path], lmdb_names: bool) -> list[str]:
    files = collections.defaultdict(list)
    for path in paths:
        files[_name(path, lmdb_names)].append(path.name)
    return [
        f'{", ".join(clashing)}: all would be named {name!r}. Rename or remove all but one.'
        for name, clashing in files.items()
        if len(clashing) > 1
    ]
