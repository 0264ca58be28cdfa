"""BasicSR's loader: all its batches, their comparison, and a dataset that ends its process."""

from __future__ import annotations

import os
import random
import signal

import torch
from basicsr.data import build_dataloader, build_dataset
from basicsr.data.data_sampler import EnlargedSampler


def batches(opt, workers=0, epochs=2):
    """All batches of BasicSR's loader, as its training pipeline makes it."""
    random.seed(0)
    dataset = build_dataset(opt)
    loader_opt = {**opt, 'num_worker_per_gpu': workers}
    loader = build_dataloader(dataset, loader_opt, sampler=EnlargedSampler(dataset, 1, 0, 2), seed=0)
    return [batch for _ in range(epochs) for batch in loader]


def assert_same(batches, expected):
    assert len(batches) == len(expected) > 3
    for batch, wanted in zip(batches, expected):
        assert batch.keys() == wanted.keys()
        for key, value in wanted.items():
            same = torch.equal(batch[key], value) if torch.is_tensor(value) else batch[key] == value
            assert same, key
            if torch.is_tensor(value):
                assert batch[key].dtype == value.dtype


class KillsItsProcess(torch.utils.data.Dataset):
    """A dataset that the system ends the process of, at one image."""

    opt, paths = {'name': 'photos'}, [{'lq_path': f'{i}x2.png', 'gt_path': f'{i}.png'} for i in range(8)]

    def __len__(self):
        return 8

    def __getitem__(self, index):
        if index == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return torch.zeros(1)
