"""`kdsr diagnose`: what the papers look at in a trained run, beside PSNR and SSIM."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from kdsr.durable import write_durably
from kdsr.errors import UserError
from kdsr.inspection.patch_comparison import Findings, SetCount, compare_patches
from kdsr.inspection.teacher_scores import Scores, teacher_scores
from kdsr.networks.trained_run import TrainedRun


def diagnose(
    option_file: str,
    iteration: str = 'latest',
    images: int | None = None,
    pictures: int = 3,
    out: str | None = None,
) -> str:
    """Look at a trained experiment and write what is seen to `diagnosis_<iteration>.md` and `.png`.

    Args:
        option_file: The YAML that the run was trained with.
        iteration: Number of a checkpoint, or 'latest'.
        images: At most so many of each validation set; all when None.
        pictures: Images whose selective map is drawn, the first ones; 0 for none.
        out: Folder to write to; `experiments/<name>/diagnosis` when None.

    Returns:
        The report, Markdown.

    Raises:
        UserError: see :class:`TrainedRun`; no image is as large as a training patch; there is no matplotlib to draw.
    """
    if pictures and importlib.util.find_spec('matplotlib') is None:
        raise UserError('drawing needs matplotlib: pip install "kdsr[plots]"; `--pictures 0` leaves the drawing out.')
    run = TrainedRun(option_file, iteration)
    found, scores = compare_patches(run, images), teacher_scores(run, images)
    folder = out or os.path.join(run.folder, 'diagnosis')
    os.makedirs(folder, exist_ok=True)
    base = os.path.join(folder, f'diagnosis_{run.iteration}')
    drawn = ''
    if pictures:
        from kdsr.inspection.diagnosis_figure import draw, panels

        draw(list(panels(run, pictures)), f'{base}.png')
        drawn = os.path.basename(f'{base}.png')
    text = report(run, found, scores, drawn)
    write_durably(Path(f'{base}.md'), text.encode())
    return f'{text}\nWritten to {base}.md' + (f' and {base}.png' if drawn else '')


def report(run: TrainedRun, found: Findings, scores: Mapping[str, Scores], picture: str = '') -> str:
    """Return the findings as Markdown.

    Args:
        run: What was looked at.
        found: What was seen.
        scores: How good student and teachers are, by validation set.
        picture: File name of the picture, beside the report; empty for none.
    """
    parts = (
        [f'# {run.name}, {run.checkpoint}', ''],
        _scores_section(scores, run.scale),
        _patches_section(run, found),
        _features_section(found),
        _map_section(picture),
    )
    return '\n'.join(line for part in parts for line in part)


def _scores_section(scores: Mapping[str, Scores], scale: int) -> Iterator[str]:
    yield from ('## Student and teachers', '', f'| | {" | ".join(scores)} |', f'|---|{"---|" * len(scores)}')
    for who in next(iter(scores.values()), ()):
        cells = (f'{psnr:.2f} / {ssim:.4f}' for psnr, ssim in (of_set[who] for of_set in scores.values()))
        yield f'| {who} | {" | ".join(cells)} |'
    yield from ('', f'PSNR in dB and SSIM on luminance, in 8 bits, {scale} pixels of border left out.', '')


def _patches_section(run: TrainedRun, found: Findings) -> Iterator[str]:
    yield from ('## Patches in which the teacher is worse than the student', '')
    yield from ('| set | images | patches | teacher worse |', '|---|---|---|---|')
    rows = dict(found.sets)
    if len(rows) > 1:
        rows['all'] = SetCount(*(sum(getattr(c, key) for c in found.sets.values()) for key in vars(SetCount())))
    for name, count in rows.items():
        share = f'{100 * count.rejected / count.patches:.1f} %' if count.patches else '-'
        yield f'| {name} | {count.images} | {count.patches} | {share} |'
    yield from (
        '',
        f'Patches of {found.size}x{found.size} (LR) side by side, as large as in training. The teacher is worse where',
        'mean |S - G| < mean |T - G| (FACD, Eq. 1; in the paper 5 % with EDSR and 11 % with RCAN).',
        '',
    )


def _features_section(found: Findings) -> Iterator[str]:
    yield from ("## PSNR of the student's features against the teacher's", '')
    if not found.features and not found.apart:
        yield from ('The option file taps no features.', '')
    if found.features:
        yield from ('| feature | through | PSNR |', '|---|---|---|')
        values = {name: total.psnr / total.patches for name, total in found.features.items()}
        for name, total in found.features.items():
            through = f'the helper of `{total.through}`' if total.through else 'as it is'
            yield f'| {name} | {through} | {values[name]:.2f} dB |'
        yield f'| mean | | {sum(values.values()) / len(values):.2f} dB |'
        yield from ('', 'Peak 255, mean over the patches (FACD, Table 4, which does not state the peak).', '')
    for name, reason in found.apart.items():
        yield from (f'{name} cannot be compared: {reason}.', '')


def _map_section(picture: str) -> Iterator[str]:
    if picture:
        yield from ('## Where the student differs from the teacher', '', f'![attention map]({picture})', '')
        yield "The last column is LSFD's attention map (Eq. 3): |T - S| summed over the channels, averaged over each"
        yield 'pixel of the low resolution; the error beside it is the mean over the channels. Both are in grey levels'
        yield 'of 0..255. PSNR is that of what is shown, on Y.\n'
