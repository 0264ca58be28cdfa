"""`kdsr diagnose`: the analyses that the papers print about a trained run, beside PSNR and SSIM."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from kdsr.durable import write_durably
from kdsr.errors import UserError
from kdsr.inspection.patch_comparison import Findings, SetCount, compare_patches
from kdsr.inspection.teacher_scores import Scores, score_teachers
from kdsr.markdown import markdown_table
from kdsr.networks.trained_run import TrainedRun
from kdsr.wording import installing


def diagnose(
    option_file: str,
    iteration: str = 'latest',
    images: int | None = None,
    pictures: int = 3,
    out: str | None = None,
    device: str = 'auto',
    overrides: Sequence[str] = (),
) -> str:
    """Analyse a trained experiment and write `diagnosis_<iteration>.md` and `.png`.

    Args:
        option_file: The YAML file that the run was trained with.
        iteration: Number of a checkpoint, or 'latest'.
        images: How many images of each validation set to take, from the first; None for all.
        pictures: How many images to draw, from the first; 0 draws nothing.
        out: Folder to write to; `experiments/<name>/diagnosis` when None.
        device: See :class:`TrainedRun`.
        overrides: As after `--force_yml`.

    Returns:
        The report as Markdown, and where it was written.

    Raises:
        UserError: see :class:`TrainedRun`; no image is as large as a training patch; matplotlib is missing.
    """
    if pictures and importlib.util.find_spec('matplotlib') is None:
        raise UserError(f'drawing needs matplotlib (`--pictures 0` draws nothing); {installing("plots")}')
    run = TrainedRun(option_file, iteration, device, overrides)
    found, scores = compare_patches(run, images), score_teachers(run, images)
    folder = out or os.path.join(run.folder, 'diagnosis')
    os.makedirs(folder, exist_ok=True)
    base = os.path.join(folder, f'diagnosis_{run.iteration}')
    picture = ''
    if pictures:
        from kdsr.inspection.diagnosis_figure import draw_panels, make_panels  # matplotlib is optional

        draw_panels(list(make_panels(run, pictures)), f'{base}.png')
        picture = os.path.basename(f'{base}.png')
    text = report(run, found, scores, picture)
    write_durably(Path(f'{base}.md'), text.encode())
    return f'{text}\nWritten to {base}.md' + (f' and {base}.png' if picture else '')


def report(run: TrainedRun, found: Findings, scores: Mapping[str, Scores], picture: str = '') -> str:
    """Return the findings as Markdown.

    Args:
        run: The analysed run.
        found: What the comparison of patches found.
        scores: Validation set to the scores of student and teachers.
        picture: File name of the picture, beside the report; empty for none.
    """
    parts = (
        [f'# {run.name}, {run.checkpoint}', ''],
        _format_scores(scores, run.scale),
        _format_patches(run, found),
        _format_features(found),
        _format_map(picture),
    )
    return '\n'.join(line for part in parts for line in part)


def _format_scores(scores: Mapping[str, Scores], scale: int) -> Iterator[str]:
    rows = [
        [row, *(f'{psnr:.2f} / {ssim:.4f}' for psnr, ssim in (of_set[row] for of_set in scores.values()))]
        for row in next(iter(scores.values()), ())
    ]
    yield from ('## Student and teachers', '', markdown_table(['', *scores], rows), '')
    yield from (f'PSNR in dB and SSIM on luminance, in 8 bits, {scale} pixels cut from each border.', '')


def _format_patches(run: TrainedRun, found: Findings) -> Iterator[str]:
    counts = dict(found.sets)
    if len(counts) > 1:
        counts['all'] = SetCount(*(sum(getattr(c, key) for c in found.sets.values()) for key in vars(SetCount())))
    rows = [
        (
            name,
            str(count.images),
            str(count.patches),
            f'{100 * count.rejected / count.patches:.1f} %' if count.patches else '-',
        )
        for name, count in counts.items()
    ]
    yield from (
        '## Patches in which the teacher is worse than the student',
        '',
        markdown_table(['set', 'images', 'patches', 'teacher worse'], rows),
        '',
        f'Patches of {found.size}x{found.size} (LR) side by side, as large as in training. The teacher is worse where',
        'mean |S - G| < mean |T - G| (FACD, Eq. 1; in the paper 5 % with EDSR and 11 % with RCAN).',
        '',
    )


def _format_features(found: Findings) -> Iterator[str]:
    yield from ("## PSNR of the student's features against the teacher's", '')
    if not found.features and not found.not_comparable:
        yield from ('The option file taps no features.', '')
    if found.features:
        values = {name: total.psnr / total.patches for name, total in found.features.items()}
        rows = [
            (name, f'the helper of `{total.through}`' if total.through else 'no helper', f'{values[name]:.2f} dB')
            for name, total in found.features.items()
        ]
        rows.append(('mean', '', f'{sum(values.values()) / len(values):.2f} dB'))
        yield from (markdown_table(['feature', 'through', 'PSNR'], rows), '')
        yield from ('Peak 255, mean over the patches (FACD, Table 4; the paper does not state its peak).', '')
    for name, reason in found.not_comparable.items():
        yield from (f'{name} cannot be compared: {reason}.', '')


def _format_map(picture: str) -> Iterator[str]:
    if picture:
        yield from ('## Where the student differs from the teacher', '', f'![attention map]({picture})', '')
        yield "The last column is LSFD's attention map (Eq. 3): |T - S| summed over the channels, averaged over each"
        yield 'pixel of the low resolution. The error beside it is the mean over the channels. Both are in grey levels'
        yield 'of 0..255. PSNR is that of the images as drawn, on Y.\n'
