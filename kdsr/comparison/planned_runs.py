"""What a comparison trains: its runs, and which of them stand in one table."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from kdsr.experiment import Experiment, read_experiment


@dataclass(frozen=True)
class PlannedRun:
    """One training: a label of the comparison file with one seed.

    Attributes:
        label: Its key in `runs:`.
        seed: BasicSR's `manual_seed`.
        name: Name of the experiment; its folder is `experiments/<name>`.
        title: Its name in the report.
        note: A remark for the report; empty for none.
        opt: The complete options.
        needs: Names of the experiments that must be finished before this one starts.
    """

    label: str
    seed: int
    name: str
    title: str
    note: str
    opt: dict[str, Any]
    needs: tuple[str, ...]

    @property
    def folder(self) -> str:
        """The experiment's folder."""
        return os.path.join('experiments', self.name)

    @property
    def iterations(self) -> int:
        """The number of training iterations."""
        return self.experiment.training.iterations

    @cached_property
    def experiment(self) -> Experiment:
        """What the options describe."""
        return read_experiment(self.opt)


@dataclass(frozen=True)
class Comparison:
    """A comparison file, read and checked.

    Attributes:
        file: The path that the user gave.
        name: The beginning of the names of all its experiments.
        about: Text for the report.
        seeds: The seeds of the runs that have no `seeds:` of their own.
        baseline: Label of the run that the others are compared with.
        runs: Every label with every seed, in the order of the file.
    """

    file: str
    name: str
    about: str
    seeds: tuple[int, ...]
    baseline: str
    runs: tuple[PlannedRun, ...]

    @property
    def labels(self) -> list[str]:
        """The labels, in the order of the file."""
        return list(dict.fromkeys(run.label for run in self.runs))

    def of(self, label: str) -> list[PlannedRun]:
        """Return the runs of one label, one for each seed."""
        return [run for run in self.runs if run.label == label]

    @property
    def baseline_run(self) -> PlannedRun:
        """The baseline with its first seed."""
        return self.of(self.baseline)[0]

    def full_title(self, label: str) -> str:
        """Return the title of a label with its note in parentheses."""
        run = self.of(label)[0]
        return f'{run.title} ({run.note})' if run.note else run.title

    @property
    def shown(self) -> list[str]:
        """The labels in the tables: those with the validation of the baseline. The others are only stages."""
        wanted = describe_validation(self.baseline_run.experiment)
        return [label for label in self.labels if describe_validation(self.of(label)[0].experiment) == wanted]


def describe_validation(experiment: Experiment) -> dict[str, Any]:
    """Return what must be equal in all runs of one table: validation sets, metrics, and how images are run."""
    sets = experiment.validation_sets
    return {
        'scale': experiment.scale,
        'color': 'y' if experiment.luminance else None,
        'datasets': {name: {k: v for k, v in dataset.items() if k != 'name'} for name, dataset in sets.items()},
        'val': asdict(experiment.validation),
    }
