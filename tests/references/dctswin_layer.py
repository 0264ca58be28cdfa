"""One DCTSwin layer in float64 NumPy: loops over windows and heads, SciPy's DCT, no mask image."""

import numpy as np
import scipy.fft
from scipy.special import erf, softmax

SCIPY_NORM = {'ortho': 'ortho', 'none': 'backward'}


def layer_norm(x, weight, bias):
    mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    return (x - mean) / np.sqrt(variance + 1e-5) * weight + bias


def mlp(x, p, prefix):
    hidden = x @ p[f'{prefix}.fc1.weight'].T + p[f'{prefix}.fc1.bias']
    hidden = hidden * 0.5 * (1 + erf(hidden / np.sqrt(2)))
    return hidden @ p[f'{prefix}.fc2.weight'].T + p[f'{prefix}.fc2.bias']


def attention(tokens, p, num_heads, window, allowed):
    """tokens: (window^2, C); allowed: (window^2, window^2) booleans."""
    length, dim = tokens.shape
    size = dim // num_heads
    qkv = tokens @ p['attn.qkv.weight'].T + p['attn.qkv.bias']
    table = p['attn.relative_position_bias_table']
    heads = []
    for head in range(num_heads):
        q, k, v = (qkv[:, part * dim + head * size : part * dim + (head + 1) * size] for part in range(3))
        logits = q @ k.T / np.sqrt(size)
        for a in range(length):
            for b in range(length):
                dy, dx = a // window - b // window, a % window - b % window
                logits[a, b] += table[(dy + window - 1) * (2 * window - 1) + dx + window - 1, head]
        heads.append(softmax(np.where(allowed, logits, -np.inf), -1) @ v)
    return np.concatenate(heads, 1) @ p['attn.proj.weight'].T + p['attn.proj.bias']


def layer(x, p, num_heads, window, shift, dct_norm, spatial_mask):
    """x: (H, W, C). Tokens are addressed by their place in the unshifted map, so nothing is rolled."""
    height, width, dim = x.shape
    normed = layer_norm(x, p['norm1.weight'], p['norm1.bias'])
    mixed = np.zeros_like(x)
    for top in range(0, height, window):
        for left in range(0, width, window):
            rows = (np.arange(top, top + window) + shift) % height
            columns = (np.arange(left, left + window) + shift) % width
            y, x_ = (part.ravel() for part in np.meshgrid(rows, columns, indexing='ij'))
            near = (abs(y[:, None] - y) < window) & (abs(x_[:, None] - x_) < window)
            tokens = normed[y, x_]
            if dct_norm:
                block = scipy.fft.dctn(tokens.reshape(window, window, dim), axes=(0, 1), norm=SCIPY_NORM[dct_norm])
                tokens = block.reshape(-1, dim)
            tokens = attention(tokens, p, num_heads, window, near if spatial_mask else np.ones_like(near))
            if dct_norm:
                block = scipy.fft.idctn(tokens.reshape(window, window, dim), axes=(0, 1), norm=SCIPY_NORM[dct_norm])
                tokens = block.reshape(-1, dim)
            mixed[y, x_] = tokens
    x = x + mixed
    return x + mlp(layer_norm(x, p['norm2.weight'], p['norm2.bias']), p, 'mlp')
