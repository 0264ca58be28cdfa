"""Random numbers that a resumed run repeats: nothing random is stored, everything follows from `manual_seed`.

The random numbers of a sample follow from the seed and the number of the sample in the order of the whole run
(`kdsr.lifecycle.sampling`). Those of a training step follow from the seed, the rank of the process and the iteration.
"""

from __future__ import annotations

import hashlib
import random
import threading
from typing import Any

import numpy as np
import torch
from basicsr.utils import set_random_seed

generators_lock = threading.Lock()  # with `prefetch_mode: cpu` a thread makes the samples


def derive_seeds(*purpose: int | str) -> tuple[int, int]:
    """Return two 32-bit numbers that depend on every part of `purpose` and look random."""
    digest = hashlib.blake2b(repr(purpose).encode(), digest_size=8).digest()
    return int.from_bytes(digest[:4], 'little'), int.from_bytes(digest[4:], 'little')


def seed_all(*purpose: int | str) -> None:
    """Seed the generators of Python, NumPy and PyTorch, GPUs included, from what the next random numbers are for."""
    seed, numpy_seed = derive_seeds(*purpose)
    with generators_lock:
        random.seed(seed)
        np.random.seed(numpy_seed)
    torch.default_generator.manual_seed(seed)  # torch.manual_seed takes ten times as long where no GPU is used
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(seed)


def share_seed(opt: dict[str, Any]) -> None:
    """Give all processes of a distributed run the seed of rank 0: without `manual_seed` BasicSR lets each draw its own.

    Args:
        opt: The options of the run; `manual_seed` is replaced.
    """
    seeds = [opt['manual_seed']]
    torch.distributed.broadcast_object_list(seeds, src=0)
    opt['manual_seed'] = seeds[0]
    set_random_seed(opt['manual_seed'] + opt['rank'])
