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
from kdsr.distillation.outputs import Batch, FeaturesOnly, NetworkOutput
from kdsr.distillation.padding import run_padded
from kdsr.distillation.precision import at_least_float32, autocast, laid_out, lay_out
from kdsr.errors import UserError


class FrozenNetwork(nn.Module):
    """A network that stays in eval mode, has no gradients, and takes images of any size.

    Args:
        network: Maps (N, C, h, w) to (N, 3, S*h, S*w), [0, 1].
        multiple: Window size that its input must be a multiple of; 1 for none.
        points: Feature name to tapped module, see :class:`FeatureTap`.
        changes: Feature name to what is made of it before it is compared.
        precision: What convolutions and matrix products are computed in: 'fp32', 'bf16' or 'fp16'.
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
        self.network = lay_out(network, channels_last).requires_grad_(False)
        self.multiple = multiple
        self.tap = FeatureTap(network, points or {})
        self.changes = dict(changes or {})
        self.precision = precision
        self.channels_last = channels_last
        self.device = device
        self.eval()

    def train(self, mode: bool = True) -> FrozenNetwork:
        """Stay in eval mode: stochastic depth in a teacher would make its answers random."""
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
            return FeaturesOnly(self._changed(features))
        with self.tap as features:
            sr = self._run(image)
        return NetworkOutput(sr, self._changed(features))

    @torch.no_grad()
    def encode(self, image: Tensor) -> Tensor:
        """Return what the encoder of an hourglass makes of an image (N, C, S*h, S*w): (N, C', h, w), any range."""
        with autocast(image.device, self.precision):
            code = self.network.encoder(laid_out(image, self.channels_last))  # type: ignore[operator]
        return at_least_float32(code.contiguous())

    def calibrate(self, image: Tensor) -> None:
        """Learn from one run which features have to be copied when they are captured, and which is the last."""
        self.tap.calibrate(lambda: self._run(image))

    def _changed(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        return {**features, **{name: change(features[name]) for name, change in self.changes.items()}}

    def _run(self, image: Tensor) -> Tensor:
        if self.device is not None:
            image = image.to(self.device, non_blocking=True)
        with autocast(image.device, self.precision):
            sr = run_padded(self.network, laid_out(image, self.channels_last), self.multiple)
        return at_least_float32(sr.contiguous() if self.channels_last else sr)


class Decoder(nn.Module):
    """The decoder of an hourglass (PISR), at its own module path, for codes that its encoder made before.

    Args:
        network: Has an `encoder` and a `decoder`.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.decoder = network.decoder

    def forward(self, code: Tensor) -> Tensor:
        """Return the restored image (N, C, S*h, S*w) of a code (N, C', h, w)."""
        restored: Tensor = self.decoder(code)  # type: ignore[operator]
        return restored


class TeacherEnsemble(nn.Module):
    """One or many frozen teachers that answer as one.

    The image of a single teacher is its own; of several, what the aggregator makes of them (MTKD, Sec. 3.2), or their
    mean without one. The features of all teachers stand side by side. Teachers on other devices work at the same time
    as the rest; the answer is on the device of the batch.

    Args:
        members: Teacher name to network, in the order in which the aggregator takes their images.
        inputs: Teacher name to what it is shown, `lq` (the default), `gt` (privileged information), or `cached`, what
            its encoder made of `gt` before.
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

    def to(self, *args: Any, **kwargs: Any) -> TeacherEnsemble:
        """Move the networks; those that have a device of their own go there."""
        for network in (*self.members, self.aggregator):
            if network is not None and network.device is None:
                network.to(*args, **kwargs)
            elif network is not None:
                _move(network)
        return self

    def forward(self, batch: Batch, needs_image: bool = True) -> NetworkOutput:
        """Answer for one batch, without a graph.

        Args:
            batch: What the teachers are shown.
            needs_image: False to run only teachers that are tapped, no further than to their last tapped module; the
                answer then has no `sr`.
        """
        outputs = self._outputs(batch, needs_image)
        features = {name: feature for output in outputs for name, feature in output.features.items()}
        if not needs_image:
            return FeaturesOnly(features)
        images = [output.sr for output in outputs]
        if self.aggregator is not None:
            fused = self.aggregator(torch.cat(images, dim=1)).sr
            return NetworkOutput(fused.to(batch.lq.device), features)
        return NetworkOutput(images[0] if len(images) == 1 else torch.stack(images).mean(dim=0), features)

    def images(self, batch: Batch) -> Tensor:
        """Return the teachers' own images, concatenated over channels: (N, 3*T, S*h, S*w), teacher by teacher."""
        return torch.cat([output.sr for output in self._outputs(batch)], dim=1)

    def encode(self, batch: Batch) -> Tensor:
        """Return what the encoder of the only teacher makes of the ground truth, (N, C', h, w).

        Raises:
            UserError: it is no hourglass.
        """
        (member,) = self.members
        _check_hourglass(member.network, self.names[0])
        return member.encode(self._shown(self.names[0], batch))

    def calibrate(self, batch: Batch) -> None:
        """Learn from one run which features have to be copied when they are captured, and which is the last."""
        for name, member in zip(self.names, self.members):
            member.calibrate(self._shown(name, batch))

    def _outputs(self, batch: Batch, needs_image: bool = True) -> list[NetworkOutput]:
        """Return the answers of the members, on the device of the batch."""
        answers = [member(self._shown(name, batch), needs_image) for name, member in zip(self.names, self.members)]
        outputs = [_on(batch.lq.device, answer) for answer in answers]  # not before every device has its work
        for name, output in zip(self.names, outputs) if needs_image else ():
            if output.sr.shape != outputs[0].sr.shape:
                raise UserError(
                    f'teacher {name!r} gives images of {tuple(output.sr.shape[1:])}, teacher {self.names[0]!r} of '
                    f'{tuple(outputs[0].sr.shape[1:])}: all teachers must have one scale.'
                )
        return outputs

    def _shown(self, name: str, batch: Batch) -> Tensor:
        shown = self.inputs.get(name, 'lq')
        image = getattr(batch, shown)
        if image is None and shown == 'cached':
            raise UserError('`distillation.cache`: the training set delivers no codes (key `code`).')
        if image is None:
            raise UserError(f'teacher {name!r} is shown the ground truth (`input: gt`), but this batch has none.')
        return image


def _move(network: FrozenNetwork) -> None:
    try:
        network.to(network.device)
    except (RuntimeError, AssertionError) as error:  # no such device, or a PyTorch without it
        raise UserError(f'`device: {network.device}` of a teacher cannot be used: {error}') from None


def _on(device: torch.device, output: NetworkOutput) -> NetworkOutput:
    features = {name: feature.to(device) for name, feature in output.features.items()}
    return FeaturesOnly(features) if isinstance(output, FeaturesOnly) else NetworkOutput(output.sr.to(device), features)


def window_of(network_opt: Mapping[str, Any]) -> int:
    """Return the multiple that a network's input sides must have: its `window_size`, given or by default, else 1."""
    return int(argument_of(network_opt, 'window_size') or 1)


def build_teachers(
    opt: Mapping[str, Any],
    from_code: bool = False,
    skeleton: Callable[[str, Mapping[str, Any]], nn.Module] | None = None,
) -> TeacherEnsemble:
    """Build the teachers (and aggregator) of a checked `distillation:` block, with their weights, on the CPU.

    Args:
        opt: All options of the experiment.
        from_code: Of a privileged teacher only the decoder, which is shown what the encoder made before
            (`options.caches_code`).
        skeleton: Builds a network from its key in the YAML and its options instead, where no weights are needed: no
            files are read then.

    Raises:
        UserError: weights do not fit, or the aggregator was trained for other teachers or another order.
    """
    block = opt['distillation']
    _check_devices(opt)
    members, inputs = {}, {}
    for i, teacher in enumerate(block['teachers']):
        name = teacher['name']
        where = f'distillation.teachers[{i}]'
        if skeleton is not None:
            network = skeleton(f'{where}.network', teacher['network'])
        else:
            network = build_network_at(f'{where}.network', teacher['network'])
            if teacher.get('path') is not None:
                load_weights(network, teacher['path'], teacher.get('param_key'), f'teacher {name}')
            elif not getattr(network, 'brings_weights', False):
                raise UserError(f'{where}.path: missing; {teacher["network"]["type"]} brings no weights.')
        multiple = getattr(network, 'multiple', window_of(teacher['network']))
        if from_code:
            _check_hourglass(network, name)
            network = Decoder(network)
        tapped = _tapped(block, name)
        points = {feature: pair['teacher'] for feature, pair in tapped.items()}
        changes = {
            feature: partial(shrink, how=pair['shrink'], factor=int(opt['scale']))
            for feature, pair in tapped.items()
            if pair.get('shrink')
        }
        members[name] = _frozen(network, teacher, multiple, points, changes)
        inputs[name] = 'cached' if from_code else teacher.get('input', 'lq')
    return TeacherEnsemble(members, inputs, _aggregator(block.get('aggregator'), list(members), skeleton))


def _check_hourglass(network: nn.Module, name: str) -> None:
    if not (hasattr(network, 'encoder') and hasattr(network, 'decoder')):
        raise UserError(
            f'teacher {name!r}: with `cache` and `features`, what its encoder makes of the ground truth is cached; '
            f'{type(network).__name__} has no `encoder` and `decoder`. Use PISRTeacher, or `exact: true` under `cache`.'
        )


def _tapped(block: Mapping[str, Any], teacher: str) -> dict[str, Any]:
    features = block.get('features') or {}
    only = len(block['teachers']) == 1
    return {name: pair for name, pair in features.items() if only or pair['from'] == teacher}


def _aggregator(
    opt: Mapping[str, Any] | None,
    teachers: list[str],
    skeleton: Callable[[str, Mapping[str, Any]], nn.Module] | None,
) -> FrozenNetwork | None:
    if opt is None:
        return None
    where = 'distillation.aggregator.network'
    if skeleton is not None:
        return _frozen(skeleton(where, opt['network']), opt)
    network = build_network_at(where, opt['network'])
    content = load_weights(network, opt['path'], opt.get('param_key'), 'aggregator')
    check_trained_for(content, teachers, opt['path'])
    return _frozen(network, opt)


def _frozen(
    network: nn.Module,
    opt: Mapping[str, Any],
    multiple: int = 1,
    points: Mapping[str, str] | None = None,
    changes: Mapping[str, Callable[[Tensor], Tensor]] | None = None,
) -> FrozenNetwork:
    how = {key: opt[key] for key in ('precision', 'channels_last', 'device') if opt.get(key) is not None}
    return FrozenNetwork(network, multiple, points, changes, **how)


def _check_devices(opt: Mapping[str, Any]) -> None:
    networks = (*opt['distillation']['teachers'], opt['distillation'].get('aggregator') or {})
    if opt.get('dist') and any(network.get('device') for network in networks):
        raise UserError(
            '`device` of a teacher is for a run of one process: several would all put their teachers there. '
            'Leave it out; each process then keeps its teachers on its own GPU.'
        )


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
