#!/bin/bash
# scikit-image's PSNR of integer images changes by 6 dB when 128 is subtracted from both images, without a warning.
#
# Versions: scikit-image 0.26.0, numpy 2.4.6, Python 3.11, Linux x86-64.
#
# Guess of an expert: PSNR depends on the difference of two images and on one range, so that a constant added to both
# changes nothing. Where `data_range` is left out and the type does not tell the range, the call is refused
# (as it is for floats in 0..255) or warns (as `structural_similarity` does).
#
# Behaviour: `peak_signal_noise_ratio` takes the range from the type and from the sign of the smallest value of the
# first image: of int16 it is 32767 if no value is negative, else 65535. Images of 0..255 in a signed type, which
# every subtraction needs, get 42 dB too much in int16 and 331 dB in NumPy's default, int64. Nothing is said.
# `structural_similarity` takes 65535 for the same images, and warns.
#
# Output seen:
#   uint8: 7.67 dB, 0 warnings
#   int16: 49.85 dB, 0 warnings
#   int16, both minus 128: 55.87 dB, 0 warnings
#   int64: 338.84 dB, 0 warnings
#   float in 0..255: ValueError
#   SSIM of int16: 0.9967 (uint8: -0.0034), 1 warnings
#
# Exit status 0: still so. Otherwise something changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv env
env/bin/pip install --quiet scikit-image==0.26.0 numpy==2.4.6
cat > finding.py <<'PY'
import warnings

import numpy as np
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

rng = np.random.default_rng(0)
one, other = rng.integers(0, 256, (2, 64, 64))  # two images of noise, as unlike as images are


def measure(function, a, b):
    """Return the value and the number of warnings."""
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter('always')
        return float(function(a, b)), len(seen)


def psnr(kind, shift=0):
    return measure(peak_signal_noise_ratio, *((image + shift).astype(kind) for image in (one, other)))


cases = {
    'uint8': psnr(np.uint8),
    'int16': psnr(np.int16),
    'int16, both minus 128': psnr(np.int16, -128),
    'int64': psnr(np.int64),
}
for name, (value, count) in cases.items():
    print(f'{name}: {value:.2f} dB, {count} warnings')
try:
    refused = f'{psnr(np.float64)[0]:.2f} dB'
except ValueError as error:
    refused = type(error).__name__
print(f'float in 0..255: {refused}')
right = measure(structural_similarity, one.astype(np.uint8), other.astype(np.uint8))[0]
ssim, warned = measure(structural_similarity, one.astype(np.int16), other.astype(np.int16))
print(f'SSIM of int16: {ssim:.4f} (uint8: {right:.4f}), {warned} warnings')
values = [value for value, _ in cases.values()]
gaps = np.diff(values)
silent = not any(count for _, count in cases.values())
still = silent and abs(gaps[0] - 42.18) < 0.01 and abs(gaps[1] - 6.02) < 0.01 and values[3] > 300
raise SystemExit(not (still and refused == 'ValueError' and warned == 1))
PY
env/bin/python finding.py
