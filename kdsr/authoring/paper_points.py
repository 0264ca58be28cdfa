"""Which three feature maps the papers compare, in the networks they used and in others."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from torch import nn

from kdsr.distillation.feature_tap import INPUT

STAGES = ('early', 'middle', 'late')
GROUPS_OF_FAKD = {('RCAN', 10): (2, 6), ('SAN', 20): (6, 13)}  # type, groups: not the rule for other networks
LAST_POINTS = {
    'EDSR': 'upsample:input',
    'RCAN': 'upsample:input',
    'SwinIR': 'conv_after_body',
    'SAN': 'non_local',
}


def paper_points(network: nn.Module, ran: Sequence[str], grows: Sequence[str] = ()) -> dict[str, str]:
    """Return the three points that FAKD, LSFD and FACD compare (`early`, `middle`, `late`).

    EDSR, RCAN, SAN and SwinIR have theirs from FAKD's code or by its rule. In other networks the n blocks are split
    into three parts, with the last block of the first two as points; the third is what goes into the upsampler, or the
    last block where there is none.

    Args:
        network: Any network.
        ran: The modules whose output can be tapped, in the order in which they finish.
        grows: Those of them whose output is larger than their input.

    Returns:
        Nothing where no row of blocks is found.
    """
    inner, prefix = _unwrapped(network)
    blocks = _trunk(inner, set(ran), prefix)
    if not blocks:
        return {}
    kind, count = type(inner).__name__, len(blocks)
    first, second = GROUPS_OF_FAKD.get((kind, count), (count // 3 - 1, 2 * count // 3 - 1))
    last = f'{prefix}{LAST_POINTS.get(kind, "")}'
    if last.split(INPUT)[0] not in ran:
        after = set(ran[ran.index(blocks[-1]) + 1 :])
        upsamplers = [path for path in grows if path in after and not blocks[-1].startswith(f'{path}.')]
        last = f'{min(upsamplers, key=_depth)}{INPUT}' if upsamplers else blocks[-1]
    points = dict(zip(STAGES, (blocks[max(first, 0)], blocks[max(second, 0)], last)))
    seen: set[str] = set()  # with two blocks the first two points are one
    return {stage: p for stage, p in points.items() if not (p in seen or seen.add(p))}  # type: ignore[func-returns-value]


def _unwrapped(network: nn.Module) -> tuple[nn.Module, str]:
    """Return the network inside wrappers such as `Spandrel` and PISR's teacher, and what its paths begin with."""
    children = list(network.named_children())
    if [name for name, _ in children] == ['encoder', 'decoder']:
        del children[0]
    if len(children) != 1:
        return network, ''
    name, child = children[0]
    inner, prefix = _unwrapped(child)
    return inner, f'{name}.{prefix}'


def _depth(path: str) -> int:
    return path.count('.')


def _trunk(network: nn.Module, tappable: set[str], prefix: str = '') -> list[str]:
    """Return the paths of the blocks one after the other: the heaviest row of like modules near the top."""
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
        kind = max(kinds, key=lambda k: kinds[k], default=None)  # the authors' EDSR ends its row with a convolution
        candidates.append([p for p in row if p in tappable and type(modules[p]) is kind])
    candidates = [row for row in candidates if len(row) > 1]
    if candidates:
        return max(candidates, key=lambda row: sum(_weight(modules[p]) for p in row))
    heaviest = max(children, key=lambda path: _weight(children[path]), default=None)
    return _trunk(children[heaviest], tappable, f'{heaviest}.') if heaviest else []


def _weight(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())
