"""The work of `kdsr upscale`: each file written whole or not at all, those that fail named at the end."""

from __future__ import annotations

import contextlib
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np

from kdsr.data.parallel import run_ahead
from kdsr.deployment.background import compute_ahead
from kdsr.deployment.naming import STREAM, Naming, Plan, Work, describe_skipped, display, make_plan
from kdsr.deployment.upscaler import Upscaler
from kdsr.durable import replace_durably
from kdsr.errors import UserError
from kdsr.image_files.formats import MAX_PIXELS, WRITABLE, PixelLayout, check_layout
from kdsr.image_files.picture import Picture
from kdsr.image_files.reading import read_picture
from kdsr.image_files.resampling import resample_rows
from kdsr.image_files.writing import write_rows
from kdsr.progress_bars import ProgressBar
from kdsr.wording import counted

_BAR = '{percentage:3.0f}%|{bar}| {elapsed}<{remaining}{postfix}'  # without numbers: images are done in parts


@dataclass(frozen=True)
class ResultSettings:
    """How results are written.

    Attributes:
        outscale: Times that the result is larger, also a fraction; None for the network's scale.
        width: Of the result in pixels, instead of `outscale`.
        quality: 1 to 100, of JPEG and WebP; None for 95 and for WebP without loss.
        max_pixels: Refuse larger images.
    """

    outscale: float | None = None
    width: int | None = None
    quality: int | None = None
    max_pixels: int = MAX_PIXELS

    def size(self, height: int, width: int, scale: int) -> tuple[int, int]:
        """Return height and width of the result for those of the image, and the network's scale."""
        if self.width is not None:
            return max(1, round(height * self.width / width)), self.width
        factor = scale if self.outscale is None else self.outscale
        return max(1, round(height * factor)), max(1, round(width * factor))


@dataclass
class _Outcome:
    """What happened to all images."""

    written: int
    problems: list[str]
    warnings: list[str]


def upscale(
    sources: Sequence[str],
    out: str,
    naming: Naming,
    build: Callable[[], Upscaler],
    settings: ResultSettings | None = None,
    say: Callable[[str], object] = lambda sentence: None,
) -> str:
    """Enlarge images.

    Args:
        sources: See :func:`kdsr.deployment.naming.make_plan`.
        out: Likewise.
        naming: Of the results.
        build: Makes the upscaler; called when there is something to do.
        settings: How results are written.
        say: Called with warnings.

    Returns:
        What was done, one line each.

    Raises:
        UserError: nothing could be done, or some images could not; the others are written.
        SystemExit: Ctrl-C, with status 130; finished results are kept.
    """
    settings = settings or ResultSettings()
    _check_settings(settings)
    plan = make_plan(sources, out, naming)
    kept = f' ({plan.existing} existed)' if plan.existing else ''
    skipped = describe_skipped(plan.skipped)
    if not plan.work:
        return '\n'.join(filter(None, [f'0 images to enlarge{kept}.', skipped]))
    upscaler = build()
    outcome = _Outcome(0, [], [])
    try:
        _run(upscaler, plan, settings, outcome)
    except KeyboardInterrupt:
        say(f'stopped; {outcome.written} of {counted(len(plan.work), "image")} written.')
        sys.exit(130)
    finally:
        for sentence in outcome.warnings:
            say(f'warning: {sentence}')
    if outcome.problems:
        listed = '\n  '.join(outcome.problems)
        raise UserError(
            f'{outcome.written} of {counted(len(plan.work), "image")} written{kept}; these were not:\n  {listed}'
            + (f'\n{skipped}' if skipped else '')
        )
    where = '' if out == STREAM else f': {display(out)}'
    done = f'{counted(outcome.written, "image")} enlarged by {_describe(settings, upscaler)}{kept}{where}'
    return '\n'.join(filter(None, [done, skipped]))


def _check_settings(settings: ResultSettings) -> None:
    if settings.outscale is not None and not 0 < settings.outscale <= 64:
        raise UserError(f'--outscale must be above 0 and at most 64, not {settings.outscale}.')
    if settings.width is not None and settings.width < 1:
        raise UserError(f'--width must be at least 1 pixel, not {settings.width}.')
    if settings.quality is not None and not 1 <= settings.quality <= 100:
        raise UserError(f'--quality must be from 1 to 100, not {settings.quality}.')


def _describe(settings: ResultSettings, upscaler: Upscaler) -> str:
    if settings.width is not None:
        return f'{upscaler.scale} with {upscaler.name} and resized to a width of {settings.width:,}'
    if settings.outscale is not None and settings.outscale != upscaler.scale:
        return f'{settings.outscale:g} ({upscaler.scale} with {upscaler.name}, then resized)'
    return f'{upscaler.scale} with {upscaler.name}'


def _run(upscaler: Upscaler, plan: Plan, settings: ResultSettings, outcome: _Outcome) -> None:
    """Enlarge all images; the next one is read, and rows are written, while others are computed."""
    read = partial(_read, max_pixels=settings.max_pixels)
    with ThreadPoolExecutor(1) as pool, ProgressBar(total=len(plan.work), unit='image', bar_format=_BAR) as bar:
        pictures = run_ahead(read, plan.work, pool, ahead=1)
        for work, picture in zip(plan.work, pictures):
            bar.set_postfix_str(Path(work.name).name)
            before = bar.n
            try:
                if isinstance(picture, Exception):
                    raise picture
                warnings = _enlarge(upscaler, picture, work, settings, bar.update)
            except UserError as error:
                text = str(error)
                outcome.problems.append(text if text.startswith(work.name) else f'{work.name}: {text}')
            except Exception as error:  # a full disk, a runtime's own exceptions: the other images can still be done
                outcome.problems.append(f'{work.name}: {type(error).__name__}: {_first_line(error)}')
            else:
                outcome.written += 1
                outcome.warnings += [f'{work.name}: {sentence}' for sentence in (*picture.warnings, *warnings)]
            bar.update(before + 1 - bar.n)


def _read(work: Work, max_pixels: int) -> Picture | Exception:
    """Read an image, or return the error, which is reported when it is the turn of this image."""
    try:
        source = sys.stdin.buffer.read() if work.source is None else work.source
        return read_picture(source, work.name, max_pixels)
    except Exception as error:
        return error


def _first_line(error: Exception) -> str:
    return str(error).strip().split('\n')[0]


def _enlarge(
    upscaler: Upscaler, picture: Picture, work: Work, settings: ResultSettings, progress: Callable[[float], object]
) -> list[str]:
    before = picture.layout
    height, width = settings.size(before.height, before.width, upscaler.scale)
    layout = PixelLayout(height, width, before.channels, before.deep)
    own = 'JPEG' if picture.format_name == 'MPO' else picture.format_name
    format_name = work.format_name or (own if own in WRITABLE else 'PNG')
    check_layout(layout, format_name, work.name)
    rows: Iterator[np.ndarray] = upscaler.rows(picture.pixels, progress)
    scale = upscaler.scale
    if (height, width) != (scale * before.height, scale * before.width):
        large = PixelLayout(scale * before.height, scale * before.width, before.channels, before.deep)
        rows = resample_rows(rows, large, height, width)
    with contextlib.closing(compute_ahead(rows)) as finished, _opened(work.target) as file:
        return write_rows(
            file,
            finished,
            layout,
            format_name,
            metadata=picture.metadata,
            quality=settings.quality,
            name=work.name,
        )


@contextlib.contextmanager
def _opened(target: Path | None) -> Iterator[BinaryIO]:
    """Open the file of a result; standard output gets it when it is whole."""
    if target is not None:
        with replace_durably(target) as file:
            yield file
        return
    with tempfile.NamedTemporaryFile() as file:  # tifffile asks for its name
        yield cast(BinaryIO, file.file)
        file.seek(0)
        shutil.copyfileobj(file, sys.stdout.buffer)
        sys.stdout.buffer.flush()
