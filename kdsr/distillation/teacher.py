"""Teachers: frozen networks called as ``teacher(batch) -> NetworkOutput``, one or several, fused or not."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from kdsr.distillation.building import build_network_at
from kdsr.distillation.checkpoint import load_weights
from kdsr.distillation.feature_size import shrink
from kdsr.distillation.feature_tap import FeatureTap
from kdsr.distillation.outputs import Batch, NetworkOutput
from kdsr.distillation.padding import crop_padding, run_padded
from kdsr.distillation.precision import at_least_float32, autocast, set_memory_format, to_memory_format
from kdsr.errors import UserError
from kdsr.experiment import Experiment, Network, read_experiment, rules
from kdsr.experiment import window_of as window_of
from kdsr.options import NetworkInput, dotted


class FrozenNetwork(nn.Module):
    """A network that stays in eval mode, has no gradients, and takes images of any size.

    Args:
        network: Maps (N, C, h, w) to (N, 3, S*h, S*w), [0, 1].
        multiple: Window size that its input must be a multiple of; 1 for none.
        points: Feature name to tapped module, see :class:`FeatureTap`.
        changes: Feature name to a function that is applied before the comparison.
        precision: Of convolutions and matrix products: 'fp32', 'bf16' or 'fp16'.
        channels_last: Keep the channels innermost in memory.
        device: Where the network stays when its ensemble is moved; None to go with it.
    """

    def __init__(
        self,
        network: nn.Module,
        multiple: int = 1,
        points: Mapping[str, str] | None = None,
        changes: Mapping[str, Callable[[Tensor], Tensor]] | None = None,
        precision: str = 'fp32',
        channels_last: bool = False,
        device: str | None = None,
    ) -> None:
        super().__init__()
        self.network = set_memory_format(network, channels_last).requires_grad_(False)
        self.multiple = multiple
        self.tap = FeatureTap(network, points or {})
        self.changes = dict(changes or {})
        self.precision = precision
        self.channels_last = channels_last
        self.device = device
        self.eval()

    def train(self, mode: bool = True) -> FrozenNetwork:
        """Stay in eval mode: stochastic depth in a teacher would make its output random."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, image: Tensor, needs_image: bool = True) -> NetworkOutput:
        """Run the network; the outputs have no graph, are in single precision, and are where the network is.

        Args:
            image: (N, C, h, w), on any device.
            needs_image: False to stop at the last tapped module.
        """
        if not needs_image:
            features = self.tap.features_only(lambda: self._run(image)) if self.tap.points else {}
            return NetworkOutput(None, self._changed(features, image))
        with self.tap as features:
            sr = self._run(image)
        return NetworkOutput(sr, self._changed(features, image))

    def calibrate(self, image: Tensor) -> None:
        """Learn from one run which features have to be copied when they are captured, and which is the last."""
        self.tap.calibrate(lambda: self._run(image))

    def _changed(self, features: dict[str, Tensor], image: Tensor) -> dict[str, Tensor]:
        own_size = {name: crop_padding(feature, image.shape[-2:]) for name, feature in features.items()}
        return {**own_size, **{name: change(own_size[name]) for name, change in self.changes.items()}}

    def _run(self, image: Tensor) -> Tensor:
        if self.device is not None:
            image = image.to(self.device, non_blocking=True)
        with autocast(image.device, self.precision):
            sr = run_padded(self.network, to_memory_format(image, self.channels_last), self.multiple)
        return at_least_float32(sr.contiguous() if self.channels_last else sr)


class TeacherEnsemble(nn.Module):
    """One or several frozen teachers that are called as one.

    A single teacher returns its own image. The images of several are fused by the aggregator (MTKD, Sec. 3.1), or
    averaged without one. The output holds the features of all teachers. Teachers on different devices run at the same
    time; the output is on the device of the batch.

    Args:
        members: Teacher name to network, in the order in which the aggregator takes their images.
        inputs: Teacher name to its input, an attribute of the batch: 'lq' (the default), 'gt' (privileged
            information), or 'code'.
        aggregator: Maps (N, 3*T, S*h, S*w), teacher by teacher, to (N, 3, S*h, S*w).
    """

    def __init__(
        self,
        members: Mapping[str, FrozenNetwork],
        inputs: Mapping[str, NetworkInput] | None = None,
        aggregator: FrozenNetwork | None = None,
    ) -> None:
        super().__init__()
        self.names = list(members)
        self.members: Iterable[FrozenNetwork] = nn.ModuleList(members.values())  # type: ignore[assignment]
        self.inputs = dict(inputs or {})
        self.aggregator = aggregator
        self.eval()

    def train(self, mode: bool = True) -> TeacherEnsemble:
        """Stay in eval mode."""
        return super().train(False)

    def to(self, *args: Any, **kwargs: Any) -> TeacherEnsemble:
        """Move the networks; those that have a device of their own go there."""
        for network in (*self.members, self.aggregator):
            if network is not None and network.device is None:
                network.to(*args, **kwargs)
            elif network is not None:
                _move(network)
        return self

    def forward(self, batch: Batch, needs_image: bool = True) -> NetworkOutput:
        """Run the teachers on one batch, without a graph.

        Args:
            batch: With the inputs of all teachers.
            needs_image: False to run only teachers with taps, as far as their last tapped module; the output then
                has no `sr`.
        """
        outputs = self._outputs(batch, needs_image)
        features = {name: feature for output in outputs for name, feature in output.features.items()}
        if not needs_image:
            return NetworkOutput(None, features)
        images = [output.image for output in outputs]
        if self.aggregator is not None:
            fused = self.aggregator(torch.cat(images, dim=1)).image
            return NetworkOutput(fused.to(batch.lq.device), features)
        return NetworkOutput(images[0] if len(images) == 1 else torch.stack(images).mean(dim=0), features)

    def images(self, batch: Batch) -> Tensor:
        """Return the teachers' own images, concatenated over channels: (N, 3*T, S*h, S*w), teacher by teacher."""
        return torch.cat([output.image for output in self._outputs(batch)], dim=1)

    def calibrate(self, batch: Batch) -> None:
        """Learn from one run which features have to be copied when they are captured, and which is the last."""
        for name, member in zip(self.names, self.members):
            member.calibrate(self._input_of(name, batch))

    def _outputs(self, batch: Batch, needs_image: bool = True) -> list[NetworkOutput]:
        """Return the outputs of the members, on the device of the batch."""
        answers = [member(self._input_of(name, batch), needs_image) for name, member in zip(self.names, self.members)]
        outputs = [_on(batch.lq.device, answer) for answer in answers]  # not before every device has its work
        for name, output in zip(self.names, outputs) if needs_image else ():
            own, first = tuple(output.image.shape[1:]), tuple(outputs[0].image.shape[1:])
            if own != first:
                raise UserError(
                    f'teacher {name!r} returns images of {own}, teacher {self.names[0]!r} of {first}: all '
                    'teachers must have one scale.'
                )
        return outputs

    def _input_of(self, name: str, batch: Batch) -> Tensor:
        return batch.require(self.inputs.get(name, 'lq'), f'teacher {name!r}')


def _move(network: FrozenNetwork) -> None:
    try:
        network.to(network.device)
    except (RuntimeError, AssertionError) as error:  # no such device, or a PyTorch without it
        raise UserError(f'`device: {network.device}` of a teacher cannot be used: {error}') from None


def _on(device: torch.device, output: NetworkOutput) -> NetworkOutput:
    features = {name: feature.to(device) for name, feature in output.features.items()}
    return NetworkOutput(None if output.sr is None else output.sr.to(device), features)


def build_teachers(
    experiment: Experiment | Mapping[str, Any],
    part: Callable[[Network, nn.Module], nn.Module] | None = None,
    build: Callable[[Network], nn.Module] | None = None,
) -> TeacherEnsemble:
    """Build the teachers (and aggregator) of an experiment, with their weights, on the CPU.

    They run live, whatever cache the experiment names.

    Args:
        experiment: Its options are checked; or all options.
        part: Returns the part of a teacher that runs on cached inputs; None to run whole teachers live.
        build: Builds a network, where no weights are needed; None to load them.

    Raises:
        UserError: weights do not fit, or the aggregator was trained for other teachers or another order.
    """
    experiment = read_experiment(experiment)
    if part is None:
        experiment = experiment.live()
    if experiment.distributed and any(network.device for network in experiment.frozen):
        raise UserError(
            '`device` of a teacher is for a run of one process: several would all put their teachers there. '
            'Leave it out; each process then keeps its teachers on its own GPU.'
        )
    members: dict[str, FrozenNetwork] = {}
    aggregator = None
    for network in experiment.frozen:
        module = _with_weights(network, experiment.teacher_names) if build is None else build(network)
        if network.role == 'aggregator':
            aggregator = _frozen(network, module, experiment, network.multiple)
        else:
            multiple = int(getattr(module, 'multiple', network.multiple))
            module = module if part is None else part(network, module)
            members[network.name] = _frozen(network, module, experiment, multiple)
    return TeacherEnsemble(members, {teacher.name: teacher.input for teacher in experiment.teachers}, aggregator)


def _with_weights(network: Network, teachers: list[str]) -> nn.Module:
    """Build a network and load its weights."""
    module = build_network_at(network.where, network.opt)
    name = f'teacher {network.name}' if network.role == 'teacher' else network.name
    if network.weights is not None:
        content = load_weights(module, network.weights, network.param_key, name)
        if network.role == 'aggregator':
            rules.enforce(rules.find_trained_for_problems(network, content, teachers))
    elif not getattr(module, 'brings_weights', False):
        raise UserError(f'{dotted(network.weights_path)}: missing; {network.opt["type"]} brings no weights.')
    return module


def _frozen(network: Network, module: nn.Module, experiment: Experiment, multiple: int) -> FrozenNetwork:
    taps = experiment.taps(network.name) if network.role == 'teacher' else ()
    return FrozenNetwork(
        module,
        multiple=multiple,
        points={tap.name: tap.teacher for tap in taps},
        changes={tap.name: partial(shrink, how=tap.shrink, factor=experiment.scale) for tap in taps if tap.shrink},
        precision=network.precision,
        channels_last=network.channels_last,
        device=network.device,
    )
