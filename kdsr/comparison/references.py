"""What the runs of a comparison are judged by: bicubic upsampling and their teachers, on the same validation images."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from basicsr.utils import tensor2img
from torch import Tensor

import kdsr
from kdsr import options
from kdsr.comparison.planned_runs import Comparison, PlannedRun, describe_validation
from kdsr.comparison.significance import compute_mean_and_spread
from kdsr.comparison.summary import Column, Summary
from kdsr.comparison.validation_images import read_images, to_network_colours
from kdsr.data.matlab_bicubic import upsample_bicubic
from kdsr.distillation.outputs import Batch
from kdsr.distillation.quadrants import run_in_quadrants
from kdsr.distillation.teacher import TeacherEnsemble, build_teachers
from kdsr.durable import write_durably
from kdsr.errors import UserError
from kdsr.experiment import Experiment, Network
from kdsr.foreign import parse_json
from kdsr.foreign.kinds import REFERENCE_VALUES
from kdsr.models.validation import measure
from kdsr.pictures.photo_rows import BICUBIC
from kdsr.progress_bars import ProgressBar

# lq and gt, RGB in [0, 1], and whether to run in four quarters, to the output as validation scores it
_Run = Callable[[Tensor, Tensor, bool], Tensor]


@dataclass(frozen=True)
class Reference:
    """A row of the tables that is not a run.

    Attributes:
        title: 'bicubic', or the name of a teacher.
        values: (validation set, metric) to the mean over the images.
    """

    title: str
    values: Mapping[Column, float]


@dataclass(frozen=True)
class _Network:
    """What can be scored.

    Attributes:
        title: For the tables.
        identity: What its values depend on, besides images and metrics.
        build: Builds the network with its weights.
    """

    title: str
    identity: Any
    build: Callable[[], _Run]


def score_references(summary: Summary, run_teachers: bool = True) -> tuple[list[Reference], list[str]]:
    """Score bicubic and the teachers of all runs on the validation sets of a comparison.

    Values are kept in `experiments/<comparison>/references.json`; they are computed again when weights, images or
    metrics change.

    Args:
        summary: The comparison.
        run_teachers: Whether to run teachers; otherwise only those appear whose values are kept.

    Returns:
        The references, and what could not be scored and why.
    """
    comparison, problems = summary.comparison, []
    experiment = comparison.baseline_run.experiment
    file = Path('experiments') / comparison.name / 'references.json'
    kept = _read(file)
    found: list[Reference] = []
    for network in _list_networks(comparison):
        try:
            key = _hash_dependencies(network, experiment)
            if key not in kept and (run_teachers or network.title == BICUBIC):
                kept[key] = _score(network, experiment)
                file.parent.mkdir(parents=True, exist_ok=True)
                write_durably(file, (json.dumps(kept, indent=1) + '\n').encode())
        except (UserError, OSError) as error:
            problems.append(f'{network.title} is not in the tables: {error}')
            continue
        if key in kept:
            found.append(Reference(network.title, {(name, metric): value for name, metric, value in kept[key]}))
    return found, problems


def find_below_bicubic(summary: Summary, references: Sequence[Reference]) -> list[str]:
    """Return a warning for each run that is worse than bicubic upsampling.

    Args:
        summary: The comparison with its results so far.
        references: Bicubic may be among them.
    """
    bicubic = next((reference.values for reference in references if reference.title == BICUBIC), {})
    warnings = []
    for label in summary.comparison.shown:
        worse = []
        for column in summary.columns:
            mean, _ = compute_mean_and_spread(list(summary.values(label, column).values()))
            lead = mean - bicubic.get(column, float('nan'))
            if (-lead if summary.lower_is_better(column) else lead) < 0:
                worse.append(f'{column[0]} {column[1]} {mean:.4g} against {bicubic[column]:.4g}')
        if worse:
            warnings.append(
                f'{label} is worse than bicubic upsampling ({"; ".join(worse)}): it is not trained far enough to judge '
                'a method by it.'
            )
    return warnings


def _read(file: Path) -> dict[str, list[tuple[str, str, float]]]:
    try:
        return dict(parse_json(file.read_bytes(), REFERENCE_VALUES))
    except (OSError, ValueError):  # not there, or damaged: the values are computed again
        return {}


def _list_networks(comparison: Comparison) -> Iterator[_Network]:
    """Yield bicubic, and every teacher of the runs in the tables once."""
    yield _Network(BICUBIC, BICUBIC, lambda: _run_bicubic(comparison.baseline_run.experiment))
    titles: dict[str, str] = {}
    in_tables = tuple(f'experiments/{run.name}/' for run in comparison.runs if run.label in comparison.shown)
    for label in comparison.shown:
        for network in _list_teachers(comparison.of(label)[0], in_tables):
            identity = json.dumps(network.identity, sort_keys=True, default=str)
            if identity not in titles:
                taken = network.title in titles.values()
                titles[identity] = f'{network.title} of {label}' if taken else network.title
                yield _Network(titles[identity], network.identity, network.build)


def _list_teachers(run: PlannedRun, in_tables: tuple[str, ...]) -> Iterator[_Network]:
    """Yield the teachers of a run that are not runs in the tables, and what combines several of them."""
    experiment = run.experiment.live()
    for teacher in experiment.teachers:
        if (teacher.weights or '').startswith(in_tables or ('\0',)):
            continue
        name = teacher.name
        sees = {'gt': ' (sees the ground truth)', 'lq_clean': ' (sees the clean LR image)'}.get(teacher.input, '')
        build = partial(_build_one_teacher, run, name)
        yield _Network(f'teacher {name}{sees}', _describe_identity(teacher), build)
    if len(experiment.teachers) > 1 and experiment.student is not None:
        names = ' + '.join(experiment.teacher_names)
        yield _Network(
            f'fused {names}',
            [*map(_describe_identity, experiment.frozen)],
            lambda: _run_ensemble(_build(run), experiment),
        )


def _describe_identity(network: Network) -> dict[str, Any]:
    """Return what a frozen network gives its output by, with size and date of its files."""
    stats = [os.stat(file) for _, file in network.files() if os.path.isfile(file)]
    return {
        'network': network.opt,
        'path': network.weights,
        'param_key': network.param_key,
        'input': network.input,
        'precision': network.precision,
        'files': [(stat.st_size, stat.st_mtime_ns) for stat in stats],
    }


def _build(run: PlannedRun) -> TeacherEnsemble:
    options.check(run.opt)
    return build_teachers(run.experiment).to('cuda' if torch.cuda.is_available() else 'cpu')


def _build_one_teacher(run: PlannedRun, name: str) -> _Run:
    ensemble = _build(run)
    member = dict(zip(ensemble.names, ensemble.members))[name]
    return _run_ensemble(TeacherEnsemble({name: member}, ensemble.inputs), run.experiment)


def _run_ensemble(ensemble: TeacherEnsemble, experiment: Experiment) -> _Run:
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    privileged = any(kind in ('gt', 'lq_clean') for kind in ensemble.inputs.values())

    def run(lq: Tensor, gt: Tensor, in_quarters: bool) -> Tensor:
        lq, gt = (to_network_colours(image, experiment.luminance).to(device) for image in (lq, gt))
        batch = Batch(lq, gt)
        if in_quarters and not privileged:
            return run_in_quadrants(lambda quarter: ensemble(Batch(quarter)).image, batch.lq)
        return ensemble(batch).image

    return run


def _run_bicubic(experiment: Experiment) -> _Run:
    """Return bicubic upsampling as MATLAB does it, in 8 bits."""

    def run(lq: Tensor, gt: Tensor, in_quarters: bool) -> Tensor:
        pixels = np.atleast_3d(tensor2img(lq, rgb2bgr=False))
        image = torch.from_numpy(upsample_bicubic(pixels, experiment.scale).astype(np.float32) / 255)
        return to_network_colours(image.permute(2, 0, 1)[None], experiment.luminance)

    return run


def _hash_dependencies(network: _Network, experiment: Experiment) -> str:
    """Return a hash of everything that the values of a network depend on."""
    depends = {
        'kdsr': kdsr.__version__,
        'network': network.identity,
        'protocol': describe_validation(experiment),
        'images': {name: _list_files(dataset) for name, dataset in experiment.validation_sets.items()},
    }
    return hashlib.sha256(json.dumps(depends, sort_keys=True, default=str).encode()).hexdigest()[:32]


def _list_files(dataset: Mapping[str, Any]) -> list[tuple[str, int, int]]:
    folders = [dataset[key] for key in ('dataroot_gt', 'dataroot_lq') if dataset.get(key)]
    entries = [entry for folder in folders if os.path.isdir(folder) for entry in os.scandir(folder)]
    return sorted((entry.path, entry.stat().st_size, entry.stat().st_mtime_ns) for entry in entries)


@torch.no_grad()
def _score(network: _Network, experiment: Experiment) -> list[tuple[str, str, float]]:
    """Return (set, metric, mean over the images) of a network."""
    run, validation = network.build(), experiment.validation
    values = []
    for name, dataset in experiment.validation_sets.items():
        images, scores = read_images(dataset, experiment.scale), []
        for _, lq, gt in ProgressBar(images, desc=f'{network.title}, {name}', unit='image', leave=False):
            sr = run(lq, gt, validation.in_quadrants(name)).float().cpu()
            gt = to_network_colours(gt, experiment.luminance)
            scores.append(measure(sr, gt, validation.metrics, validation.round_gt))
        for metric in validation.metrics if scores else ():
            values.append((name, metric, float(np.mean([of_image[metric] for of_image in scores]))))
    return values
