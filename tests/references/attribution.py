"""Local attribution maps in NumPy, after Gu and Dong (CVPR 2021): one kernel per step, plain loops."""

import itertools

import numpy as np


def kernel(size, sigma):
    axis = np.arange(size) - (size - 1) / 2
    x, y = np.meshgrid(axis, axis)
    weights = np.exp(-(x**2 + y**2) / (2 * (sigma + 1e-5) ** 2))
    return weights / weights.sum()


def correlate(plane, weights):
    half = len(weights) // 2
    padded = np.pad(plane, half, mode='reflect')
    out = np.zeros_like(plane)
    for i in range(plane.shape[0]):
        for j in range(plane.shape[1]):
            out[i, j] = (padded[i : i + len(weights), j : j + len(weights)] * weights).sum()
    return out


def path_and_derivative(image, sigma, size, steps):
    """Return points (T, C, h, w) and the derivative with respect to the path's parameter in 0..1, the same shape."""
    kernels = [kernel(size, s) for s in np.linspace(sigma, 0, steps + 1)]
    points = [[correlate(plane, k) for plane in image] for k in kernels[1:]]
    slopes = [[correlate(plane, (b - a) * steps) for plane in image] for a, b in itertools.pairwise(kernels)]
    return np.array(points), np.array(slopes)


def detector(image, top, left, size):
    total = 0.0
    for plane in image:
        for i in range(top, min(top + size, plane.shape[0] - 1)):
            for j in range(left, min(left + size, plane.shape[1] - 1)):
                total += np.sqrt((plane[i, j] - plane[i + 1, j]) ** 2 + (plane[i, j] - plane[i, j + 1]) ** 2)
    return total


def detector_slope(image, top, left, size):
    """Return the derivative of the detector with respect to every pixel of its image."""
    slope = np.zeros_like(image)
    for c, plane in enumerate(image):
        for i in range(top, min(top + size, plane.shape[0] - 1)):
            for j in range(left, min(left + size, plane.shape[1] - 1)):
                down, right = plane[i, j] - plane[i + 1, j], plane[i, j] - plane[i, j + 1]
                length = np.sqrt(down**2 + right**2)
                if length > 0:
                    slope[c, i, j] += (down + right) / length
                    slope[c, i + 1, j] -= down / length
                    slope[c, i, j + 1] -= right / length
    return slope


def gini(values):
    """Half of the mean absolute difference, divided by the mean."""
    values = np.ravel(values) + 1e-7
    return np.abs(values[:, None] - values[None, :]).mean() / 2 / values.mean()
