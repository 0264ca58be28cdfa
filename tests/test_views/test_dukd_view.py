import itertools

import numpy as np
import pytest
import torch

from kdsr.distillation.outputs import Batch, NetworkOutput
from kdsr.distillation.views import view_terms
from kdsr.errors import UserError
from kdsr.losses.response_loss import ResponseLoss
from kdsr.views.dukd_view import ZoomIn, ZoomOut, augment, draw_parts, undo
from tests.references import views as reference

EVERY = list(itertools.product([False, True], repeat=4))  # the parts of A: colour, height, width, transposition


def pair(scale=2, size=6, samples=2):
    return Batch(torch.rand(samples, 3, size, size), torch.rand(samples, 3, scale * size, scale * size))


def enlarged(image):
    """A network that commutes with flips, transposition and colour inversion."""
    return image.repeat_interleave(2, -1).repeat_interleave(2, -2)


def lopsided(image):
    """One that does not."""
    return enlarged(image) * torch.linspace(0, 1, 2 * image.shape[-1])


def kd(view, batch, student):
    """The value of a response loss of a view; the teacher is the student itself."""
    losses = torch.nn.ModuleDict({'l_kd': ResponseLoss()})
    teacher = lambda extra: NetworkOutput(student(extra.lq))  # noqa: E731
    return view_terms(view, batch, student, teacher, losses, lambda *_: {})['l_kd']


@pytest.mark.parametrize(('scale', 'count'), [(2, 1), (3, 4), (4, 16)])
def test_zoom_in_takes_blocks_of_the_ground_truth(scale, count):
    batch = pair(scale, samples=2)
    extra = ZoomIn(count).make(batch)
    assert extra.gt is None
    assert extra.lq.shape == (count * 2, 3, 6, 6)
    grid = {
        at: np.stack([reference.block(gt, *at, 6, 6) for gt in batch.gt.numpy()])
        for at in itertools.product(range(scale), repeat=2)
    }
    taken = [at for one in extra.lq.split(2) for at, expected in grid.items() if np.array_equal(one.numpy(), expected)]
    assert len(taken) == len(set(taken)) == count  # none twice, the same for all samples


def test_zoom_in_takes_every_block_in_the_long_run():
    batch = pair(2, samples=1)
    corners = {float(ZoomIn().make(batch).lq[0, 0, 0, 0]) for _ in range(60)}
    assert len(corners) == 4


@pytest.mark.parametrize('scale', [2, 3, 4])
def test_zoom_out_shows_the_downscaled_input_and_its_label(scale):
    whole = np.random.default_rng(0).integers(0, 256, (2, 3, 2 * scale, 2 * scale))
    batch = Batch(torch.from_numpy(whole).float() / 255, torch.zeros(2, 3, 2 * scale**2, 2 * scale**2))
    extra = ZoomOut().make(batch)
    assert torch.equal(extra.gt, batch.lq)
    expected = np.stack([[reference.downscaled(channel, scale) for channel in sample] for sample in whole])
    np.testing.assert_allclose(extra.lq.numpy() * 255, expected, atol=1e-4)


def test_zoom_out_crops_what_does_not_divide():
    whole = np.random.default_rng(0).integers(0, 256, (1, 3, 11, 11))
    batch = Batch(torch.from_numpy(whole).float() / 255, torch.zeros(1, 3, 44, 44))
    extra = ZoomOut().make(batch)
    assert torch.equal(extra.gt, batch.lq[..., :8, :8])
    expected = [reference.downscaled(channel, 4) for channel in whole[0, :, :8, :8]]
    np.testing.assert_allclose(extra.lq[0].numpy() * 255, expected, atol=1e-4)


@pytest.mark.parametrize('drawn', EVERY, ids=str)
def test_augmentation_equals_the_reference_and_is_undone_exactly(drawn):
    images = (torch.rand(2, 3, 5, 5) * 255).round() / 256  # 1 - (1 - x) is exact
    mask = torch.tensor([drawn, [False] * 4]).T
    seen = augment(images, mask)
    np.testing.assert_array_equal(seen[0].numpy(), reference.augmented(images[0].numpy(), *drawn))
    assert torch.equal(seen[1], images[1])
    assert torch.equal(undo(seen, mask), images)


def test_parts_are_drawn_per_sample_and_with_the_given_probability():
    drawn = draw_parts(0.3, 4000, torch.device('cpu'))
    assert drawn.shape == (4, 4000)
    assert ((drawn.float().mean(1) - 0.3).abs() < 0.03).all()
    assert np.abs(np.corrcoef(drawn.numpy()) - np.eye(4)).max() < 0.06  # independent of each other
    assert draw_parts(1, 3, torch.device('cpu')).all()


def test_without_probability_nothing_is_drawn():
    state, images = torch.get_rng_state(), torch.rand(1, 3, 4, 5)
    torch.set_rng_state(state)
    assert draw_parts(0, 7, torch.device('cpu')) is None
    assert augment(images, None) is images
    assert undo(images, None) is images
    assert torch.equal(torch.get_rng_state(), state)


def test_a_network_that_commutes_sees_no_difference():
    batch, view = pair(samples=8), ZoomIn(count=2, consistency=0.5, losses=['l_kd'])
    assert kd(view, batch, enlarged) < 1e-6
    assert kd(view, batch, lopsided) > 0.01
    view.consistency = 0
    assert kd(view, batch, lopsided) == 0


@pytest.mark.parametrize(('call', 'words'), [
    (lambda: ZoomIn(count=5).make(pair()), 'count` must be from 1 to 4'),
    (lambda: ZoomIn(count=0).make(pair()), 'count` must be from 1 to 4'),
    (lambda: ZoomOut().make(Batch(torch.rand(1, 3, 4, 4))), 'this batch has none'),
    (lambda: augment(torch.rand(1, 3, 4, 5), torch.ones(4, 1, dtype=torch.bool)), r'square; they are \(4, 5\)'),
])  # fmt: skip
def test_images_that_do_not_fit_are_told(call, words):
    with pytest.raises(UserError, match=words):
        call()
