import numpy as np
import pytest
import torch

from kdsr.losses.response_loss import ResponseLoss
from tests.references.loss_checks import NO_BATCH, check_image_loss, image_output, random_images


@pytest.mark.parametrize('norm', ['l1', 'l2'])
def test_contract(norm):
    check_image_loss(lambda weight: ResponseLoss(norm=norm, loss_weight=weight))


@pytest.mark.parametrize('norm', ['l1', 'l2'])
def test_value_and_gradient(norm):
    image, target = random_images((2, 3, 5, 7))
    image.requires_grad_()
    value = ResponseLoss(norm=norm)(image_output(image), image_output(target), NO_BATCH)
    value.backward()
    d = image.detach().double().numpy() - target.double().numpy()
    expected, gradient = {'l1': (abs(d).mean(), np.sign(d) / d.size), 'l2': ((d**2).mean(), 2 * d / d.size)}[norm]
    assert value.item() == pytest.approx(expected, abs=1e-6)
    np.testing.assert_allclose(image.grad.numpy(), gradient, atol=1e-7)


def test_by_hand():
    """|1 - 0|, |0 - 0|, |0 - 0|, |0 - 3|: L1 4/4, L2 10/4."""
    image, target = torch.tensor([[[[1.0, 0], [0, 0]]]]), torch.tensor([[[[0.0, 0], [0, 3]]]])
    assert ResponseLoss()(image_output(image), image_output(target), NO_BATCH) == 1
    assert ResponseLoss('l2')(image_output(image), image_output(target), NO_BATCH) == 2.5


def test_unknown_norm_names_the_choices():
    with pytest.raises(ValueError, match="`norm` must be one of l1, l2, not 'L1'"):
        ResponseLoss(norm='L1')
