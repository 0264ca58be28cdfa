"""The findings of `kdsr diagnose` about a student, as Markdown."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

from kdsr.inspection.patch_comparison import Findings, SetCount
from kdsr.inspection.teacher_scores import Scores
from kdsr.inspection.training_patches import TrainingShare
from kdsr.markdown import markdown_table
from kdsr.networks.trained_run import TrainedRun


def format_report(
    run: TrainedRun,
    found: Findings,
    scores: Mapping[str, Scores],
    share: TrainingShare | None = None,
    pictures: Sequence[str] = (),
) -> str:
    """Return the findings as Markdown.

    Args:
        run: The analysed run.
        found: What the comparison of patches found.
        scores: Set to the scores of student and teachers.
        share: What the training patches showed; None where they were not looked at.
        pictures: File names of the pictures, beside the report: attention map, training patches.
    """
    parts = (
        [f'# {run.name}, {run.checkpoint}', ''],
        format_scores(scores, run.scale),
        _format_patches(run, found),
        _format_training_patches(share, pictures[1] if len(pictures) > 1 else ''),
        _format_features(found),
        _format_map(pictures[0] if pictures else ''),
    )
    return '\n'.join(line for part in parts for line in part)


def format_scores(scores: Mapping[str, Scores], scale: int, heading: str = 'Student and teachers') -> Iterator[str]:
    """Yield the lines of a table with its heading: the networks, and their PSNR and SSIM on each set."""
    rows = [
        [row, *(f'{psnr:.2f} / {ssim:.4f}' for psnr, ssim in (of_set[row] for of_set in scores.values()))]
        for row in next(iter(scores.values()), ())
    ]
    yield from (f'## {heading}', '', markdown_table(['', *scores], rows), '')
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


def _format_training_patches(share: TrainingShare | None, picture: str) -> Iterator[str]:
    if share is None:
        return
    yield from ('## Training patches in which the teacher is worse than a student trained alone', '')
    percent = 100 * share.rejected / share.patches
    yield f'{share.rejected} of {share.patches} patches of the training set, {percent:.1f} % (FACD, Fig. 2; in the'
    yield f'paper 5 % with EDSR and 11 % with RCAN). The student is {share.student}.'
    yield ''
    if picture:
        yield from (f'![the patches in which the teacher is worst]({picture})', '')
        yield from ('Red: the teacher is worse; blue: it is better. In grey levels of 0..255.', '')


def _format_features(found: Findings) -> Iterator[str]:
    yield from ("## PSNR of the student's features against the teacher's", '')
    if not found.features and not found.not_comparable:
        yield from ('The option file taps no features.', '')
    yield from _format_features_table(found, 'raw')
    yield from _format_features_table(found, 'mapped')
    for name, reason in found.not_comparable.items():
        yield from (f'{name} cannot be compared: {reason}.', '')


def _format_features_table(found: Findings, key: Literal['raw', 'mapped']) -> Iterator[str]:
    """Yield the PSNR of each feature on each set; nothing where no feature has such numbers."""
    means = {
        name: {set_name: getattr(one, key) / one.patches for set_name, one in sums.items()}
        for name, sums in found.features.items()
        if all(getattr(one, key) is not None for one in sums.values())
    }
    if not means:
        return
    sets = list(next(iter(means.values())))
    rows = [[_label(found, name, key), *(f'{values[s]:.2f} dB' for s in sets)] for name, values in means.items()]
    rows.append(['mean', *(f'{statistics.fmean(values[s] for values in means.values()):.2f} dB' for s in sets)])
    yield from (markdown_table(['feature', *sets], rows), '')
    peaks = ', '.join(f'{peak:g}' for peak in sorted({found.peaks[name] for name in means}))
    if key == 'raw':
        yield f"Features as they are, peak {peaks} (the range of the teacher's network), mean over the patches (FACD,"
        yield 'Table 4; the paper does not state its peak).'
        yield ''
    else:
        yield "The student's features after the helper of a loss. Where that loss does not depend on the size of the"
        yield 'features (FACD, normalised features), it leaves the size of what the helper returns open, and these'
        yield 'numbers say nothing.'
        yield ''


def _label(found: Findings, name: str, key: Literal['raw', 'mapped']) -> str:
    return f'{name} (helper of `{found.through[name]}`)' if key == 'mapped' else name


def _format_map(picture: str) -> Iterator[str]:
    if picture:
        yield from ('## Where the student differs from the teacher', '', f'![attention map]({picture})', '')
        yield "The last column is LSFD's attention map (Eq. 3): |T - S| summed over the channels, averaged over each"
        yield 'pixel of the low resolution. The error beside it is the mean over the channels. Both are in grey levels'
        yield 'of 0..255. PSNR is that of the images as drawn, on Y.\n'
