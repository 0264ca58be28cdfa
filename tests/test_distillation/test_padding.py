import pytest
import torch

from kdsr.distillation.padding import crop_padding, pad_to_multiple, run_padded


@pytest.mark.parametrize('size', [(8, 8), (9, 15), (3, 8), (1, 1)])
def test_any_size_comes_back_scaled(size):
    image = torch.rand(1, 3, *size)
    double = torch.nn.Upsample(scale_factor=2)
    seen = []

    def network(x):
        seen.append(tuple(x.shape[-2:]))
        return double(x)

    output = run_padded(network, image, 8)
    assert torch.equal(output, double(image))
    assert all(side % 8 == 0 for side in seen[0])


def test_the_border_is_reflected():
    image = torch.arange(5.0).view(1, 1, 1, 5).expand(1, 1, 5, 5)
    assert pad_to_multiple(image, 4)[0, 0, 0].tolist() == [0, 1, 2, 3, 4, 3, 2, 1]


@pytest.mark.parametrize('side', [1, 4])
def test_an_image_as_small_as_its_padding_repeats_its_border(side):
    """Reflection needs one pixel more than it adds: 4 rows cannot be reflected to 8."""
    image = torch.arange(float(side)).view(1, 1, side, 1).expand(1, 1, side, 4)
    expected = [*range(side), *[side - 1] * (8 - side)]
    for padded in (pad_to_multiple(image, 8)[0, 0, :, 0], pad_to_multiple(image.mT, 8)[0, 0, 0]):
        assert padded.tolist() == expected
    mixed = torch.arange(5.0).view(1, 1, 1, 5).expand(1, 1, 4, 5)  # one side allows reflection, the other does not
    assert pad_to_multiple(mixed, 8)[0, 0, 0].tolist() == [0, 1, 2, 3, 4, 4, 4, 4]
    assert pad_to_multiple(mixed.mT, 8)[0, 0, :, 0].tolist() == [0, 1, 2, 3, 4, 4, 4, 4]


def test_a_fitting_image_is_not_touched():
    image = torch.rand(1, 3, 8, 16)
    assert pad_to_multiple(image, 8) is image


@pytest.mark.parametrize(
    ('own', 'cropped'),
    [((16, 24), (13, 20)), ((13, 21), (13, 20)), ((13, 20), (13, 20)), ((26, 40), (26, 40)), ((7, 10), (7, 10))],
)
def test_only_maps_that_are_a_little_larger_than_the_image_are_cut(own, cropped):
    """A factor of 2 is an upsampler's, a smaller map a pooling's."""
    feature = torch.rand(1, 2, *own)
    assert torch.equal(crop_padding(feature, (13, 20)), feature[..., : cropped[0], : cropped[1]])
