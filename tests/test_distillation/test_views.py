import numpy as np
import pytest
import torch

from kdsr.distillation.outputs import Batch, NetworkOutput
from kdsr.distillation.views import VIEW_REGISTRY, View, build_view, view_terms
from kdsr.errors import UserError
from kdsr.losses.facd_loss import FACDLoss
from kdsr.losses.fitnet_loss import FitNetLoss
from kdsr.losses.response_loss import ResponseLoss
from tests.references.views import downscaled


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


def test_zoom_out_is_compared_with_teacher_and_ground_truth_and_weighted():
    whole = np.random.default_rng(0).integers(0, 256, (2, 3, 6, 6))
    batch = Batch(torch.from_numpy(whole).float() / 255, torch.rand(2, 3, 12, 12))
    reduced = np.array([[downscaled(channel, 2) for channel in sample] for sample in whole])
    small, label = torch.from_numpy(reduced).float() / 255, batch.lq
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


def test_the_views_of_dukd_are_still_found_where_they_were():
    from kdsr.distillation import views
    from kdsr.views import dukd_view

    with pytest.warns(DeprecationWarning, match='use kdsr.views.dukd_view.ZoomIn'):
        assert views.ZoomIn is dukd_view.ZoomIn
    with pytest.raises(AttributeError, match='no attribute'):
        _ = views.ZoomSideways
