from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from kdsr.distillation.outputs import Batch
from kdsr.distillation.tiling import Span, run_in_bands, run_tiled, self_ensemble, tile_spans


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
    assert len(network.shown) == 1 + 3 * 4
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
        lambda b: torch.full_like(b.lq, b.lq[..., 0].mean() > 0), Batch(torch.arange(64.0).expand(1, 1, 64, 64)), 16, 16
    )
    row = tiled[0, 0, 0]
    assert row[:24].eq(0).all()
    assert row[40:].eq(1).all()
    torch.testing.assert_close(row[24:40], (torch.arange(16) + 0.5) / 16)


@pytest.mark.parametrize('overlap', [3, 4, 5])
def test_tiles_smaller_than_the_overlap_blend_over_no_more_than_a_tile(overlap):
    image = torch.rand(1, 3, 23, 31)
    shown = []
    tiled = run_tiled(lambda b: shown.append(b) or b.lq, Batch(image), tile=2, overlap=overlap)
    assert len(shown) > 20
    torch.testing.assert_close(tiled, image)


@pytest.mark.parametrize(
    ('side', 'tile', 'overlap', 'multiple'),
    [
        (45, 16, 6, 1),
        (45, 16, 6, 4),
        (66, 16, 5, 4),
        (339, 128, 60, 8),
        (339, 128, 64, 8),
        (73, 64, 4, 1),
        (145, 64, 32, 16),
        (7, 2, 1, 1),
        (9, 1, 3, 1),
        (400, 1, 32, 8),
    ],
)
def test_tiles_cover_a_side_and_start_at_windows(side, tile, overlap, multiple):
    spans = tile_spans(side, tile, overlap, multiple)
    assert [p for span in spans for p in range(*span.part)] == list(range(side))
    assert len(spans) >= 2
    for part, seen in spans:
        assert seen[0] % multiple == 0
        assert seen[0] <= max(0, part[0] - overlap)
        assert seen[1] >= min(side, part[1] + overlap)
        assert part[1] > part[0]
    lengths = {seen[1] - seen[0] for _, seen in spans[:-1]}
    assert len(lengths) == 1
    assert lengths.pop() < max(tile, multiple) + 2 * overlap + multiple


def test_a_side_that_one_tile_reads_is_not_cut():
    assert tile_spans(40, 16, 12, 1) == [Span((0, 40), (0, 40))]
    assert len(tile_spans(41, 16, 12, 1)) == 2


@pytest.mark.parametrize('ramp', [0, 3, 4])
@pytest.mark.parametrize('dtype', [torch.float32, torch.uint8])
def test_bands_follow_one_another_and_blend_over_the_ramp_only(ramp, dtype):
    """Each tile gives its number; away from the cuts nothing else may come out, at the cuts both in proportion."""
    rows, columns = [Span((0, 10), (0, 14)), Span((10, 20), (6, 20))], [Span((0, 8), (0, 12)), Span((8, 16), (4, 16))]
    value = torch.tensor([[0, 90], [30, 120]])

    def run(row, columns):
        return [
            torch.full((1, 2 * (row.seen[1] - row.seen[0]), 2 * (c.seen[1] - c.seen[0])), 0, dtype=dtype)
            + value[rows.index(row), j].to(dtype)
            for j, c in enumerate(columns)
        ]

    bands = list(run_in_bands(run, rows, columns, ramp))
    whole = torch.cat(bands, dim=-2)
    assert whole.shape == (1, 40, 32)
    assert whole.dtype == dtype
    y, x = torch.meshgrid((torch.arange(40) + 0.5) / 2, (torch.arange(32) + 0.5) / 2, indexing='ij')
    down, right = ((p - cut) / max(ramp, 1e-9) + 0.5 for p, cut in ((y, 10), (x, 8)))
    expected = 30 * down.clamp(0, 1) + 90 * right.clamp(0, 1)
    torch.testing.assert_close(whole[0].float(), expected, atol=1e-4 if dtype == torch.float32 else 1.01, rtol=0)
    inner = (down <= 0) | (down >= 1) if ramp else torch.ones_like(y, dtype=torch.bool)
    inner &= (right <= 0) | (right >= 1) if ramp else inner
    assert torch.equal(whole[0][inner].float(), expected[inner])


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
