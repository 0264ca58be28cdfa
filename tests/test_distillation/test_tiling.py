from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from kdsr.distillation.outputs import Batch
from kdsr.distillation.tiling import blending_weights, run_tiled, self_ensemble, tile_spans


class Local(nn.Module):
    """Looks 3 pixels far and enlarges by 2; notes what it is shown."""

    def __init__(self):
        super().__init__()
        self.convs = nn.Sequential(*[nn.Conv2d(4 if i else 3, 4, 3, padding=1) for i in range(3)])
        self.shown = []

    def forward(self, image):
        self.shown.append(tuple(image.shape[-2:]))
        return F.pixel_shuffle(self.convs(image).repeat(1, 3, 1, 1), 2)


@pytest.fixture
def batch():
    return Batch(torch.rand(1, 3, 45, 70), torch.rand(1, 3, 90, 140))


@torch.no_grad()
def test_tiles_of_a_local_network_are_the_whole_image(batch):
    network = Local()
    whole = network(batch.lq)
    tiled = run_tiled(lambda b: network(b.lq), batch, tile=16, overlap=6)
    assert torch.allclose(tiled, whole, atol=1e-6)
    assert len(network.shown) == 1 + 3 * 5
    assert max(max(size) for size in network.shown[1:]) <= 16 + 12
    short = run_tiled(lambda b: network(b.lq), batch, tile=16, overlap=2)
    assert not torch.allclose(short, whole, atol=1e-4)


@torch.no_grad()
def test_the_ground_truth_is_cut_at_the_same_place(batch):
    gt = F.interpolate(batch.lq, scale_factor=2)
    tiled = run_tiled(lambda b: F.interpolate(b.lq, scale_factor=2) - b.gt, Batch(batch.lq, gt), 16, 4)
    assert tiled.abs().max() == 0


@torch.no_grad()
def test_tiles_that_disagree_are_blended_without_a_jump():
    tiled = run_tiled(
        lambda b: torch.full_like(b.lq, b.lq[..., 0].mean() > 0), Batch(torch.arange(64.0).expand(1, 1, 64, 64)), 32, 16
    )
    row = tiled[0, 0, 0]
    assert row[:24].eq(0).all()
    assert row[40:].eq(1).all()
    torch.testing.assert_close(row[24:40], (torch.arange(16) + 0.5) / 16)


@pytest.mark.parametrize(
    ('side', 'tile', 'overlap', 'multiple'),
    [
        (45, 16, 6, 1),
        (45, 16, 6, 4),
        (339, 128, 60, 8),
        (339, 128, 64, 8),
        (64, 64, 4, 1),
        (65, 64, 32, 16),
        (7, 2, 1, 1),
    ],
)
def test_tiles_cover_a_side_and_start_at_windows(side, tile, overlap, multiple):
    spans = tile_spans(side, tile, overlap, multiple)
    assert [p for span in spans for p in range(*span.part)] == list(range(side))
    for part, seen in spans:
        assert seen[0] % multiple == 0
        assert seen[1] % multiple == 0 or seen[1] == side
        assert seen[0] <= max(0, part[0] - overlap)
        assert seen[1] >= min(side, part[1] + overlap)
    weights = blending_weights(spans, side, overlap, scale=3)
    torch.testing.assert_close(weights.sum(0), torch.ones(3 * side, dtype=torch.float64))
    for (_, (start, end)), weight in zip(spans, weights):
        assert weight[: 3 * start].eq(0).all()
        assert weight[3 * end :].eq(0).all()


@torch.no_grad()
def test_the_self_ensemble_is_the_mean_of_eight_turned_answers(batch):
    network = Local()
    answers = []
    for quarter, mirrored in itertools.product(range(4), (False, True)):  # the same eight, named otherwise
        image = torch.rot90(batch.lq.flip(-1) if mirrored else batch.lq, quarter, (-2, -1))
        answer = torch.rot90(network(image), -quarter, (-2, -1))
        answers.append(answer.flip(-1) if mirrored else answer)
    ensemble = self_ensemble(lambda b: network(b.lq), batch)
    torch.testing.assert_close(ensemble, torch.stack(answers).mean(0))
    turned = self_ensemble(lambda b: network(b.lq), Batch(batch.lq.mT.flip(-2)))
    torch.testing.assert_close(turned, ensemble.mT.flip(-2))


@torch.no_grad()
def test_the_self_ensemble_turns_the_ground_truth_too(batch):
    gt = F.interpolate(batch.lq, scale_factor=2)
    assert self_ensemble(lambda b: F.interpolate(b.lq, scale_factor=2) - b.gt, Batch(batch.lq, gt)).abs().max() == 0
