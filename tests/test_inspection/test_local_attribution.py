import numpy as np
import pytest
import torch
from torch.nn import functional as F

from kdsr.inspection.local_attribution import (
    BlurPath,
    OutputWindow,
    attribute,
    compute_diffusion_index,
    compute_gini,
    detect_gradient,
    find_most_textured_window,
    make_attribution_map,
    make_blur_path,
    make_gaussian_line,
)
from tests.references import attribution as reference

PATH = BlurPath(sigma=1.2, kernel=5, steps=6)


@pytest.fixture
def image():
    return np.random.default_rng(0).random((2, 9, 11))


def nearest(images):
    return F.interpolate(images, scale_factor=2, mode='nearest')


def test_the_path_and_its_steps_are_those_of_the_reference(image):
    path = make_blur_path(torch.from_numpy(image), PATH).numpy()
    points, slopes = reference.path_and_derivative(image, PATH.sigma, PATH.kernel, PATH.steps)
    np.testing.assert_allclose(path[1:], points, atol=1e-12)
    np.testing.assert_allclose(np.diff(path, axis=0) * PATH.steps, slopes, atol=1e-11)


def test_the_path_ends_at_the_image(image):
    np.testing.assert_allclose(make_blur_path(torch.from_numpy(image), PATH)[-1], image, atol=1e-12)
    line = make_gaussian_line(9, 1.2)
    assert float(line.sum()) == pytest.approx(1)
    assert float(line[3] / line[4]) == pytest.approx(np.exp(-1 / (2 * 1.2**2)), rel=1e-4)


@pytest.mark.parametrize('window', [OutputWindow(2, 3, 4), OutputWindow(0, 0, 20)])
def test_the_detector_is_that_of_the_reference(image, window):
    images = torch.from_numpy(np.stack([image, image[::-1] * 2]))
    wanted = [reference.detector(i, window.top, window.left, window.size) for i in images.numpy()]
    np.testing.assert_allclose(detect_gradient(images, window), wanted)


def test_a_flat_image_has_no_gradient_and_no_nan():
    images = torch.full((1, 3, 6, 6), 0.5, requires_grad=True)
    detect_gradient(images, OutputWindow(0, 0, 4)).sum().backward()
    assert (images.grad == 0).all()


def test_the_attribution_of_a_linear_network_is_known(image):
    window = OutputWindow(4, 5, 6)
    found = attribute(nearest, torch.from_numpy(image), window, PATH)
    points, slopes = reference.path_and_derivative(image, PATH.sigma, PATH.kernel, PATH.steps)
    wanted = np.zeros_like(image)
    for point, slope in zip(points, slopes):
        enlarged = point.repeat(2, axis=1).repeat(2, axis=2)
        back = reference.detector_slope(enlarged, window.top, window.left, window.size)
        wanted += slope * back.reshape(2, 9, 2, 11, 2).sum(axis=(2, 4)) / PATH.steps
    np.testing.assert_allclose(found.values, wanted, atol=1e-10)
    np.testing.assert_allclose(found.sr, image.repeat(2, axis=1).repeat(2, axis=2), atol=1e-12)
    np.testing.assert_allclose(make_attribution_map(found.values), np.abs(wanted.sum(axis=0)), atol=1e-10)


def test_the_attributions_sum_up_to_what_the_detector_gains(image):
    torch.manual_seed(0)
    layers = torch.nn.Conv2d(2, 4, 3, padding=1), torch.nn.Tanh(), torch.nn.Conv2d(4, 2, 3)
    network = torch.nn.Sequential(*layers).double()
    x, window = torch.from_numpy(image), OutputWindow(1, 1, 5)
    coarse, fine = (attribute(network, x, window, BlurPath(1.2, 5, steps)) for steps in (20, 320))
    assert fine.gain == pytest.approx(coarse.gain)
    assert fine.covered == pytest.approx(1, abs=0.01)
    assert abs(fine.covered - 1) < abs(coarse.covered - 1)
    assert all(p.grad is None for p in network.parameters())


def test_pixels_that_the_window_cannot_see_have_no_part(image):
    values = make_attribution_map(attribute(nearest, torch.from_numpy(image), OutputWindow(0, 0, 4), PATH).values)
    assert (values[3:] == 0).all()
    assert (values[:, 3:] == 0).all()
    assert values[:2, :2].min() > 0


def test_gini_and_diffusion_index(image):
    assert compute_gini(image) == pytest.approx(reference.gini(image), rel=1e-9)
    assert compute_diffusion_index(np.full((8, 8), 3.0)) == pytest.approx(100)
    alone = np.zeros((10, 10))
    alone[4, 5] = 2.0
    assert compute_diffusion_index(alone) == pytest.approx(1, abs=0.01)  # 100 / n
    assert compute_diffusion_index(7 * image[0]) == pytest.approx(compute_diffusion_index(image[0]))


def test_the_most_textured_window():
    photo = np.full((40, 50, 3), 100, np.uint8)
    photo[20:28, 30:38] = np.random.default_rng(0).integers(0, 255, (8, 8, 3))
    found = find_most_textured_window(photo, 10)
    assert (found.top, found.left) in [(t, x) for t in (18, 19, 20) for x in (28, 29, 30)]
    assert find_most_textured_window(np.eye(20), 16).size == 16


def test_a_blur_of_smaller_pixels_is_as_wide():
    assert BlurPath(1.2, 9, 50).scaled(4) == BlurPath(4.8, 33, 50)
