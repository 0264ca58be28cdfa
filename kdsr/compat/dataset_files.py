"""The image files of BasicSR's datasets: which count, in which order, from which list, and which way up.

BasicSR takes every file of a folder in the order of the file system, and cuts the lines of a list at the first space.
"""

from __future__ import annotations

import io
import os
import re
import stat
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from basicsr.utils import imfrombytes as basicsr_imfrombytes
from basicsr.utils import scandir as basicsr_scandir

from kdsr.errors import UserError

if TYPE_CHECKING:
    import numpy as np

SYSTEM_FILES = ('thumbs.db', 'desktop.ini', 'icon\r')
TEXT_ENDINGS = (
    '.cfg', '.csv', '.db', '.html', '.ini', '.json', '.log', '.md', '.md5', '.pdf', '.rst', '.sha256', '.toml', '.txt',
    '.xml', '.yaml', '.yml',
)  # fmt: skip
_SHAPE = re.compile(r'^(?P<name>.*?\S)\s+\((?P<height>\d+),\s*(?P<width>\d+)(?:,\s*\d+)?\)(?:\s+\S+)*$')


class FolderFiles(NamedTuple):
    """The entries of a folder that are meant to be images.

    Attributes:
        names: Of regular files and links to them, sorted.
        unusable: Names of links that lead nowhere, pipes, sockets and devices, each with the reason.
    """

    names: list[str]
    unusable: dict[str, str]


class ListedImage(NamedTuple):
    """One line of a list of images, or of an LMDB's ``meta_info.txt``.

    Attributes:
        name: As it is written, spaces included.
        size: (height, width), None where the line has none.
        line: Its number, from 1.
    """

    name: str
    size: tuple[int, int] | None
    line: int


def is_skipped(name: str) -> bool:
    """Return whether a file name shows that it is not an image: hidden, a system file such as Thumbs.db, or text."""
    lower = name.lower()
    return name.startswith('.') or lower in SYSTEM_FILES or lower.endswith(TEXT_ENDINGS)


def list_folder(folder: str | os.PathLike[str]) -> FolderFiles:
    """List the files of a folder that are meant to be images, sorted by name; subfolders are not searched.

    Raises:
        OSError: the folder cannot be read.
    """
    names, unusable = [], {}
    with os.scandir(folder) as entries:
        for entry in entries:
            if is_skipped(entry.name):
                continue
            reason = describe_unusable(entry.path)
            if reason is None:
                names.append(entry.name)
            elif reason:
                unusable[entry.name] = reason
    return FolderFiles(sorted(names), dict(sorted(unusable.items())))


def describe_unusable(path: str | os.PathLike[str]) -> str | None:
    """Say why a path cannot be read as a file without blocking; '' for a folder, None for a regular file."""
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        if os.path.islink(path):
            return f'it is a link to {os.readlink(path)}, which cannot be followed ({error.strerror})'
        return f'it cannot be read ({error.strerror})'
    if stat.S_ISREG(mode):
        return None
    if stat.S_ISDIR(mode):
        return ''
    kinds = {stat.S_IFIFO: 'a named pipe', stat.S_IFSOCK: 'a socket'}
    return f'it is {kinds.get(stat.S_IFMT(mode), "a device")}, not a file'


def read_file(path: str | os.PathLike[str]) -> bytes:
    """Read a regular file; never block on a pipe or a device.

    Raises:
        OSError: it is not a regular file, or cannot be read.
    """
    descriptor = os.open(path, os.O_RDONLY | getattr(os, 'O_NONBLOCK', 0) | getattr(os, 'O_BINARY', 0))
    with open(descriptor, 'rb') as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(f'{os.fspath(path)} is not a regular file')
        return file.read()


def read_image_list(path: str | os.PathLike[str]) -> list[ListedImage]:
    """Read a list of images, one a line: ``NAME (height,width,channels) ...``, or the name alone.

    The shape is looked for from the right, so names may hold spaces. A byte order mark and blank lines are skipped.

    Raises:
        UserError: the file cannot be read, or is not text.
    """
    try:
        text = read_file(path).decode('utf-8-sig', errors='surrogateescape')
    except OSError as error:
        raise UserError(f'{os.fspath(path)} cannot be read ({error.strerror or error}).') from None
    if '\0' in text:
        raise UserError(f'{os.fspath(path)} is not a text file. Save it as UTF-8 text, one image name per line.')
    images = []
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            images.append(_read_line(line.strip(), number))
    return images


def _read_line(line: str, number: int) -> ListedImage:
    shaped = _SHAPE.match(line)
    if shaped is None:
        return ListedImage(line, None, number)
    return ListedImage(shaped['name'], (int(shaped['height']), int(shaped['width'])), number)


def find_listed(folder: str, listed: ListedImage, names: Sequence[str]) -> str:
    """Return the name under which a listed image lies in a folder; the listed name where none fits.

    Args:
        folder: The folder.
        listed: A line of a list. A name without an ending stands for the one file with that stem; of a line without
            shape the first word counts if the whole line is not a file.
        names: Files of the folder.
    """
    words = [listed.name, *listed.name.split()[:1]] if listed.size is None else [listed.name]
    for word in words:
        if os.path.isfile(os.path.join(folder, word)):
            return word
    for word in words:
        same_stem = [name for name in names if os.path.splitext(name)[0] == word]
        if len(same_stem) == 1:
            return same_stem[0]
    return listed.name


def list_pairs(folders: Sequence[str], list_file: str, template: str) -> list[tuple[str, str]]:
    """Return the (LQ, GT) file names of a list of GT images, whether the files are there or not.

    Args:
        folders: Of LQ and of GT images.
        list_file: `meta_info_file`.
        template: `filename_tmpl`, of the LQ files' stems.

    Raises:
        UserError: the list cannot be read, or is empty.
    """
    listed = read_image_list(list_file)
    if not listed:
        raise UserError(f'`meta_info_file: {list_file}` lists no image. Write one name per line.')
    gt_folder = folders[1]
    names = list_folder(gt_folder).names if os.path.isdir(gt_folder) else []
    pairs = []
    for image in listed:
        gt_name = find_listed(gt_folder, image, names)
        stem, ending = os.path.splitext(os.path.basename(gt_name))
        pairs.append((f'{template.format(stem)}{ending}', gt_name))
    return pairs


def find_missing(folder: str, names: Iterable[str]) -> list[str]:
    """Return the names under which no regular file lies in a folder."""
    return [name for name in names if not os.path.isfile(os.path.join(folder, name))]


def make_upright(content: bytes) -> bytes:
    """Return an image file that OpenCV reads upright: the same bytes, or a PNG of a WebP image with an orientation.

    OpenCV turns all other kinds by their EXIF orientation; WebP only from version 5 on.
    """
    if content[:4] != b'RIFF' or content[8:12] != b'WEBP':
        return content
    import cv2
    import numpy as np
    from PIL import Image, UnidentifiedImageError

    from kdsr.image_files.metadata import orientation_of
    from kdsr.image_files.orientation import turn_upright

    try:
        with Image.open(io.BytesIO(content), formats=['WEBP']) as image:
            orientation = orientation_of(image)
    except (OSError, ValueError, SyntaxError, UnidentifiedImageError):
        return content  # whoever decodes it reports it
    if orientation == 1:
        return content
    stored = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION)
    if stored is None:
        return content
    turned = turn_upright(stored, orientation)
    return bytes(cv2.imencode('.png', np.ascontiguousarray(turned), [cv2.IMWRITE_PNG_COMPRESSION, 1])[1])


def decode_bgr(content: bytes) -> np.ndarray | None:
    """Decode an image file as the datasets do: (H, W, 3) uint8, BGR, upright; None if it is not an image."""
    import cv2
    import numpy as np

    return cv2.imdecode(np.frombuffer(make_upright(content), np.uint8), cv2.IMREAD_COLOR) if content else None


def write_png(image: np.ndarray, path: str | os.PathLike[str]) -> None:
    """Write an image, (H, W, 3) uint8, BGR, as PNG. Missing folders are made.

    Python opens the file: OpenCV ends the process at some names that are not UTF-8.

    Raises:
        OSError: it cannot be written.
    """
    import cv2

    os.makedirs(os.path.dirname(path) or '.', exist_ok=True)
    with open(path, 'wb') as file:
        file.write(cv2.imencode('.png', image)[1].tobytes())


def scandir(dir_path: str, *args: Any, **kwargs: Any) -> Iterator[str]:
    """List a folder in the order of the names, without Thumbs.db and texts.

    BasicSR lists it in the order of the file system, so one seed gives different weights on another machine.
    """
    found = basicsr_scandir(dir_path, *args, **kwargs)
    return iter(sorted(path for path in found if not is_skipped(os.path.basename(path))))


def paired_paths_from_meta_info_file(
    folders: list[str], keys: list[str], meta_info_file: str, filename_tmpl: str
) -> list[dict[str, str]]:
    """Read `meta_info_file` with spaces in names, tabs, blank lines, a byte order mark, and names without ending.

    BasicSR cuts a line at its first space: such a line gives a file that does not exist, and the run ends at it.

    Raises:
        UserError: the list cannot be read, or is empty.
    """
    return [
        {f'{key}_path': os.path.join(folder, name) for key, folder, name in zip(keys, folders, pair)}
        for pair in list_pairs(folders, meta_info_file, filename_tmpl)
    ]


def imfrombytes(content: bytes, flag: str = 'color', float32: bool = False) -> Any:
    """Read WebP images upright, like all others; OpenCV does so from version 5 on."""
    return basicsr_imfrombytes(make_upright(content), flag, float32)
