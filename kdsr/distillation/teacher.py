"""Teachers: frozen networks that answer ``teacher(batch) -> NetworkOutput``, one or many, fused or not."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import torch
from basicsr.utils import get_root_logger
from torch import Tensor, nn

from kdsr.distillation.building import argument_of, build_network_at
from kdsr.distillation.checkpoint import load_weights
from kdsr.distillation.feature_size import shrink
from kdsr.distillation.feature_tap import FeatureTap
from kdsr.distillation.outputs import Batch, NetworkOutput
from kdsr.distillation.padding import run_padded
from kdsr.errors import UserError


class FrozenNetwork(nn.Module):
    """A network that stays in eval mode, has no gradients, and takes images of any size.

    Args:
        network: Maps (N, C, h, w) to (N, 3, S*h, S*w), [0, 1].
        multiple: Window size that its input must be a multiple of; 1 for none.
        points: Feature name to tapped module, see :class:`FeatureTap`.
        changes: Feature name to what is made of it before it is compared.
    """

    def __init__(
        self,
        network: nn.Module,
        multiple: int = 1,
        points: Mapping[str, str] | None = None,
        changes: Mapping[str, Callable[[Tensor], Tensor]] | None = None,
    ) -> None:
        super().__init__()
        self.network = network.requires_grad_(False)
        self.multiple = multiple
        self.tap = FeatureTap(network, points or {})
        self.changes = dict(changes or {})
        self.eval()

    def train(self, mode: bool = True) -> FrozenNetwork:
        """Stay in eval mode: stochastic depth in a teacher would make its answers random."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, image: Tensor) -> NetworkOutput:
        """Run the network; the outputs have no graph."""
        with self.tap as features:
            sr = run_padded(self.network, image, self.multiple)
        return NetworkOutput(sr, {**features, **{n: change(features[n]) for n, change in self.changes.items()}})

    def calibrate(self, image: Tensor) -> None:
        """Learn from one run which features have to be copied when they are captured."""
        self.tap.calibrate(lambda: run_padded(self.network, image, self.multiple))


class TeacherEnsemble(nn.Module):
    """One or many frozen teachers that answer as one.

    The image of a single teacher is its own; of several, what the aggregator makes of them (MTKD, Sec. 3.2), or their
    mean without one. The features of all teachers stand side by side.

    Args:
        members: Teacher name to network, in the order in which the aggregator takes their images.
        inputs: Teacher name to what it is shown, `lq` (the default) or `gt` (privileged information).
        aggregator: Maps (N, 3*T, S*h, S*w), teacher by teacher, to (N, 3, S*h, S*w).
    """

    def __init__(
        self,
        members: Mapping[str, FrozenNetwork],
        inputs: Mapping[str, str] | None = None,
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

    def forward(self, batch: Batch) -> NetworkOutput:
        """Answer for one batch, without a graph."""
        outputs = self._outputs(batch)
        features = {name: feature for output in outputs for name, feature in output.features.items()}
        images = [output.sr for output in outputs]
        if self.aggregator is not None:
            return NetworkOutput(self.aggregator(torch.cat(images, dim=1)).sr, features)
        return NetworkOutput(images[0] if len(images) == 1 else torch.stack(images).mean(dim=0), features)

    def images(self, batch: Batch) -> Tensor:
        """Return the teachers' own images, concatenated over channels: (N, 3*T, S*h, S*w), teacher by teacher."""
        return torch.cat([output.sr for output in self._outputs(batch)], dim=1)

    def calibrate(self, batch: Batch) -> None:
        """Learn from one run which features have to be copied when they are captured."""
        for name, member in zip(self.names, self.members):
            member.calibrate(self._shown(name, batch))

    def _outputs(self, batch: Batch) -> list[NetworkOutput]:
        outputs = [member(self._shown(name, batch)) for name, member in zip(self.names, self.members)]
        for name, output in zip(self.names, outputs):
            if output.sr.shape != outputs[0].sr.shape:
                raise UserError(
                    f'teacher {name!r} gives images of {tuple(output.sr.shape[1:])}, teacher {self.names[0]!r} of '
                    f'{tuple(outputs[0].sr.shape[1:])}: all teachers must have one scale.'
                )
        return outputs

    def _shown(self, name: str, batch: Batch) -> Tensor:
        image = getattr(batch, self.inputs.get(name, 'lq'))
        if image is None:
            raise UserError(f'teacher {name!r} is shown the ground truth (`input: gt`), but this batch has none.')
        return image


def window_of(network_opt: Mapping[str, Any]) -> int:
    """Return the multiple that a network's input sides must have: its `window_size`, given or by default, else 1."""
    return int(argument_of(network_opt, 'window_size') or 1)


def build_teachers(opt: Mapping[str, Any]) -> TeacherEnsemble:
    """Build the teachers (and aggregator) of a checked `distillation:` block, with their weights, on the CPU.

    Args:
        opt: All options of the experiment.

    Raises:
        UserError: weights do not fit, or the aggregator was trained for other teachers or another order.
    """
    block = opt['distillation']
    members, inputs = {}, {}
    for i, teacher in enumerate(block['teachers']):
        name = teacher['name']
        network = build_network_at(f'distillation.teachers[{i}].network', teacher['network'])
        if teacher.get('path') is not None:
            load_weights(network, teacher['path'], teacher.get('param_key'), f'teacher {name}')
        elif not getattr(network, 'brings_weights', False):
            raise UserError(
                f'distillation.teachers[{i}].path: missing; {teacher["network"]["type"]} brings no weights.'
            )
        multiple = getattr(network, 'multiple', window_of(teacher['network']))
        tapped = _tapped(block, name)
        points = {feature: pair['teacher'] for feature, pair in tapped.items()}
        changes = {
            feature: partial(shrink, how=pair['shrink'], factor=int(opt['scale']))
            for feature, pair in tapped.items()
            if pair.get('shrink')
        }
        members[name] = FrozenNetwork(network, multiple, points, changes)
        inputs[name] = teacher.get('input', 'lq')
    return TeacherEnsemble(members, inputs, _aggregator(block.get('aggregator'), list(members)))


def _tapped(block: Mapping[str, Any], teacher: str) -> dict[str, Any]:
    features = block.get('features') or {}
    only = len(block['teachers']) == 1
    return {name: pair for name, pair in features.items() if only or pair['from'] == teacher}


def _aggregator(opt: Mapping[str, Any] | None, teachers: list[str]) -> FrozenNetwork | None:
    if opt is None:
        return None
    network = build_network_at('distillation.aggregator.network', opt['network'])
    content = load_weights(network, opt['path'], opt.get('param_key'), 'aggregator')
    check_trained_for(content, teachers, opt['path'])
    return FrozenNetwork(network)


def check_trained_for(content: Mapping[str, Any], teachers: list[str], path: str) -> None:
    """Refuse an aggregator's checkpoint that was trained for other teachers, or for another order of them.

    Args:
        content: Of the checkpoint; stage 1 stores the teachers' names in it.
        teachers: Names of the teachers at hand, in order.
        path: Of the checkpoint, for messages.

    Raises:
        UserError: the names or their order differ.
    """
    trained_for = content.get('teachers')
    if trained_for is None:
        get_root_logger().warning(f'{path} does not say for which teachers it was trained; taken as {teachers}.')
    elif list(trained_for) != teachers:
        raise UserError(
            f'the aggregator {path!r} was trained for the teachers {list(trained_for)}, in this order; '
            f'`distillation.teachers` names {teachers}. Use the same teachers, names and order as in stage 1.'
        )
