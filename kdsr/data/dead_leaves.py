"""Dead leaves: drawn images of random overlapping shapes, for training without photos and their licences.

Shapes with sizes of density r^-3 that cover one another have the edges, the scale invariance and the spectrum of
photos, after Matheron, "Schema booleen sequentiel de partition aleatoire", 1968; Lee, Mumford, Huang, "Occlusion models
for natural images", IJCV 2001. Networks for restoration learn from them: Achddou, Gousseau, Ladjal, "Synthetic images
as a regularity prior for image restoration neural networks", SSVM 2021. Here the shapes are ellipses, polygons and
bars, shaded, some with stripes or grain.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from kdsr.data.parallel import check_workers, ordered_map
from kdsr.durable import write_durably
from kdsr.errors import UserError
from kdsr.progress_bars import ProgressBar

_FINER = 2  # images are drawn this many times larger, so that edges fall between pixels
_COVER = 5.0  # area of all shapes over that of the image


def draw_dead_leaves(
    folder: str | Path, count: int, size: int = 480, first: int = 0, workers: int | None = None
) -> None:
    """Fill a folder with images, `leaves_0000.png` and so on. Images that are there already are kept.

    Args:
        folder: Created if missing.
        count: Number of images.
        size: Their height and width.
        first: Number of the first image. An image depends only on its number and size, see :func:`draw_image`.
        workers: Number of processes; all processors when left out.

    Raises:
        UserError: a number is out of range, the folder holds an image that is damaged or of another size, or a worker
            process was killed.
        OSError: the disk is full, or the folder cannot be written to.
    """
    for name, value, least in (('count', count, 1), ('size', size, 32), ('first', first, 0)):
        if value < least:
            raise UserError(f'--{name} {value}: it must be at least {least}.')
    workers = check_workers(workers)
    target = Path(folder).expanduser()
    target.mkdir(parents=True, exist_ok=True)
    numbers = range(first, first + count)
    missing = [number for number in numbers if not _check_existing(_name_image(target, number), size)]
    made = ordered_map(
        partial(_write_image, target, size), missing, workers, name_item=lambda n: _name_image(target, n).name
    )
    with closing(made), ProgressBar(made, desc=str(target), total=len(missing), unit='image') as bar:
        for _ in bar:
            pass


def _name_image(folder: Path, number: int) -> Path:
    return folder / f'leaves_{number:04d}.png'


def _check_existing(path: Path, size: int) -> bool:
    """Return whether an image is there already; refuse one that is damaged or of another size."""
    if not path.exists():
        return False
    try:
        with Image.open(path) as image:
            width, height = image.size
    except UnidentifiedImageError:
        raise UserError(f'{path} is damaged. Delete it and run the same command again, which draws it.') from None
    if (width, height) != (size, size):
        raise UserError(f'{path} has {width}x{height} pixels, not {size}x{size}. Name another folder.')
    return True


def _write_image(folder: Path, size: int, number: int) -> None:
    cv2.setNumThreads(1)  # the processes share the processors already
    _, content = cv2.imencode('.png', draw_image(number, size, size))
    write_durably(_name_image(folder, number), content.tobytes())


def draw_image(seed: int, height: int, width: int) -> np.ndarray:
    """Draw one image of dead leaves.

    Args:
        seed: The same number gives the same image, with the same versions of NumPy and OpenCV.
        height: In pixels.
        width: In pixels.

    Returns:
        (height, width, 3) uint8, BGR.
    """
    random = np.random.default_rng(seed)
    shape = (height * _FINER, width * _FINER)
    palette = _draw_palette(random)
    canvas = _shade(random, shape, palette[0])
    smallest, largest = np.exp(random.uniform(np.log(4), np.log(30))), max(shape) / 3
    chance = random.dirichlet([1.0, 1.0, 0.6])
    textured = random.uniform(0, 0.6)
    area, covered = _COVER * shape[0] * shape[1], 0.0
    while covered < area:
        radius = _draw_radius(random, smallest, largest)
        outline = _SHAPES[random.choice(len(_SHAPES), p=chance)](random, radius)
        outline = outline @ _draw_rotation(random) + random.uniform((0, 0), (shape[1], shape[0]))
        covered += _fill_shape(random, canvas, outline, palette[random.integers(len(palette))], textured)
    canvas = cv2.GaussianBlur(canvas, (0, 0), random.uniform(0.4, 1.4))
    small = cv2.resize(canvas, (width, height), interpolation=cv2.INTER_AREA)
    return np.clip(np.rint(small), 0, 255).astype(np.uint8)


def _draw_palette(random: np.random.Generator) -> np.ndarray:
    """Draw 3 to 40 colours, (K, 3), 0..255. Most are dull and some are strong, as in photos."""
    count = random.integers(3, 41)
    contrast, middle = random.uniform(0.3, 1), random.uniform(90, 150)
    grey = middle + contrast * 255 * (random.beta(1.2, 1.4, (count, 1)) - 0.46)
    tint = random.normal(0, 1, 3) * random.uniform(0, 20)
    return np.clip(grey + tint + random.normal(0, 1, (count, 3)) * random.gamma(1.5, 9, (count, 1)), 0, 255)


def _draw_radius(random: np.random.Generator, smallest: float, largest: float) -> float:
    """Draw from the density r^-3 between two sizes, by the inverse of its distribution function."""
    low, high = smallest**-2, largest**-2
    return float((low - random.uniform() * (low - high)) ** -0.5)


def _draw_ellipse(random: np.random.Generator, radius: float) -> np.ndarray:
    angle = np.linspace(0, 2 * np.pi, max(12, min(96, int(radius))), endpoint=False)
    return radius * np.stack([np.cos(angle), random.uniform(0.4, 1) * np.sin(angle)], axis=1)


def _draw_polygon(random: np.random.Generator, radius: float) -> np.ndarray:
    angle = np.sort(random.uniform(0, 2 * np.pi, random.integers(3, 8)))
    reach = radius * random.uniform(0.6, 1.2, (len(angle), 1))
    return reach * np.stack([np.cos(angle), np.sin(angle)], axis=1)


def _draw_bar(random: np.random.Generator, radius: float) -> np.ndarray:
    half = np.array([2 * radius, max(1.0, radius * random.uniform(0.04, 0.3))])
    return half * np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])


_SHAPES: tuple[Callable[[np.random.Generator, float], np.ndarray], ...] = (_draw_ellipse, _draw_polygon, _draw_bar)


def _draw_rotation(random: np.random.Generator) -> np.ndarray:
    angle = random.uniform(0, 2 * np.pi)
    return np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])


def _fill_shape(
    random: np.random.Generator, canvas: np.ndarray, outline: np.ndarray, colour: np.ndarray, textured: float
) -> float:
    """Draw a filled shape onto (H, W, 3), in place; return its area."""
    height, width = canvas.shape[:2]
    left, top = np.clip(np.floor(outline.min(axis=0)).astype(int), 0, (width, height))
    right, bottom = np.clip(np.ceil(outline.max(axis=0)).astype(int) + 1, 0, (width, height))
    if right <= left or bottom <= top:
        return 0.0
    mask = np.zeros((bottom - top, right - left), np.uint8)
    cv2.fillPoly(mask, [np.rint((outline - (left, top)) * 16).astype(np.int32)], 1, shift=4)
    fill = _shade(random, mask.shape, colour)
    if random.uniform() < textured:
        fill += _draw_texture(random, mask.shape)[..., None]
    part = canvas[top:bottom, left:right]
    part[mask > 0] = fill[mask > 0]
    return float(mask.sum())


def _shade(random: np.random.Generator, shape: tuple[int, ...], colour: np.ndarray) -> np.ndarray:
    """Return (H, W, 3) of one colour that grows brighter along a random direction."""
    slope = random.normal(0, 12, 2)
    rows = np.linspace(-1, 1, shape[0], dtype=np.float32)[:, None] * np.float32(slope[0])
    columns = np.linspace(-1, 1, shape[1], dtype=np.float32)[None] * np.float32(slope[1])
    return np.asarray(colour, np.float32) + (rows + columns)[..., None]


def _draw_texture(random: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Return (H, W): stripes, straight or wavy, or grain."""
    strength = np.float32(random.gamma(2.0, 9.0))
    if random.uniform() < 0.5:
        grain = random.standard_normal(shape, np.float32)
        return strength * cv2.GaussianBlur(grain, (0, 0), random.uniform(0.8, 3)) * np.float32(2)
    period = np.exp(random.uniform(np.log(4.5), np.log(40)))
    angle = random.uniform(0, np.pi)
    y, x = np.mgrid[: shape[0], : shape[1]].astype(np.float32)
    along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    bent = along + np.float32(random.uniform(0, period)) * np.sin(across / np.float32(4 * period))
    wave = np.sin(2 * np.pi / period * bent)
    return strength * (np.sign(wave) if random.uniform() < 0.3 else wave).astype(np.float32)
