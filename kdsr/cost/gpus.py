"""What common GPUs can do at most, by their vendor's data sheets (`gpus.csv`)."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from kdsr.cost.operation_counter import CONVOLUTION, HALF
from kdsr.errors import UserError, did_you_mean

FILE = Path(__file__).with_name('gpus.csv')


@dataclass(frozen=True)
class Gpu:
    """A graphics card.

    Attributes:
        name: Of the card.
        memory: Bytes.
        bandwidth: Bytes a second.
        single: FLOP a second in fp32.
        tensor: FLOP a second of convolutions that PyTorch hands to tensor cores (TF32) although they are fp32; those of
            `single` where the card has none.
        half: FLOP a second of tensor cores in fp16 and bf16, sums in fp32, nothing sparse.
        bf16: Whether it has bf16.
        source: Where the numbers are from.
    """

    name: str
    memory: int
    bandwidth: float
    single: float
    tensor: float
    half: float
    bf16: bool
    source: str

    def peak(self, kind: str) -> float:
        """Return the FLOP a second of a kind of operation, see :class:`kdsr.cost.operation_counter.Operation`.

        Convolutions in fp32 are given to the tensor cores by PyTorch's defaults, matrix products are not.
        """
        return {CONVOLUTION: self.tensor, HALF: self.half}.get(kind, self.single)


@lru_cache(maxsize=1)
def known_gpus() -> tuple[Gpu, ...]:
    """Return all cards of the table."""
    with FILE.open(encoding='utf-8', newline='') as file:
        return tuple(
            Gpu(
                r['name'], int(r['memory_gib']) << 30, 1e9 * float(r['bandwidth_gb_s']), 1e12 * float(r['fp32_tflops']),
                1e12 * float(r['tf32_tflops'] or r['fp32_tflops']), 1e12 * float(r['half_tflops']), r['bf16'] == 'yes',
                r['source'],
            )
            for r in csv.DictReader(file)
        )  # fmt: skip


def find_gpus(names: Sequence[str]) -> list[Gpu]:
    """Return the cards of these names, spelt with or without spaces and capitals; all when empty.

    Raises:
        UserError: a name is not in the table, or fits several cards.
    """
    found: list[Gpu] = []
    for name in names:
        fitting = [gpu for gpu in known_gpus() if _plain(gpu.name) == _plain(name)]
        fitting = fitting or [gpu for gpu in known_gpus() if _plain(gpu.name).startswith(_plain(name))]
        if len(fitting) != 1:
            known = [gpu.name for gpu in known_gpus()]
            several = f'it may be {" or ".join(gpu.name for gpu in fitting)}' if fitting else 'its data are not here'
            hint = did_you_mean(name, known)
            raise UserError(f'--gpu {name!r}: {several}.{hint} Known are: {", ".join(known)}.')
        found += fitting
    return list(dict.fromkeys(found)) or list(known_gpus())


def _plain(name: str) -> str:
    return ''.join(name.lower().replace('nvidia', '').replace('geforce', '').replace('-', '').split())
