"""The option files of a method, and the networks in them."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable
from pathlib import PurePosixPath

from kdsr.methods.table import Method
from kdsr.options.shipped import expand_braces, list_shipped_names

# Network in the name of a file, to its name; in the order of the tables.
_NETWORKS = {
    'swinir': 'SwinIR', 'rcan': 'RCAN', 'edsr': 'EDSR', 'san': 'SAN', 'fsrcnn': 'FSRCNN', 'fsrcnn_l': 'FSRCNN-L',
    'vdsr': 'VDSR', 'idn': 'IDN', 'carn': 'CARN', 'rfdn': 'RFDN', 'rfdn_l': 'RFDN-L', 'e_rfdn': 'E-RFDN',
}  # fmt: skip
_TRAINED = re.compile(rf'(?:^|_)({"|".join(sorted(_NETWORKS, key=len, reverse=True))})(?:_finetune)?_x(\d)\.yml$')


def list_files(patterns: Iterable[str]) -> list[str]:
    """Return the names of the shipped option files that match one of the patterns."""
    plain = [whole for pattern in patterns for whole in expand_braces(pattern)]
    return [name for name in list_shipped_names() if any(fnmatch.fnmatchcase(name, pattern) for pattern in plain)]


def describe_networks(method: Method) -> str:
    """Return the networks and scales that a method has option files for: 'RCAN, EDSR at x2, x3, x4'."""
    scales: dict[str, set[str]] = {}
    for name in list_files(method.runs):
        found = _TRAINED.search(PurePosixPath(name).name)
        if found:
            scales.setdefault(found[1], set()).add(found[2])
    together: dict[tuple[str, ...], list[str]] = {}
    for network in filter(scales.__contains__, _NETWORKS):
        together.setdefault(tuple(sorted(scales[network])), []).append(_NETWORKS[network])
    return '; '.join(f'{", ".join(names)} at {", ".join(f"x{s}" for s in at)}' for at, names in together.items())


def list_kinds_of_files(method: Method) -> list[tuple[str, tuple[str, ...]]]:
    """Return the kinds of option files that a method has, each with its patterns."""
    kinds = [
        ('the runs, one stage after the other' if method.staged else 'the runs', method.runs),
        ('the students alone', method.alone),
        (f'ablations: {method.ablated}', method.ablations),
    ]
    return [(kind, patterns) for kind, patterns in kinds if patterns]
