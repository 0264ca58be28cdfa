"""The number and the seeds of each training sample, and the seeds of each step."""

import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from basicsr.data.data_sampler import EnlargedSampler

from kdsr.lifecycle.pipeline import update_learning_rate
from kdsr.lifecycle.sampling import NumberedSampler, SeededSamples
from kdsr.lifecycle.seeding import derive_seeds


def draw(processes, rank, epoch, images=6, ratio=2, trained=0):
    """Return the (index, number) pairs of one process in one epoch."""
    sampler = EnlargedSampler(range(images), processes, rank, ratio)
    sampler.set_epoch(epoch)
    numbered = NumberedSampler(sampler)
    numbered.trained = {epoch: trained}
    return list(numbered)


def test_samples_are_numbered_through_all_epochs_of_a_run():
    assert [number for epoch in (0, 1, 2) for _, number in draw(1, 0, epoch)] == list(range(36))


@pytest.mark.parametrize('epoch', [0, 1])
def test_two_processes_give_each_sample_the_number_that_one_process_gives_it(epoch):
    first, second = (draw(2, rank, epoch) for rank in (0, 1))
    assert [sample for pair in zip(first, second) for sample in pair] == draw(1, 0, epoch)


def test_a_resumed_epoch_goes_on_after_its_trained_samples():
    assert draw(1, 0, 1, trained=5) == draw(1, 0, 1)[5:]
    assert draw(2, 1, 1, trained=2) == draw(2, 1, 1)[2:]


def test_seeds_depend_on_every_part_of_their_purpose_and_differ_between_generators():
    purposes = [(1, 'sample', 0), (1, 'sample', 1), (2, 'sample', 0), (1, 'step', 0), (1, 'step', 0, 1)]
    seeds = [seed for purpose in purposes for seed in derive_seeds(*purpose)]
    assert len(set(seeds)) == 2 * len(purposes)
    assert all(0 <= seed < 2**32 for seed in seeds)
    assert derive_seeds(1, 'sample', 0) == derive_seeds(1, 'sample', 0)


class Draws:
    """A training set whose samples are three random numbers."""

    def __len__(self):
        return 4

    def __getitem__(self, index):
        return random.random(), np.random.rand(), torch.rand(1).item()


def test_what_a_sample_draws_depends_on_its_number_and_the_seed_only():
    samples = SeededSamples(Draws(), seed=1)
    first = samples[0, 7]
    random.seed(0)
    torch.manual_seed(0)
    np.random.seed(0)
    assert samples[3, 7] == first
    for other in (samples[0, 8], SeededSamples(Draws(), seed=2)[0, 7]):
        assert all(a != b for a, b in zip(first, other))


def draw_in_step(iteration, rank=0, seed=1):
    """Return what Python, NumPy and PyTorch draw in a step."""
    model = SimpleNamespace(opt={'manual_seed': seed, 'rank': rank}, schedulers=[])
    update_learning_rate(model, iteration)
    return random.random(), np.random.rand(), torch.rand(1).item()


def test_what_a_step_draws_depends_on_the_seed_the_process_and_the_iteration():
    first = draw_in_step(3)
    torch.rand(7)
    assert draw_in_step(3) == first
    for other in (draw_in_step(4), draw_in_step(3, rank=1), draw_in_step(3, seed=2)):
        assert all(a != b for a, b in zip(first, other))
