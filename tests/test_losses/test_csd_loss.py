from urllib.error import URLError

import numpy as np
import pytest
import torch
import torchvision
from torch.nn import functional as F

from kdsr.distillation.outputs import Batch, NetworkOutput
from kdsr.errors import UserError
from kdsr.losses.csd_loss import LAYER_WEIGHTS, CSDLoss, contrast_to_negatives
from tests.references import feature_losses
from tests.references.frequency import numerical_gradient
from tests.references.loss_checks import image_output, random_images


def case(samples=3, size=8):
    """Student, teacher, batch at scale 2."""
    image, target = random_images((samples, 3, size, size))
    return image, target, Batch(lq=random_images((samples, 3, size // 2, size // 2), seed=5)[0])


def array(tensor):
    return tensor.detach().double().numpy()


def blurred(batch, count, size):
    return array(F.interpolate(batch.lq[:count].double(), size=(size, size), mode='bicubic', align_corners=False))


@pytest.mark.parametrize('count', [1, 2, 10])
def test_value_and_gradient_of_the_identity(count):
    image, target, batch = case()
    image.requires_grad_()
    value = CSDLoss('identity', num_negatives=count)(image_output(image), image_output(target), batch)
    value.backward()

    def reference(x):
        return feature_losses.csd_layer(x, array(target), blurred(batch, count, 8))

    assert value.item() == pytest.approx(reference(array(image)), rel=1e-5)
    gradient = numerical_gradient(reference, array(image))
    np.testing.assert_allclose(array(image.grad), gradient, atol=1e-4 * abs(gradient).max())


def test_value_and_gradient_of_an_extractor_with_weighted_layers():
    """It sees images in 0..255: 'offset' depends on the range, 'square' on it twice."""
    image, target, batch = case()
    image.requires_grad_()

    def extract(x):
        return {'square': (x / 255 - 0.5) ** 2, 'offset': abs(x - 100)}

    weights = {'square': 0.25, 'offset': 2.0}
    value = CSDLoss(extract, weights, num_negatives=2)(image_output(image), image_output(target), batch)
    value.backward()

    def reference(x):
        maps = [extract(255 * y) for y in (x, array(target), blurred(batch, 2, 8))]
        return sum(w * feature_losses.csd_layer(*[m[layer] for m in maps]) for layer, w in weights.items())

    assert value.item() == pytest.approx(reference(array(image)), rel=1e-5)
    gradient = numerical_gradient(reference, array(image))
    np.testing.assert_allclose(array(image.grad), gradient, atol=1e-4 * abs(gradient).max())


def test_by_hand():
    """Student 3 and 1, teacher 4 and 3; negatives 0 and 5: near (1 + 2)/2, far ((3 + 2) + (1 + 4))/2."""
    ours, theirs, negatives = (torch.tensor(v).view(2, 1, 1, 1) for v in ([3.0, 1], [4.0, 3], [0.0, 5]))
    assert contrast_to_negatives(ours, theirs, negatives).item() == pytest.approx(1.5 / 5)


def test_vgg19_is_frozen_unsaved_and_gives_the_published_layers(monkeypatch):
    vgg19 = torchvision.models.vgg.vgg19
    monkeypatch.setattr(torchvision.models.vgg, 'vgg19', lambda pretrained: vgg19(weights=None, init_weights=False))
    image, target, batch = case(2, 32)
    image.requires_grad_()
    loss = CSDLoss('vgg19')
    assert not loss._extractor, 'checking options must not download anything'
    loss.build_helpers(image_output(image), image_output(target))
    assert not list(loss.parameters())
    assert not loss.state_dict()
    value = loss(image_output(image), image_output(target), batch)
    value.backward()
    assert image.grad.abs().sum() > 0
    extractor = loss._extractor[0]
    assert not any(p.requires_grad for p in extractor.parameters())
    with torch.no_grad():
        inputs = [image, target, F.interpolate(batch.lq, scale_factor=2, mode='bicubic')]
        maps = [extractor(255 * x) for x in inputs]
    assert list(maps[0]) == list(LAYER_WEIGHTS['vgg19']) == [f'relu{i}_1' for i in (1, 2, 3, 4, 5)]
    expected = sum(
        feature_losses.csd_layer(*[array(m[f'relu{i}_1']) for m in maps]) / divisor
        for i, divisor in ((1, 32), (2, 16), (3, 8), (4, 4), (5, 1))
    )
    assert value.item() == pytest.approx(expected, rel=1e-4)


def test_without_a_network_vgg19_is_reported(monkeypatch):
    def vgg19(pretrained):
        raise URLError('no route')

    monkeypatch.setattr(torchvision.models.vgg, 'vgg19', vgg19)
    image, target, _ = case()
    with pytest.raises(UserError, match=r'cannot be downloaded \(no route\): .*vgg19-dcbb9e9d\.pth'):
        CSDLoss('vgg19').build_helpers(image_output(image), image_output(target))


def test_contract():
    image, target, batch = case()
    loss = CSDLoss('identity')
    assert loss(image_output(target), image_output(target), batch) == 0
    image.requires_grad_()
    target.requires_grad_()
    value = loss(image_output(image), image_output(target), batch)
    value.backward()
    assert value.shape == ()
    assert target.grad is None
    flipped = Batch(lq=batch.lq.flip(0))
    swapped = loss(image_output(image.flip(0)), image_output(target.flip(0)), flipped)
    torch.testing.assert_close(swapped, value)
    zeros = torch.zeros_like(image).requires_grad_()
    nothing = Batch(lq=torch.zeros_like(batch.lq))
    for against in (torch.zeros_like(image), target):
        zeros.grad = None
        value = loss(image_output(zeros), image_output(against), nothing)
        value.backward()
        assert torch.isfinite(value)
        assert torch.isfinite(zeros.grad).all()
    low = [x.detach().bfloat16() for x in (image, target)]
    exact = loss(*[image_output(x.float()) for x in low], batch)
    with torch.autocast('cpu', torch.bfloat16):
        torch.testing.assert_close(loss(*[image_output(x) for x in low], batch), exact)


def test_a_network_as_extractor_runs_in_single_precision_under_autocast():
    image, target, batch = case()
    torch.manual_seed(0)
    convolution = torch.nn.Conv2d(3, 4, 3)
    loss = CSDLoss(lambda x: {'conv': convolution(x)}, {'conv': 1.0})
    exact = loss(image_output(image), image_output(target), batch)
    with torch.autocast('cpu', torch.bfloat16):
        assert torch.equal(loss(image_output(image), image_output(target), batch), exact)


def test_published_range_is_255_times_the_other():
    image, target, batch = case()
    outputs = NetworkOutput(image.double()), NetworkOutput(target.double())
    large, small = (CSDLoss('identity', loss_range=r)(*outputs, batch).item() for r in (255, 1))
    assert large / small == pytest.approx(255, rel=1e-12)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'extractor': 'vgg16'}, 'vgg19, identity'),
        ({'extractor': lambda x: {'a': x}}, 'layer_weights'),
        ({'extractor': 'identity', 'num_negatives': 0}, 'at least 1'),
        ({'extractor': 'identity', 'loss_range': 0}, '255'),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(ValueError, match=message):
        CSDLoss(**options)


def test_wrong_shapes_and_layers():
    image, target, batch = case()
    loss = CSDLoss('identity')
    with pytest.raises(ValueError, match=r'\(3, 3, 8, 8\).*\(3, 3, 4, 4\)'):
        loss(image_output(image), image_output(target[..., :4, :4]), batch)
    with pytest.raises(ValueError, match=r'equal channels.*\(3, 1, 4, 4\)'):
        loss(image_output(image), image_output(target), Batch(lq=batch.lq[:, :1]))
    with pytest.raises(ValueError, match=r"gives the layers \['image'\], but `layer_weights` names \['relu1_1'\]"):
        CSDLoss('identity', {'relu1_1': 1.0})(image_output(image), image_output(target), batch)
