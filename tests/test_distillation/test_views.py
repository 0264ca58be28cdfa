import itertools

import numpy as np
import pytest
import torch

from kdsr.distillation.bicubic import bicubic_downscale
from kdsr.distillation.outputs import Batch, NetworkOutput
from kdsr.distillation.views import (
    VIEW_REGISTRY,
    View,
    ZoomIn,
    ZoomOut,
    augment,
    build_view,
    draw_parts,
    undo,
    view_terms,
)
from kdsr.errors import UserError
from kdsr.losses.facd_loss import FACDLoss
from kdsr.losses.fitnet_loss import FitNetLoss
from kdsr.losses.response_loss import ResponseLoss
from tests.references import views as reference

EVERY = list(itertools.product([False, True], repeat=4))  # the parts of A: colour, height, width, transposition


def pair(scale=2, size=6, samples=2):
    return Batch(torch.rand(samples, 3, size, size), torch.rand(samples, 3, scale * size, scale * size))


def losses(**more):
    return torch.nn.ModuleDict({'l_kd': ResponseLoss(), 'l_fit': FitNetLoss(), **more})


def enlarged(image):
    """A network that commutes with flips, transposition and colour inversion."""
    return image.repeat_interleave(2, -1).repeat_interleave(2, -2)


def lopsided(image):
    """One that does not."""
    return enlarged(image) * torch.linspace(0, 1, 2 * image.shape[-1])


def frozen(network):
    return lambda batch: NetworkOutput(network(batch.lq))


# The images.


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
    batch = pair(4, size=11)
    extra = ZoomOut().make(batch)
    assert torch.equal(extra.gt, batch.lq[..., :8, :8])
    torch.testing.assert_close(extra.lq, bicubic_downscale(batch.lq[..., :8, :8], 4))


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


# The terms.


def test_a_network_that_commutes_sees_no_difference():
    batch, view = pair(samples=8), ZoomIn(count=2, consistency=0.5)
    view.losses = ['l_kd']
    value = view_terms(view, batch, enlarged, frozen(enlarged), losses(), lambda *_: {})['l_kd']
    assert value < 1e-6
    value = view_terms(view, batch, lopsided, frozen(lopsided), losses(), lambda *_: {})['l_kd']
    assert value > 0.01
    view.consistency = 0
    assert view_terms(view, batch, lopsided, frozen(lopsided), losses(), lambda *_: {})['l_kd'] == 0


def test_zoom_out_is_compared_with_teacher_and_ground_truth_and_weighted():
    batch = pair()
    small, label = bicubic_downscale(batch.lq, 2), batch.lq
    expected = {
        'l_pix': 0.5 * (enlarged(small) - label).abs().mean(),
        'l_kd': 0.5 * (enlarged(small) - lopsided(small)).abs().mean(),
    }
    view = build_view('views.z', {'type': 'ZoomOut', 'loss_weight': 0.5}, losses(), batch)
    terms = view_terms(view, batch, enlarged, frozen(lopsided), losses(), lambda a, b: {'l_pix': (a - b).abs().mean()})
    assert terms.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(terms[name], value)


def test_the_teacher_rests_where_no_loss_needs_it():
    view = build_view('views.z', {'type': 'ZoomOut', 'losses': []}, losses(), pair())
    terms = view_terms(view, pair(), enlarged, None, losses(), lambda a, b: {'l_pix': (a - b).mean()})
    assert list(terms) == ['l_pix']


def test_losses_on_images_judge_a_view_unless_others_are_named():
    more = {'l_facd': FACDLoss(), 'l_other': ResponseLoss('l2')}
    assert build_view('v', {'type': 'ZoomIn'}, losses(**more), pair()).losses == ['l_kd', 'l_other']
    named = {'type': 'ZoomIn', 'losses': ['l_other']}
    assert build_view('v', named, losses(**more), pair()).losses == ['l_other']


def test_a_view_of_ones_own():
    @VIEW_REGISTRY.register()
    class Mirrored(View):
        def make(self, batch):
            return Batch(batch.lq.flip(-1), batch.gt.flip(-1))

    try:
        view = build_view('v', {'type': 'Mirrored', 'loss_weight': 2.0}, losses(), pair())
        terms = view_terms(view, pair(), enlarged, frozen(enlarged), losses(), lambda a, b: {'l_pix': (a - b).mean()})
        assert list(terms) == ['l_pix', 'l_kd']
    finally:
        del VIEW_REGISTRY._obj_map['Mirrored']


@pytest.mark.parametrize(('opt', 'words'), [
    ({'type': 'ZoomInn'}, r"v\.type: no view is called 'ZoomInn'.*'ZoomIn'"),
    ({'type': 'ZoomIn', 'n': 2}, "v: ZoomIn has no option 'n'.*count"),
    ({'type': 'ZoomOut', 'consistency': 2}, 'v: `consistency` is a probability'),
    ({'type': 'ZoomIn', 'losses': ['l_kdd']}, r"v\.losses: there is no loss 'l_kdd'.*'l_kd'"),
    ({'type': 'ZoomIn', 'losses': ['l_fit']}, r"v\.losses: 'l_fit' needs features"),
])  # fmt: skip
def test_mistakes_are_told(opt, words):
    with pytest.raises(UserError, match=words):
        build_view('v', opt, losses(), pair())


@pytest.mark.parametrize(('call', 'words'), [
    (lambda: ZoomIn(count=5).make(pair()), 'count` must be from 1 to 4'),
    (lambda: ZoomIn(count=0).make(pair()), 'count` must be from 1 to 4'),
    (lambda: ZoomOut().make(Batch(torch.rand(1, 3, 4, 4))), 'this batch has none'),
    (lambda: augment(torch.rand(1, 3, 4, 5), torch.ones(4, 1, dtype=torch.bool)), r'square; they are \(4, 5\)'),
])  # fmt: skip
def test_images_that_do_not_fit_are_told(call, words):
    with pytest.raises(UserError, match=words):
        call()
