import pytest
import torch

from kdsr.distillation.padding import pad_to_multiple, run_padded


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


def test_a_fitting_image_is_not_touched():
    image = torch.rand(1, 3, 8, 16)
    assert pad_to_multiple(image, 8) is image
