"""One network that can be scored on test sets, with its weights."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import nn

from kdsr.data.benchmark_sets import BenchmarkSet
from kdsr.errors import UserError
from kdsr.experiment import window_of
from kdsr.networks.facts import find_input_channels, scale_of


@dataclass(frozen=True)
class Candidate:
    """One network at one scale.

    Attributes:
        name: In the tables.
        scale: S.
        network: With its weights, on the CPU; None for MATLAB's bicubic.
        network_opt: Its options.
        source: File of its weights.
        fingerprint: Hash of that file.
        multiple: What the sides of its input are padded to be multiples of.
        luminance: It takes one channel, Y.
        quadrants: Test in four quarters, or for which sets.
        sets: Those that its option file names.
        input: 'lq', or what a privileged teacher sees: 'gt', or 'lq_clean', the bicubic LR image of the ground truth.
    """

    name: str
    scale: int
    network: nn.Module | None = None
    network_opt: Mapping[str, Any] = field(default_factory=dict)
    source: str = "MATLAB's imresize"
    fingerprint: str = ''
    multiple: int = 1
    luminance: bool = False
    quadrants: bool | Sequence[str] = False
    sets: tuple[BenchmarkSet, ...] = ()
    input: Literal['lq', 'lq_clean', 'gt'] = 'lq'


def hash_file(path: str) -> str:
    """Return the SHA-256 of a file."""
    with open(os.path.expanduser(path), 'rb') as file:
        return hashlib.sha256(file.read()).hexdigest()


def make_candidate(label: str, network: nn.Module, network_opt: Mapping[str, Any], path: str) -> Candidate:
    """Describe a network for a benchmark.

    Args:
        label: Its name in the tables.
        network: With its weights.
        network_opt: Its options.
        path: File of its weights.

    Raises:
        UserError: its input is neither RGB nor luminance.
    """
    channels = find_input_channels(network, network_opt)
    if channels not in (1, 3):
        raise UserError(f'{label}: its input has {channels} channels; only RGB and luminance can be tested.')
    return Candidate(
        name=label,
        scale=scale_of(network, network_opt),
        network=network,
        network_opt=network_opt,
        source=path,
        fingerprint=hash_file(path),
        multiple=int(getattr(network, 'multiple', window_of(network_opt))),
        luminance=channels == 1,
    )
