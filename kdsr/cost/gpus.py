"""The peak performance of common GPUs, from their vendor's data sheets (`gpus.csv`)."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from kdsr.cost.operation_counter import CONVOLUTION, HALF, Kind
from kdsr.errors import UserError, did_you_mean

FILE = Path(__file__).with_name('gpus.csv')


@dataclass(frozen=True)
class Gpu:
    """A graphics card.

    Attributes:
        name: Name of the card.
        memory: Bytes.
        bandwidth: Bytes per second.
        single: FLOP per second in fp32.
        tensor: FLOP per second of fp32 convolutions, which PyTorch computes on tensor cores in TF32; equal to `single`
            where the card has none.
        half: FLOP per second of tensor cores in fp16 and bf16, with sums in fp32, without sparsity.
        bf16: Whether it supports bf16.
        source: Where the numbers come from.
    """

    name: str
    memory: int
    bandwidth: float
    single: float
    tensor: float
    half: float
    bf16: bool
    source: str

    def peak(self, kind: Kind) -> float:
        """Return the FLOP per second of a kind of operation, see :class:`kdsr.cost.operation_counter.Operation`.

        By default, PyTorch computes fp32 convolutions on tensor cores, but not fp32 matrix products.
        """
        return {CONVOLUTION: self.tensor, HALF: self.half}.get(kind, self.single)


@lru_cache(maxsize=1)
def read_gpus() -> tuple[Gpu, ...]:
    """Return all cards of the table."""
    with FILE.open(encoding='utf-8', newline='') as file:
        return tuple(
            Gpu(
                name=r['name'],
                memory=int(r['memory_gib']) << 30,
                bandwidth=1e9 * float(r['bandwidth_gb_s']),
                single=1e12 * float(r['fp32_tflops']),
                tensor=1e12 * float(r['tf32_tflops'] or r['fp32_tflops']),
                half=1e12 * float(r['half_tflops']),
                bf16=r['bf16'] == 'yes',
                source=r['source'],
            )
            for r in csv.DictReader(file)
        )


def find_gpus(names: Sequence[str]) -> list[Gpu]:
    """Return the cards with these names, or all when empty. Spaces and capitals do not matter.

    Raises:
        UserError: a name is not in the table, or several cards match it.
    """
    found: list[Gpu] = []
    for name in names:
        fitting = [gpu for gpu in read_gpus() if _normalise(gpu.name) == _normalise(name)]
        fitting = fitting or [gpu for gpu in read_gpus() if _normalise(gpu.name).startswith(_normalise(name))]
        if len(fitting) != 1:
            known = [gpu.name for gpu in read_gpus()]
            several = f'matches {" and ".join(gpu.name for gpu in fitting)}' if fitting else 'unknown card'
            hint = did_you_mean(name, known)
            raise UserError(f'--gpu {name!r}: {several}.{hint} Known: {", ".join(known)}.')
        found += fitting
    return list(dict.fromkeys(found)) or list(read_gpus())


def _normalise(name: str) -> str:
    return ''.join(name.lower().replace('nvidia', '').replace('geforce', '').replace('-', '').split())
