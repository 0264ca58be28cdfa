"""The models of option files on torch's meta device: the real training step, on shapes alone."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

import torch
from basicsr.utils.registry import MODEL_REGISTRY
from torch import Tensor, nn

from kdsr.checks.skeletons import build_skeleton, without_weights
from kdsr.cost.on_meta import copy_to_meta
from kdsr.distillation.building import build_network_at
from kdsr.distillation.cached_teachers import CachedTeachers
from kdsr.distillation.feature_tap import FeatureTap
from kdsr.distillation.outputs import Batch, NetworkOutput, Teacher
from kdsr.distillation.teacher import TeacherEnsemble, build_teachers
from kdsr.experiment import Experiment, Network
from kdsr.hourglass import decoder_of
from kdsr.models.distillation_model import DistillationModel
from kdsr.models.student_model import StudentModel


def build_on_meta(opt: Mapping[str, Any]) -> StudentModel:
    """Build the model of a training on the meta device; no file is read.

    Args:
        opt: Of a training in one process. BasicSR's SRModel and SwinIRModel are built as StudentModel, or with a
            `distillation:` block as DistillationModel, which take the same step.
    """
    kind = MODEL_REGISTRY.get(str(opt['model_type']))
    same_step = DistillationModel if opt.get('distillation') else StudentModel
    model_class = _make_meta_class(kind if issubclass(kind, StudentModel) else same_step)
    try:
        return model_class(copy.deepcopy(dict(opt)), without_weights())
    except Exception:  # some networks compute with their weights while they are built
        return model_class(copy.deepcopy(dict(opt)), contextlib.nullcontext())


def _make_meta_class(kind: type[StudentModel]) -> Callable[..., StudentModel]:
    class OnMeta(kind):  # type: ignore[valid-type,misc]
        """The model, with networks that have shapes and no numbers."""

        device = property(lambda self: torch.device('meta'), lambda self, value: None)

        def __init__(self, opt: dict[str, Any], how_networks_are_built: AbstractContextManager[object]) -> None:
            with contextlib.ExitStack() as self._building:
                self._building.enter_context(how_networks_are_built)
                super().__init__(opt)

        def model_to_device(self, net: nn.Module) -> nn.Module:
            self._building.close()  # what follows runs the networks
            return super().model_to_device(copy_to_meta(net))

        def print_network(self, net: nn.Module) -> None:
            """Print nothing."""

        def build_teacher(self) -> TeacherEnsemble | CachedTeachers:
            return _build_teacher(self.experiment)

        def check_cache(self) -> None:
            """Check nothing: there are no files."""

        def take_over_weights(self) -> None:
            """Take over nothing: there are no weights."""

    return OnMeta


def _build_teacher(experiment: Experiment) -> TeacherEnsemble | CachedTeachers:
    """Build the teachers of an experiment, all on one device."""
    networks = tuple(replace(network, device=None) for network in experiment.networks)
    experiment = replace(experiment, networks=networks)
    if experiment.used_cache is None:
        return build_teachers(experiment, build=_build_skeleton)
    if experiment.content == 'code':
        return build_teachers(experiment, decoder_of, _build_skeleton)
    return CachedTeachers(experiment.teacher_names)


def _build_skeleton(network: Network) -> nn.Module:
    """Build a network on the meta device, if it can be without making its weights first."""
    skeleton = build_skeleton(network.opt)
    return copy_to_meta(build_network_at(network.where, network.opt) if skeleton is None else skeleton)


class Cuts:
    """Cuts the graph between the student and the losses, so that the backward pass of each can run by itself."""

    def __init__(self) -> None:
        self._pairs: list[tuple[Tensor, Tensor]] = []

    def __call__(self, tensor: Tensor) -> Tensor:
        """Return the tensor without its graph."""
        leaf = tensor.detach().requires_grad_()
        self._pairs.append((tensor, leaf))
        return leaf

    def backward(self) -> None:
        """Go on where the losses' backward pass ended."""
        reached = [(tensor, leaf.grad) for tensor, leaf in self._pairs if leaf.grad is not None]
        self._pairs.clear()
        torch.autograd.backward([tensor for tensor, _ in reached], [gradient for _, gradient in reached])


class CutTap:
    """A feature tap whose features are cut off the student's graph.

    Args:
        tap: Of the student.
        cuts: Remembers where.
    """

    def __init__(self, tap: FeatureTap, cuts: Cuts) -> None:
        self._tap, self._cuts = tap, cuts

    def __enter__(self) -> dict[str, Tensor]:
        self._features = self._tap.__enter__()
        return self._features

    def __exit__(self, *error: Any) -> None:
        self._tap.__exit__(*error)
        self._features.update({name: self._cuts(feature) for name, feature in self._features.items()})


class MeteredTeacher:
    """A teacher whose operations are counted apart.

    Args:
        teacher: Any.
        counted: Returns the context in which they are counted.
    """

    def __init__(self, teacher: Teacher, counted: Callable[[], AbstractContextManager[None]]) -> None:
        self._teacher, self._counted = teacher, counted

    @property
    def names(self) -> Sequence[str]:
        """The names of the teachers."""
        return self._teacher.names

    def __call__(self, batch: Batch, needs_image: bool = True) -> NetworkOutput:
        """Run the teacher."""
        with self._counted():
            return self._teacher(batch, needs_image)

    def images(self, batch: Batch) -> Tensor:
        """Return the image of each teacher."""
        with self._counted():
            return self._teacher.images(batch)

    def calibrate(self, batch: Batch) -> None:
        """Prepare for batches of this size."""
        self._teacher.calibrate(batch)
