"""Training samples that depend only on the seed and on their number in the order of the whole run.

So a run can be resumed in the middle of an epoch, and the number of loader processes makes no difference.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from kdsr.lifecycle.bad_samples import NamedSamples
from kdsr.lifecycle.seeding import derive_seeds, generators_lock


class SeededSamples(NamedSamples):
    """A training set that seeds the random numbers of each sample by the number of the sample.

    Args:
        samples: The training set.
        seed: `manual_seed`, the same in every process of a distributed run.
    """

    def __init__(self, samples: Any, seed: int) -> None:
        super().__init__(samples)
        self.seed = seed

    def __getitem__(self, drawn: tuple[int, int]) -> Any:  # type: ignore[override]
        """Return a sample.

        Args:
            drawn: Its index in the training set, and its number in the order of the run.

        Raises:
            BadSampleError: the sample cannot be made.
        """
        index, number = drawn
        seed, numpy_seed = derive_seeds(self.seed, 'sample', number)
        with generators_lock:
            random.seed(seed)
            np.random.seed(numpy_seed)
            if threading.current_thread() is threading.main_thread():  # in a thread, a training step may be drawing
                torch.default_generator.manual_seed(seed)
            return super().__getitem__(index)


class NumberedSampler:
    """The indices that BasicSR's sampler draws, each with its number in the order of the run, from any point on.

    The numbers do not depend on the number of processes, as long as the global batch is the same.

    Args:
        sampler: BasicSR's EnlargedSampler; the pipeline sets its epoch.

    Attributes:
        trained: Epoch to the number of its samples with which this process has already trained.
    """

    def __init__(self, sampler: Any) -> None:
        self.sampler = sampler
        self.trained: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        own, epoch = self.sampler, self.sampler.epoch
        for place, index in enumerate(own):
            if place >= self.trained.get(epoch, 0):
                yield index, epoch * own.total_size + place * own.num_replicas + own.rank
