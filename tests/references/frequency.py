"""Frequency losses in float64 NumPy, from the equations, with PyWavelets' and SciPy's transforms."""

import numpy as np
import pywt
import scipy.fft


def wavelet_loss(student, teacher, wave, level, high_frequency_only, mode):
    """Transform both images (our code transforms their difference) and average the bands."""
    ours, theirs = (pywt.wavedec2(x, wave, mode=mode, level=level, axes=(2, 3)) for x in (student, teacher))
    terms = [np.mean(np.abs(a - b)) for s, t in zip(ours[1:], theirs[1:]) for a, b in zip(s, t)]
    if not high_frequency_only:
        terms.append(np.mean(np.abs(ours[0] - theirs[0])))
    return sum(terms) / len(terms)


def official_wavelet_loss(student, teacher, wave, level, mode):
    """MTKD's released code: a level's three bands in one mean; the low band of one sample, the one numbered K."""
    ours, theirs = (pywt.wavedec2(x, wave, mode=mode, level=level, axes=(2, 3)) for x in (student, teacher))
    total = sum(np.mean(np.abs(np.stack(s) - np.stack(t))) for s, t in zip(ours[1:], theirs[1:]))
    return total + np.mean(np.abs(ours[0][level - 1] - theirs[0][level - 1]))


def dct_loss(student, teacher, norm):
    """SciPy's unnormalised type II is 2 * sum x cos(...) per axis."""
    norm = {'ortho': 'ortho', 'none': 'backward'}[norm]
    ours, theirs = (scipy.fft.dctn(x, type=2, axes=(2, 3), norm=norm) for x in (student, teacher))
    return np.mean(np.abs(ours - theirs))


def numerical_gradient(function, x, step=1e-6):
    """Central differences of a scalar function of one array."""
    gradient = np.zeros_like(x)
    for index in np.ndindex(*x.shape):
        plus, minus = x.copy(), x.copy()
        plus[index] += step
        minus[index] -= step
        gradient[index] = (function(plus) - function(minus)) / (2 * step)
    return gradient
