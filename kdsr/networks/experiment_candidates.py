"""What an option file offers to a benchmark: its network, its teachers, and the fused image of several teachers."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from glob import glob
from typing import Any

from torch import Tensor, nn

from kdsr import options, plugins
from kdsr.data.benchmark_sets import BenchmarkSet, pair_folders
from kdsr.distillation.checkpoint import pick_weights, read_checkpoint
from kdsr.distillation.outputs import Batch
from kdsr.distillation.teacher import FrozenNetwork, TeacherEnsemble, build_teachers
from kdsr.errors import UserError
from kdsr.experiment import Experiment, read_experiment
from kdsr.networks.candidate import Candidate, hash_file, make_candidate
from kdsr.networks.facts import find_input_channels
from kdsr.networks.trained_run import find_checkpoint
from kdsr.networks.weight_files import build

FUSED = 'MT'  # its name in MTKD's tables
AVERAGED = 'mean of the teachers'


class FusedTeachers(nn.Module):
    """Several teachers and what fuses their images, as one network.

    Args:
        teachers: They run on the low-quality image.

    Maps (N, 3, h, w) in [0, 1], any size, to (N, 3, S*h, S*w).
    """

    multiple = 1  # every teacher pads its input itself
    input_channels = 3

    def __init__(self, teachers: TeacherEnsemble) -> None:
        super().__init__()
        self.teachers = teachers

    def forward(self, lq: Tensor) -> Tensor:
        """Run the teachers and fuse their images."""
        return self.teachers(Batch(lq)).image


def find_candidates_of(
    path: str, label: str, iteration: str | None, teachers: bool, overrides: Sequence[str] = ()
) -> list[Candidate]:
    """Build the network of an option file with its weights; with `teachers` also these, and their fused image.

    Args:
        path: A test file (with the weights that it names) or a training file (with its experiment's).
        label: Name of the network in the tables; empty for the name of the experiment.
        iteration: Checkpoint of the experiment: a number, 'latest' or 'best'; the latest that is there when None.
        teachers: Whether to score the teachers.
        overrides: As after `--force_yml`.

    Returns:
        The teachers in the order of the file, their fused image, then the network. A network that fuses images
        (`AggregationModel`) is scored with its teachers, as their fused image.

    Raises:
        UserError: weights are missing or do not fit, or teachers are wanted and there are none.
    """
    experiment = read_experiment(options.load_experiment(path, overrides)).live()
    plugins.import_named(experiment.imports)
    if teachers and not experiment.teachers:
        raise UserError(f'{path}: --teachers: it has no `distillation.teachers`.')
    network, where = _build_trained(experiment, path, label or experiment.name, iteration)
    aggregates = experiment.trained.input == 'teacher_images'
    ensemble = build_teachers(experiment) if teachers or aggregates else None
    found = list(_list_teachers(experiment, ensemble)) if ensemble is not None and teachers else []
    if ensemble is not None and aggregates:
        ensemble.aggregator = FrozenNetwork(network)  # it pads its input itself
        found.append(_make_fused(experiment, ensemble, label or (FUSED if teachers else experiment.name), where))
    else:
        if ensemble is not None and len(ensemble.names) > 1 and set(ensemble.inputs.values()) == {'lq'}:
            name = AVERAGED if ensemble.aggregator is None else FUSED
            found.append(_make_fused(experiment, ensemble, name))
        found.append(_make_own(experiment, network, label or experiment.name, where))
    sets = _list_sets(_select_test_sets(experiment), experiment.scale or 1)
    return [replace(one, quadrants=experiment.validation.quadrants, sets=sets) for one in found]


def _build_trained(experiment: Experiment, path: str, label: str, iteration: str | None) -> tuple[nn.Module, str]:
    """Return the network of an option file with its weights, and their file."""
    trained = experiment.trained
    if any(phase.startswith('test') for phase in experiment.datasets):
        if trained.weights is None:
            raise UserError(f'{path}: path.pretrain_network_g names no weights to test.')
        where, wanted = trained.weights, trained.param_key
    else:
        where, wanted = _find_experiment_weights(experiment.name, path, iteration), 'params_ema'
    content = read_checkpoint(where)
    key = wanted if wanted in content or wanted is None else 'params'  # as BasicSR
    return build(label, trained.opt, pick_weights(content, where, key), where), where


def _make_own(experiment: Experiment, network: nn.Module, label: str, where: str) -> Candidate:
    trained = experiment.trained
    one = make_candidate(label, network, trained.opt, where)
    if trained.input == 'gt':  # its own `upscale` may be 1
        return replace(one, input='gt', scale=experiment.scale, multiple=trained.multiple)
    return one


def _list_teachers(experiment: Experiment, ensemble: TeacherEnsemble) -> Iterator[Candidate]:
    """Yield each teacher, without the reduced precision that it may have in training."""
    for teacher, member in zip(experiment.teachers, ensemble.members):
        files = [file for _, file in teacher.files()]
        yield Candidate(
            name=f'{teacher.name} (teacher)',
            scale=experiment.scale,
            network=member.network,
            network_opt=teacher.opt,
            source=', '.join(files) or 'its own',
            fingerprint=_hash_files(files),
            multiple=member.multiple,
            luminance=find_input_channels(member.network) == 1,
            input=teacher.input if teacher.input in ('gt', 'lq_clean') else 'lq',
        )


def _make_fused(experiment: Experiment, ensemble: TeacherEnsemble, name: str, where: str = '') -> Candidate:
    files = [file for network in experiment.frozen for _, file in network.files()] + ([where] if where else [])
    own = {'aggregator': dict(experiment.trained.opt)} if where else {}
    return Candidate(
        name=name,
        scale=experiment.scale,
        network=FusedTeachers(ensemble),
        network_opt={network.where: dict(network.opt) for network in experiment.frozen} | own,
        source=files[-1] if ensemble.aggregator is not None else ', '.join(files),
        fingerprint=_hash_files(files),
    )


def _hash_files(files: Sequence[str]) -> str:
    hashes = [hash_file(file) for file in files]
    return hashes[0] if len(hashes) == 1 else hashlib.sha256(''.join(hashes).encode()).hexdigest()


def _find_experiment_weights(name: str, option_file: str, iteration: str | None) -> str:
    folder = os.path.join('experiments', name)
    if iteration is None:
        there = (os.path.join(folder, 'models', f'net_g_{label}.pth') for label in ('latest', 'best'))
        numbered = sorted(glob(os.path.join(folder, 'models', 'net_g_*.pth')), key=lambda p: (len(p), p))
        for path in (*there, *reversed(numbered)):
            if os.path.isfile(path):
                return path
    return find_checkpoint(folder, iteration or 'latest', option_file)


def find_sets_of_file(path: str, scale: int) -> tuple[BenchmarkSet, ...]:
    """Return the test or validation sets that an option file names, as far as they are on the disk.

    Args:
        path: Option file.
        scale: Of the network that is tested.

    Raises:
        UserError: it is for another scale, or none of its sets is there.
    """
    experiment = read_experiment(options.load(path))
    if experiment.scale and experiment.scale != scale:
        raise UserError(f'--sets {path}: it is an experiment for x{experiment.scale}, but the network is for x{scale}.')
    found = _list_sets(_select_test_sets(experiment), scale)
    if not found:
        raise UserError(f'--sets {path}: none of its test or validation sets is a pair of folders on this disk.')
    return found


def _select_test_sets(experiment: Experiment) -> list[Mapping[str, Any]]:
    """Return the test sets of an experiment; the validation sets of a training."""
    for kind in ('test', 'val'):
        datasets = [dataset for phase, dataset in experiment.datasets.items() if phase.startswith(kind)]
        if datasets:
            return datasets
    return []


def _list_sets(datasets: Sequence[Mapping[str, Any]], scale: int) -> tuple[BenchmarkSet, ...]:
    sets = []
    for dataset in datasets:
        gt, lq = dataset.get('dataroot_gt'), dataset.get('dataroot_lq')
        on_disk = (dataset.get('io_backend') or {}).get('type', 'disk') == 'disk'
        if dataset.get('type') != 'PairedImageDataset' or not on_disk or not (gt and lq) or 'meta_info_file' in dataset:
            return ()  # the benchmark reports that it has no sets
        if os.path.isdir(gt) and os.path.isdir(lq):
            template = dataset.get('filename_tmpl', '{}')
            sets.append(pair_folders(str(dataset.get('name', 'test')), scale, gt, lq, template))
    return tuple(sets)
