"""`kdsr diagnose`: the analyses that the papers print about a trained run, beside PSNR and SSIM."""

from __future__ import annotations

import importlib.util
import os
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from kdsr import options, plugins
from kdsr.distillation.teacher import FrozenNetwork, build_teachers
from kdsr.durable import write_durably
from kdsr.errors import UserError
from kdsr.experiment import Experiment, read_experiment
from kdsr.inspection.diagnosis_report import format_report, format_scores
from kdsr.inspection.encodings import describe_runs, find_encodings, load_privileged
from kdsr.inspection.patch_comparison import compare_patches
from kdsr.inspection.teacher_scores import score_teachers, score_teachers_alone
from kdsr.inspection.training_patches import count_training_patches
from kdsr.markdown import markdown_table
from kdsr.networks.devices import find_device
from kdsr.networks.shown_images import ShownImages
from kdsr.networks.subjects import find_weights, read_weights_of
from kdsr.networks.trained_run import TrainedRun
from kdsr.wording import installing


@dataclass(frozen=True)
class DiagnosisSettings:
    """What is to be looked at.

    Attributes:
        iteration: Number of a checkpoint, or 'latest'.
        images: How many images of each set to take, from the first; None for all.
        pictures: How many images to draw, from the first; 0 draws nothing.
        folders: Folders of test sets instead of the validation sets.
        training_patches: How many patches of the training set to look at.
        alone: Option file or weights of the student that was trained alone, for the training patches.
        beside: Option files of other stage-1 runs, to be drawn beside this one.
        device: 'auto' (a GPU, if there is one and the options allow it), 'cpu', 'cuda', 'cuda:1', ...
        overrides: As after `--force_yml`.
    """

    iteration: str = 'latest'
    images: int | None = None
    pictures: int = 3
    folders: Sequence[str] = ()
    training_patches: int = 0
    alone: str | None = None
    beside: Sequence[str] = ()
    device: str = 'auto'
    overrides: Sequence[str] = ()


def diagnose(option_file: str, settings: DiagnosisSettings | None = None, out: str | None = None) -> str:
    """Analyse a trained experiment and write `diagnosis_<iteration>.md` and its pictures.

    A student is compared with its teachers. The file of an aggregator, or of a student that is not trained yet and has
    an aggregator, shows teachers, mean and aggregator. The file of a PISR teacher shows what its encoder makes of the
    ground truth.

    Args:
        option_file: The YAML file that the run was trained with.
        settings: What is to be looked at.
        out: Folder to write to; `experiments/<name>/diagnosis` when None.

    Returns:
        The report as Markdown, and where it was written.

    Raises:
        UserError: see :class:`TrainedRun`; no image is as large as a training patch; matplotlib is missing.
    """
    settings = settings or DiagnosisSettings()
    if settings.pictures and importlib.util.find_spec('matplotlib') is None:
        raise UserError(f'drawing needs matplotlib (`--pictures 0` draws nothing); {installing("plots")}')
    experiment = read_experiment(options.load_experiment(option_file, settings.overrides))
    folder = Path(out or os.path.join('experiments', experiment.name, 'diagnosis'))
    base = folder / f'diagnosis_{settings.iteration}'
    kind = experiment.model.trains
    if kind == 'privileged':
        text, written = diagnose_encoder(option_file, settings, base)
    elif kind == 'aggregator' or _has_only_an_aggregator(experiment, settings.iteration):
        text, written = diagnose_fusion(option_file, settings), []
    else:
        text, written = _diagnose_student(option_file, settings, base)
    folder.mkdir(parents=True, exist_ok=True)
    write_durably(base.with_suffix('.md'), text.encode())
    return f'{text}\nWritten to {" and ".join([f"{base}.md", *map(str, written)])}'


def _has_only_an_aggregator(experiment: Experiment, iteration: str) -> bool:
    """Return whether there is an aggregator to look at, and no trained student yet."""
    student = os.path.join('experiments', experiment.name, 'models', f'net_g_{iteration}.pth')
    has_aggregator = any(network.role == 'aggregator' for network in experiment.frozen)
    return has_aggregator and not os.path.isfile(student)


def diagnose_fusion(option_file: str, settings: DiagnosisSettings) -> str:
    """Score teachers, their mean and their aggregator, without a student; return the report as Markdown.

    Args:
        option_file: Of the aggregator (stage 1 of MTKD), or of a student that learns from one.
        settings: What is to be looked at.

    Raises:
        UserError: weights are missing or do not fit.
    """
    opt = options.load_experiment(option_file, settings.overrides)
    plugins.import_named(opt.get('import_modules') or ())
    options.check(opt)
    experiment = read_experiment(opt)
    teachers = build_teachers(experiment)
    if experiment.trained.role == 'aggregator':
        weights = find_weights(experiment, settings.iteration, option_file)
        teachers.aggregator = FrozenNetwork(read_weights_of(experiment, lambda: weights, 'cpu'))
    device = find_device('cpu' if settings.device == 'auto' and opt['num_gpu'] == 0 else settings.device)
    scores = score_teachers_alone(
        teachers.to(device), ShownImages(experiment, settings.folders), experiment.scale, settings.images
    )
    scored = format_scores(scores, experiment.scale, 'Teachers and aggregator')
    lines = [f'# {experiment.name}', '', *scored]
    for name, of_set in scores.items():
        best = max((row for row in of_set if row.startswith('teacher')), key=lambda row: of_set[row][0])
        gain = of_set['aggregator'][0] - of_set[best][0]
        over_mean = of_set['aggregator'][0] - of_set.get('mean of the teachers', of_set[best])[0]
        lines.append(f'{name}: the aggregator is {gain:+.3f} dB over {best}, {over_mean:+.3f} dB over the mean.')
    return '\n'.join([*lines, ''])


def diagnose_encoder(option_file: str, settings: DiagnosisSettings, base: Path) -> tuple[str, list[Path]]:
    """Look at what the encoder of a PISR teacher makes of the ground truth; return report and written pictures."""
    runs = [load_privileged(file, settings.iteration, settings.overrides) for file in (option_file, *settings.beside)]
    encodings = find_encodings(runs, settings.folders, settings.images)
    rows = []
    for run in runs:
        own = [one for one in encodings if one.run == run.name]
        values = torch.cat([one.code.flatten() for one in own])
        outside = float(((values < 0) | (values > 1)).float().mean())
        psnr, correlation, restored = (
            statistics.fmean(getattr(one, key) for one in own) for key in ('psnr', 'correlation', 'restored')
        )
        rows.append([run.name, f'{psnr:.2f} dB', f'{correlation:+.3f}', f'{100 * outside:.1f} %', f'{restored:.2f} dB'])
    written = []
    if settings.pictures:
        from kdsr.inspection.encodings_figure import draw_encodings  # matplotlib is optional

        written = [base.with_name(f'encoder_{settings.iteration}.png')]
        written[0].parent.mkdir(parents=True, exist_ok=True)
        images = [encodings[i : i + len(runs)] for i in range(0, len(encodings), len(runs))]
        draw_encodings(images[: settings.pictures], str(written[0]))
    head = ['', 'compact feature against LR', 'correlation', 'its values outside of 0..1', "the teacher's image"]
    lines = [
        f'# {describe_runs(runs)}',
        '',
        markdown_table(head, rows),
        '',
        'PSNR of the compact feature X^ of the ground truth against the low-quality image X, peak 1, and of the image',
        f'that the decoder makes of it, {runs[0].experiment.scale} pixels of border cut (PISR, Fig. 3, Table 1).',
        'The correlation of X^ and X does not depend on the size of X^. With the imitation loss X^ is nearer to X;',
        '`--beside FILE` shows another run, for example without it.',
        *(['', f'![compact features]({written[0].name})'] if written else []),
        '',
    ]
    return '\n'.join(lines), written


def _diagnose_student(option_file: str, settings: DiagnosisSettings, base: Path) -> tuple[str, list[Path]]:
    run = TrainedRun(option_file, settings.iteration, settings.device, settings.overrides, settings.folders)
    found, scores = compare_patches(run, settings.images), score_teachers(run, settings.images)
    share = (
        count_training_patches(run, settings.training_patches, settings.alone) if settings.training_patches else None
    )
    written = []
    if settings.pictures:
        from kdsr.inspection.diagnosis_figure import draw_panels, draw_worst, make_panels  # matplotlib is optional

        base.parent.mkdir(parents=True, exist_ok=True)
        draw_panels(list(make_panels(run, settings.pictures)), f'{base}.png')
        written.append(base.with_suffix('.png'))
        if share is not None and share.worst:
            written.append(base.with_name(f'training_patches_{settings.iteration}.png'))
            draw_worst(share.worst, str(written[-1]))
    return format_report(run, found, scores, share, [path.name for path in written]), written
