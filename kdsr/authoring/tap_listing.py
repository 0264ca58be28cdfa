"""`kdsr taps`: the points that can be tapped in student and teachers, and those that the papers use."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product, zip_longest
from math import gcd, prod
from typing import Any

import torch
from torch import Tensor, nn

import kdsr.archs  # noqa: F401 - registers the networks
from kdsr import options, plugins
from kdsr.authoring.paper_points import STAGES, find_paper_points
from kdsr.distillation.building import build_network_at
from kdsr.distillation.feature_tap import INPUT, FeatureTap
from kdsr.errors import UserError
from kdsr.experiment import Experiment, check_networks, read_experiment, window_of
from kdsr.networks.facts import find_input_channels

SMALLEST_SIDE = 16  # of the low-resolution input; below that some networks' attentions have nothing to pool
STUDENT = 'student'
LEGEND = (
    'early, middle, late: the points of FAKD, LSFD and FACD. `path:input` is what goes into a module.\n'
    'copied: the network changes this tensor in place later; a tap keeps a copy from before the change.'
)


@dataclass(frozen=True)
class Tappable:
    """A network to look into.

    Attributes:
        name: 'student' or the teacher's.
        where: Key of its options, for messages.
        network: In eval mode.
        multiple: What its input's sides must be multiples of.
        magnified: How many times larger than a low-resolution image its input is.
        channels: Of its input.
    """

    name: str
    where: str
    network: nn.Module
    multiple: int
    magnified: int = 1
    channels: int = 3


@dataclass(frozen=True)
class Tapped:
    """What can be tapped in one network.

    Attributes:
        title: Headline, for example ``teacher rcan (RCAN)``.
        shapes: Module path to the (C, h, w) of its output, in the order in which modules run.
        copied: Paths whose tensors are changed in place later.
        points: 'early', 'middle', 'late' to the papers' point.
    """

    title: str
    shapes: dict[str, tuple[int, ...]]
    copied: set[str]
    points: dict[str, str]


def list_taps(option_file: str, overrides: Sequence[str] = ()) -> str:
    """Return a text with every module path of student and teachers, and the `features:` block to paste.

    The networks are built with random weights and run once on a small image; the weights' files are not needed.

    Args:
        option_file: YAML with `network_g`, `distillation.teachers`, or both.
        overrides: As after `--force_yml`.

    Raises:
        UserError: the file or a network's options are wrong, or there is no network in it.
    """
    opt = options.load(option_file, overrides)
    experiment = read_experiment(opt)
    plugins.import_named(experiment.imports)
    check_networks(opt, option_file)
    candidates = _build_candidates(experiment)
    if len({candidate.name for candidate in candidates}) < len(candidates):
        raise UserError(f"{option_file}: two teachers have the same name, or one is called '{STUDENT}'.")
    side = _find_common_side([candidate.multiple for candidate in candidates])
    networks = {candidate.name: explore(candidate, side) for candidate in candidates}
    parts = [_format_side_by_side(list(networks.values())), LEGEND]
    if STUDENT in networks and len(networks) > 1:
        parts.append(_format_features_block(networks.pop(STUDENT), networks))
    else:
        parts.append('With `network_g` and `distillation.teachers` in the file, the block to paste would stand here.')
    return '\n\n'.join(parts)


def _build_candidates(experiment: Experiment) -> list[Tappable]:
    """Build the network that is trained, if the file has one, and the teachers."""
    trained = [network for network in experiment.networks if network.path == ('network_g',)]
    return [
        build_candidate(
            name=network.name if network.frozen else STUDENT,
            where=network.where,
            network_opt=network.opt,
            magnified=network.magnified,
            channels=network.channels if network.input == 'teacher_images' else None,
        )
        for network in (*trained, *experiment.teachers)
    ]


def build_candidate(
    name: str, where: str, network_opt: Mapping[str, Any], magnified: int = 1, channels: int | None = None
) -> Tappable:
    """Build a network with random weights (a `Spandrel` with its own), without touching the random numbers of others.

    Args:
        name: 'student' or the teacher's.
        where: Key of its options, for messages.
        network_opt: Its options.
        magnified: How many times larger than a low-resolution image its input is.
        channels: Of its input; those of its first convolution when None.

    Raises:
        UserError: the options do not fit the network.
    """
    with torch.random.fork_rng(devices=[]):
        network = build_network_at(where, network_opt).eval()
    multiple = int(getattr(network, 'multiple', window_of(network_opt)))
    return Tappable(name, where, network, multiple, magnified, channels or find_input_channels(network, network_opt))


def _find_common_side(multiples: Sequence[int]) -> int:
    """Return a side that all networks take: two windows, for tokens of one could pass for those of the image."""
    least = max([SMALLEST_SIDE, *(2 * multiple for multiple in multiples)])
    common = 1
    for multiple in multiples:
        common = common * multiple // gcd(common, multiple)
    return -(-least // common) * common


@torch.no_grad()
def explore(candidate: Tappable, side: int | None = None) -> Tapped:
    """Run a network a few times on a small image to find the points that can be tapped.

    Args:
        candidate: The network.
        side: Of the low-resolution image; the smallest that suits the network when None.

    Raises:
        UserError: the network takes no images.
    """
    network = candidate.network
    lq_side = side or _find_common_side([candidate.multiple])
    side = lq_side * candidate.magnified
    image = torch.linspace(0, 1, side * side).view(1, 1, side, side).repeat(1, candidate.channels, 1, 1)
    ran = _run(network, image, candidate.where)
    shapes, copied = _probe(network, image, ran)
    grows = [path for path, size in ran.items() if shapes[path][-1] > size >= lq_side]
    points = find_paper_points(network, list(ran), grows)
    inputs, copied_inputs = _probe(network, image, [p for p in points.values() if p.endswith(INPUT)])
    without_upsampler = find_paper_points(network, list(ran))
    points = _keep_low_resolution(points, without_upsampler, {**shapes, **inputs}, lq_side)
    inputs = {point: shape for point, shape in inputs.items() if point in points.values()}
    title = candidate.name if candidate.name == STUDENT else f'teacher {candidate.name}'
    return Tapped(f'{title} ({type(network).__name__})', {**shapes, **inputs}, copied | copied_inputs, points)


def _keep_low_resolution(
    points: Mapping[str, str], others: Mapping[str, str], shapes: Mapping[str, tuple[int, ...]], side: int
) -> dict[str, str]:
    """Keep the points whose maps have the size of the low-resolution image; losses compare no others.

    An upsampler that runs twice (MSRResNet at x4) shows its second, larger input; the last block then stands for it.

    Args:
        points: Stage to point.
        others: The same, had the network no upsampler.
        shapes: Point to the (C, h, w) of its map.
        side: Of the low-resolution image.
    """
    kept: dict[str, str] = {}
    for stage in points:
        for point in (points[stage], others.get(stage, '')):
            if shapes.get(point, ())[1:] == (side, side) and point not in kept.values():
                kept[stage] = point
                break
    return kept or dict(points)  # a network that enlarges its input first (VDSR) has none


def _probe(network: nn.Module, image: Tensor, points: Iterable[str]) -> tuple[dict[str, tuple[int, ...]], set[str]]:
    """Return the shapes at the points, and which of these tensors the network changes in place later."""
    tap = FeatureTap(network, {point: point for point in points})
    tap.calibrate(lambda: network(image))
    with tap as features:
        network(image)
    return {point: tuple(feature.shape[1:]) for point, feature in features.items()}, set(tap.copied)


def _run(network: nn.Module, image: Tensor, where: str) -> dict[str, int]:
    """Return the modules that return a map or the tokens of the whole image, with the width of their input."""
    ran: dict[str, int] = {}

    def hook(path: str) -> Callable[..., None]:
        def note(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            if isinstance(output, Tensor) and _is_feature(output, image):
                first = args[0] if args and isinstance(args[0], Tensor) and args[0].ndim == 4 else None
                ran[path] = 0 if first is None else first.shape[-1]

        return note

    handles = [module.register_forward_hook(hook(path)) for path, module in network.named_modules() if path]
    try:
        network(image)
    except (ValueError, RuntimeError) as error:
        raise UserError(f'{where}: does not take an image of the shape {tuple(image.shape)}: {error}') from None
    finally:
        for handle in handles:
            handle.remove()
    return ran


def _is_feature(output: Tensor, image: Tensor) -> bool:
    if output.shape[0] != 1:
        return False
    return output.ndim == 4 or (output.ndim == 3 and output.shape[1] == prod(image.shape[-2:]))


def _format_side_by_side(networks: Sequence[Tapped]) -> str:
    columns = [[network.title, *_format_lines(network)] for network in networks]
    widths = [max(map(len, column)) for column in columns]
    rows = zip_longest(*columns, fillvalue='')
    return '\n'.join('  | '.join(f'{c:<{w}}' for c, w in zip(row, widths)).rstrip() for row in rows)


def _format_lines(network: Tapped) -> list[str]:
    """Return a line for all paths that differ in numbers only; the papers' points have lines of their own."""
    marks: dict[str, str] = {}
    for stage, point in network.points.items():
        marks[point] = f'{marks[point]}, {stage}' if point in marks else stage
    groups: dict[Any, list[str]] = {}
    for path, shape in network.shapes.items():
        note = ', '.join(filter(None, (marks.get(path), 'copied' if path in network.copied else '')))
        key = (re.sub(r'\d+', '*', path), 'x'.join(map(str, shape)), note)
        groups.setdefault(key, []).append(path)
    cells = [(name, size, note) for (_, size, note), paths in groups.items() for name in _shorten_paths(paths)]
    names, sizes = (max(len(cell[i]) for cell in cells) if cells else 0 for i in (0, 1))
    return [f'{name:<{names}}  {size:<{sizes}}  {note}'.rstrip() for name, size, note in cells]


def _shorten_paths(paths: Sequence[str]) -> list[str]:
    """Return ``body.{0..3,5}.conv`` for paths that differ in numbers; the paths themselves where that says too much."""
    numbers = [sorted(set(column)) for column in zip(*([int(n) for n in re.findall(r'\d+', p)] for p in paths))]
    if prod(len(column) for column in numbers) != len(paths):
        return list(paths)
    ranges = iter([_format_ranges(column) for column in numbers])
    return [re.sub(r'\d+', lambda match: next(ranges), paths[0])]


def _format_ranges(numbers: Sequence[int]) -> str:
    parts: list[list[int]] = []
    for number in numbers:
        if parts and number == parts[-1][1] + 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    text = ','.join(str(a) if a == b else f'{a}..{b}' for a, b in parts)
    return text if len(numbers) == 1 else f'{{{text}}}'


def _format_features_block(student: Tapped, teachers: Mapping[str, Tapped]) -> str:
    block = options.dump({'features': _choose_pairs(student, teachers)})
    return 'To paste below `distillation:`\n\n' + '\n'.join(f'  {line}' for line in block.splitlines())


def _choose_pairs(student: Tapped, teachers: Mapping[str, Tapped]) -> dict[str, dict[str, str]]:
    features: dict[str, dict[str, str]] = {}
    for (name, teacher), stage in product(teachers.items(), STAGES):
        if stage in student.points and stage in teacher.points:
            pair = {'student': student.points[stage], 'teacher': teacher.points[stage]}
            if student.shapes[pair['student']][1:] != teacher.shapes[pair['teacher']][1:]:
                continue  # losses compare maps of one size
            only = len(teachers) == 1
            features[stage if only else f'{name}_{stage}'] = pair if only else {**pair, 'from': name}
    return features


def propose_features(opt: Mapping[str, Any], option_file: str) -> dict[str, dict[str, str]]:
    """Return the `features:` block with the points that the papers compare, early to late.

    Args:
        opt: Options with `network_g` and `distillation.teachers`.
        option_file: Where they come from, for messages.

    Raises:
        UserError: see :func:`list_taps`.
    """
    check_networks(opt, option_file)
    candidates = _build_candidates(read_experiment(opt))
    side = _find_common_side([candidate.multiple for candidate in candidates])
    networks = {candidate.name: explore(candidate, side) for candidate in candidates}
    return _choose_pairs(networks.pop(STUDENT), networks)
