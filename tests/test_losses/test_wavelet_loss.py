import numpy as np
import pytest
import pywt
import torch

from kdsr.losses.wavelet_loss import WaveletLoss, wavelet_distance
from tests.references import frequency
from tests.references.loss_checks import NO_BATCH, check_image_loss, image_output, random_images

MODES = ('symmetric', 'reflect', 'periodization', 'zero')

WAVES = ['haar', 'db2', 'sym4', 'bior2.2', 'bior1.3', 'coif1', 'rbio3.1']
CASES = [  # wave, level, high_frequency_only, mode, size; divisible Haar sizes take a path of their own
    ('haar', 1, False, 'symmetric', (4, 6)),
    ('haar', 1, True, 'symmetric', (4, 6)),
    ('haar', 2, False, 'symmetric', (8, 4)),
    ('haar', 2, True, 'zero', (8, 4)),
    ('db1', 3, False, 'symmetric', (8, 8)),
    ('haar', 2, False, 'symmetric', (7, 5)),
    ('haar', 1, False, 'zero', (5, 6)),
    ('haar', 2, False, 'periodization', (6, 7)),
    ('db2', 1, False, 'symmetric', (7, 6)),
    ('db2', 1, True, 'reflect', (6, 7)),
    ('bior2.2', 1, False, 'periodization', (10, 11)),
]


@pytest.mark.parametrize(
    'options', [{}, {'level': 3}, {'level': 2, 'high_frequency_only': True}, {'wave': 'db2', 'level': 2}]
)
def test_contract(options):
    check_image_loss(lambda weight: WaveletLoss(loss_weight=weight, **options))


@pytest.mark.parametrize('wave', WAVES)
@pytest.mark.parametrize('mode', MODES)
def test_value_equals_pywavelets(wave, mode):
    for size, level in (((64, 48), 1), ((64, 48), 2), ((37, 45), 2), ((64, 32), 3)):
        level = min(level, pywt.dwt_max_level(min(size), pywt.Wavelet(wave).dec_len))
        image, target = random_images((2, 3, *size))
        for high_only in (False, True):
            value = wavelet_distance(image, target, wave, level, high_only, mode).item()
            s, t = image.double().numpy(), target.double().numpy()
            assert value == pytest.approx(frequency.wavelet_loss(s, t, wave, level, high_only, mode), rel=1e-5)


@pytest.mark.parametrize(('wave', 'level', 'high_only', 'mode', 'size'), CASES)
def test_gradient(wave, level, high_only, mode, size):
    image, target = random_images((2, 1, *size))
    image.requires_grad_()
    WaveletLoss(wave, level, high_only, mode)(image_output(image), image_output(target), NO_BATCH).backward()
    s, t = image.detach().double().numpy(), target.double().numpy()
    expected = frequency.numerical_gradient(
        lambda x: frequency.wavelet_loss(x, t, wave, level, high_only, mode), s, step=1e-7
    )
    np.testing.assert_allclose(image.grad.numpy(), expected, atol=1e-4 * abs(expected).max())


@pytest.mark.parametrize('level', [4, 5, 6])
def test_gradient_of_a_deep_haar(level):
    """A difference of 1 everywhere has only a low band, 2^K: its mean grows by 2^K / pixels in every pixel."""
    image = torch.ones(1, 1, 64, 64, requires_grad=True)
    value = wavelet_distance(image, torch.zeros(1, 1, 64, 64), level=level)
    value.backward()
    assert value.item() == pytest.approx(2**level / (3 * level + 1))
    expected = torch.full_like(image, 2**level / (3 * level + 1) / 64**2)
    torch.testing.assert_close(image.grad, expected)


def test_deep_haar_gradient_with_all_signs_alike_does_not_overflow():
    """One bright corner pixel: every band of every level is positive there, the largest step that can occur."""
    for level in (3, 4, 5, 6):
        image = torch.zeros(1, 1, 64, 64)
        image[..., 0, 0] = 1
        image.requires_grad_()
        wavelet_distance(image, torch.zeros(1, 1, 64, 64), level=level).backward()
        steps = 3 * sum(2**k for k in range(1, level + 1)) + 2**level
        assert image.grad[0, 0, 0, 0].item() == pytest.approx(steps / (3 * level + 1) / 64**2)


def test_large_batch_equals_its_samples():
    """Large batches are worked through in groups of channels on a CPU."""
    image, target = random_images((3, 3, 384, 384))
    image.requires_grad_()
    value = wavelet_distance(image, target)
    value.backward()
    s, t = image.detach().double().numpy(), target.double().numpy()
    assert value.item() == pytest.approx(frequency.wavelet_loss(s, t, 'haar', 1, False, 'symmetric'), rel=1e-5)
    last = image.detach()[2:].requires_grad_()
    wavelet_distance(last, target[2:]).backward()
    torch.testing.assert_close(image.grad[2:], last.grad / 3)


@pytest.mark.parametrize('level', [1, 2])
def test_any_layout_in_memory(level):
    image, target = random_images((2, 3, 8, 16))
    plain = image.clone().requires_grad_()
    value = wavelet_distance(plain, target, level=level)
    value.backward()
    for layout in (lambda x: x.contiguous(memory_format=torch.channels_last), lambda x: x.mT.contiguous().mT):
        ours = layout(image).requires_grad_()
        torch.testing.assert_close(wavelet_distance(ours, layout(target), level=level), value)
        wavelet_distance(ours, layout(target), level=level).backward()
        torch.testing.assert_close(ours.grad, plain.grad)


def test_by_hand():
    """One 2x2 block (a b; c d) = (4 2; 1 1) over zero: LL 8/2, columns 2/2, rows 4/2, diagonal 2/2."""
    image, zero = torch.tensor([[[[4.0, 2.0], [1.0, 1.0]]]]), torch.zeros(1, 1, 2, 2)
    assert wavelet_distance(image, zero).item() == pytest.approx((4 + 1 + 2 + 1) / 4)
    assert wavelet_distance(image, zero, high_frequency_only=True).item() == pytest.approx((1 + 2 + 1) / 3)


@pytest.mark.parametrize('options', [{}, {'level': 2}, {'wave': 'db2', 'level': 2}])
def test_low_band_of_every_sample_counts(options):
    """The released loss compares the low band of one sample only."""
    image, target = random_images((3, 3, 16, 16))
    moved = image.clone()
    moved[1] += 2.0
    before, after = wavelet_distance(image, target, **options), wavelet_distance(moved, target, **options)
    assert after > before + 0.05
    high = {**options, 'high_frequency_only': True}
    torch.testing.assert_close(wavelet_distance(moved, target, **high), wavelet_distance(image, target, **high))


@pytest.mark.parametrize(
    ('wave', 'level', 'mode', 'size'),
    [('haar', 1, 'symmetric', (4, 6)), ('haar', 2, 'zero', (8, 4)), ('db2', 2, 'zero', (13, 12))],
)
def test_the_released_form(wave, level, mode, size):
    image, target = random_images((3, 2, *size))
    image.requires_grad_()
    loss = WaveletLoss(wave, level, mode=mode, form='official')
    value = loss(image_output(image), image_output(target), NO_BATCH)
    value.backward()
    t = target.double().numpy()

    def reference(x):
        return frequency.official_wavelet_loss(x, t, wave, level, mode)

    s = image.detach().double().numpy()
    assert value.item() == pytest.approx(reference(s), rel=1e-5)
    gradient = frequency.numerical_gradient(reference, s, step=1e-7)
    np.testing.assert_allclose(image.grad.numpy(), gradient, atol=1e-4 * abs(gradient).max())


def test_the_released_form_sees_the_low_band_of_one_sample():
    image, target = random_images((3, 3, 16, 16))
    values = []
    for moved in (None, 0, 1, 2):
        shifted = image.clone()
        if moved is not None:
            shifted[moved] += 2.0
        values.append([wavelet_distance(shifted, target, level=k, form='official').item() for k in (1, 2)])
    changed = [[abs(v - values[0][k]) > 0.05 for k, v in enumerate(row)] for row in values[1:]]
    assert changed == [[True, False], [False, True], [False, False]]
    with pytest.raises(ValueError, match='`level: 3` compares the low band of sample 3, but the batch has 2'):
        wavelet_distance(image[:2], target[:2], level=3, form='official')


def test_low_band_counts_once():
    """A constant difference of 1 has no high band and a low band of 2^K: 2^K / (3K + 1)."""
    one, zero = torch.ones(2, 3, 8, 8), torch.zeros(2, 3, 8, 8)
    for level in (1, 2, 3):
        value = wavelet_distance(one, zero, level=level).item()
        assert value == pytest.approx(2**level / (3 * level + 1))


def test_gradient_to_both_images():
    image, target = (x.requires_grad_() for x in random_images((1, 1, 4, 4)))
    wavelet_distance(image, target).backward()
    torch.testing.assert_close(image.grad, -target.grad)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'wave': 'harr'}, "not 'harr'. Did you mean 'haar'"),
        ({'wave': 'morl'}, 'discrete wavelet'),
        ({'level': 0}, 'at least 1, not 0'),
        ({'level': 1.5}, 'whole number'),
        ({'mode': 'mirror'}, 'symmetric, reflect, periodization, zero'),
        ({'form': 'code'}, 'paper, official'),
        ({'form': 'official', 'high_frequency_only': True}, 'belongs to `form: paper`'),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(ValueError, match=message):
        WaveletLoss(**options)


def test_too_deep():
    image, target = random_images((1, 3, 16, 24))
    with pytest.raises(ValueError, match="`level` 5 is too deep: 16x24 images allow 4 with `wave` 'haar'"):
        wavelet_distance(image, target, level=5)


def test_shapes_differ():
    with pytest.raises(ValueError, match=r'\(1, 3, 8, 8\) and \(1, 3, 4, 4\)'):
        wavelet_distance(torch.zeros(1, 3, 8, 8), torch.zeros(1, 3, 4, 4))
