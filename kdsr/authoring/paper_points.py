"""The three feature maps that the papers compare, in their own networks and in others."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from torch import nn

from kdsr.distillation.feature_tap import INPUT

STAGES = ('early', 'middle', 'late')
GROUPS_OF_FAKD = {('RCAN', 10): (2, 6), ('SAN', 20): (6, 13)}  # (type, groups) that do not follow the rule
LAST_POINTS = {
    'EDSR': 'upsample:input',
    'RCAN': 'upsample:input',
    'SwinIR': 'conv_after_body',
    'SAN': 'non_local',
}


def find_paper_points(network: nn.Module, ran: Sequence[str], grows: Sequence[str] = ()) -> dict[str, str]:
    """Find the three points that FAKD, LSFD and FACD compare (`early`, `middle`, `late`).

    The points of EDSR, RCAN, SAN and SwinIR come from FAKD's code or follow its rule. In other networks the n blocks
    are divided into three parts: the first two points are the last blocks of the first two parts, the third is the
    input of the upsampler, or the last block if there is no upsampler.

    Args:
        network: Any network.
        ran: The modules whose output can be tapped, in the order in which they finish.
        grows: Those of them whose output is larger than their input.

    Returns:
        Stage to tap point; empty if the network has no row of blocks.
    """
    inner, prefix = _unwrap(network)
    growing = [path for path in grows if not prefix.startswith(f'{path}.')]  # not the network inside a wrapper
    tappable = {path for path in ran if path.rpartition('.')[0] not in growing}  # without the parts of an upsampler
    blocks = _find_trunk(inner, tappable, prefix)
    if not blocks:
        return {}
    kind, count = type(inner).__name__, len(blocks)
    first, second = GROUPS_OF_FAKD.get((kind, count), (count // 3 - 1, 2 * count // 3 - 1))
    last = f'{prefix}{LAST_POINTS.get(kind, "")}'
    if last.split(INPUT)[0] not in ran:
        after = set(ran[ran.index(blocks[-1]) + 1 :])
        upsamplers = [path for path in grows if path in after and not blocks[-1].startswith(f'{path}.')]
        last = f'{min(upsamplers, key=_count_dots)}{INPUT}' if upsamplers else blocks[-1]
    points = dict(zip(STAGES, (blocks[max(first, 0)], blocks[max(second, 0)], last)))
    seen: set[str] = set()  # with two blocks the first two points are the same
    return {stage: p for stage, p in points.items() if not (p in seen or seen.add(p))}  # type: ignore[func-returns-value]


def _unwrap(network: nn.Module) -> tuple[nn.Module, str]:
    """Return the network inside wrappers such as `Spandrel` and PISR's teacher, and the prefix of its paths."""
    children = list(network.named_children())
    if [name for name, _ in children] == ['encoder', 'decoder']:
        del children[0]
    if len(children) != 1:
        return network, ''
    name, child = children[0]
    inner, prefix = _unwrap(child)
    return inner, f'{name}.{prefix}'


def _count_dots(path: str) -> int:
    return path.count('.')


def _find_trunk(network: nn.Module, tappable: set[str], prefix: str = '') -> list[str]:
    """Return the paths of the blocks in order: the row of equal modules with the most parameters, near the top.

    The row may be inside the heaviest part of a network: DAT-light has one group of 18 blocks, and a row of three small
    convolutions after it.
    """
    children = {f'{prefix}{name}': child for name, child in network.named_children()}
    rows: dict[str, list[str]] = {}
    for path, child in children.items():
        if isinstance(child, (nn.Sequential, nn.ModuleList)):
            rows.setdefault(path, []).extend(f'{path}.{name}' for name, _ in child.named_children())
        elif re.search(r'\d$', path):  # B1, B2, ... as attributes
            rows.setdefault(re.sub(r'\d+$', '', path), []).append(path)
    modules = {f'{prefix}{name}': module for name, module in network.named_modules() if name}
    candidates = []
    for row in rows.values():
        kinds = Counter(type(modules[p]) for p in row if p in tappable)
        kind = max(kinds, key=lambda k: kinds[k], default=None)  # the row of the authors' EDSR ends with a convolution
        candidates.append([p for p in row if p in tappable and type(modules[p]) is kind])
    heaviest = max(children, key=lambda path: _count_parameters(children[path]), default=None)
    if heaviest is not None:
        candidates.append(_find_trunk(children[heaviest], tappable, f'{heaviest}.'))
    weights = {f'{prefix}{name}': _count_parameters(module) for name, module in network.named_modules() if name}
    rows_of_several = [row for row in candidates if len(row) > 1]
    return max(rows_of_several, key=lambda row: sum(weights[path] for path in row), default=[])


def _count_parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())
