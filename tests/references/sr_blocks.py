"""The super-resolution networks' parts in NumPy, float64, one image (C, H, W) at a time, written from the papers' text.

Weights come as a dictionary of arrays with the names that the networks give them; `part` picks those of a module.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from tests.references.imresize import keys_cubic, mirrored


def part(weights: dict, prefix: str) -> dict:
    return {k[len(prefix) + 1 :]: v for k, v in weights.items() if k.startswith(f'{prefix}.')}


def conv(x, w, b=None, stride=1, pad=None, groups=1):
    """Cross-correlation with zero padding (by default 'same')."""
    size = w.shape[-1]
    pad = size // 2 if pad is None else pad
    x = np.pad(x, ((0, 0), (pad, pad), (pad, pad)))
    per_group = x.shape[0] // groups
    out = []
    for g, kernels in enumerate(np.split(w, groups)):
        windows = sliding_window_view(x[g * per_group : (g + 1) * per_group], (size, size), axis=(1, 2))
        out.append(np.einsum('chwij,ocij->ohw', windows[:, ::stride, ::stride], kernels))
    out = np.concatenate(out)
    return out if b is None else out + b[:, None, None]


def layer(x, weights, name, **settings):
    return conv(x, weights[f'{name}.weight'], weights.get(f'{name}.bias'), **settings)


def transposed_conv(x, w, b, scale):
    """Transposed 9x9-like convolution by its definition: every input pixel stamps its kernel on the output."""
    size = w.shape[-1]
    (_, height, width), outputs = x.shape, w.shape[1]
    canvas = np.zeros((outputs, scale * (height - 1) + size, scale * (width - 1) + size))
    for y in range(height):
        for z in range(width):
            stamp = np.tensordot(x[:, y, z], w, axes=1)
            canvas[:, y * scale : y * scale + size, z * scale : z * scale + size] += stamp
    full = np.zeros((outputs, max(canvas.shape[1], scale * height + size), max(canvas.shape[2], scale * width + size)))
    full[:, : canvas.shape[1], : canvas.shape[2]] = canvas
    start = size // 2
    return full[:, start : start + scale * height, start : start + scale * width] + b[:, None, None]


def leaky(x, slope=0.05):
    return np.where(x > 0, x, slope * x)


def relu(x):
    return np.maximum(x, 0)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def shuffle(x, scale):
    """Pixel shuffle, output pixel by output pixel."""
    channels, height, width = x.shape[0] // scale**2, *x.shape[1:]
    out = np.empty((channels, height * scale, width * scale))
    for c in range(channels):
        for dy in range(scale):
            for dx in range(scale):
                out[c, dy::scale, dx::scale] = x[c * scale**2 + dy * scale + dx]
    return out


def bicubic(x, scale):
    """MATLAB's enlargement, without rounding."""
    for axis in (1, 2):
        size = x.shape[axis]
        matrix = np.zeros((size * scale, size))
        for out in range(size * scale):
            centre = (out + 0.5) / scale - 0.5
            for index in range(int(np.floor(centre)) - 2, int(np.floor(centre)) + 4):
                matrix[out, mirrored(index, size)] += float(keys_cubic(centre - index))
        x = np.moveaxis(np.tensordot(matrix, x, axes=(1, axis)), 0, axis)
    return x


def contrast_attention(x, weights):
    mean = x.mean(axis=(1, 2), keepdims=True)
    contrast = np.sqrt(((x - mean) ** 2).mean(axis=(1, 2), keepdims=True))
    hidden = relu(layer(contrast + mean, weights, 'attention.0'))
    return x * sigmoid(layer(hidden, weights, 'attention.2'))


def bilinear(x, height, width):
    """Resize with pixel centres at halves (align_corners=False), the border repeated."""
    for axis, size in ((1, height), (2, width)):
        old = x.shape[axis]
        position = np.clip((np.arange(size) + 0.5) * old / size - 0.5, 0, None)
        low = np.minimum(position.astype(int), old - 1)
        high = np.minimum(low + 1, old - 1)
        share = (position - low).reshape([-1 if a == axis else 1 for a in range(3)])
        x = np.take(x, low, axis) * (1 - share) + np.take(x, high, axis) * share
    return x


def spatial_attention(x, weights):
    narrow = layer(x, weights, 'conv1')
    small = layer(narrow, weights, 'conv2', stride=2, pad=0)
    small = sliding_window_view(small, (7, 7), axis=(1, 2))[:, ::3, ::3].max(axis=(3, 4))
    small = relu(layer(small, weights, 'conv_max'))
    small = layer(relu(layer(small, weights, 'conv3')), weights, 'conv3_')
    mask = bilinear(small, *x.shape[1:]) + layer(narrow, weights, 'conv_f')
    return x * sigmoid(layer(mask, weights, 'conv4'))


def blueprint(x, weights, name, **settings):
    """A 1x1 convolution, then one kernel for each channel."""
    mixed = layer(x, weights, f'{name}.pw')
    return layer(mixed, weights, f'{name}.dw', groups=len(mixed), **settings)


def gelu(x):
    return x * (1 + np.vectorize(math.erf)(x / math.sqrt(2))) / 2


def nearest(x, scale):
    return x.repeat(scale, axis=1).repeat(scale, axis=2)


def rlfn(x, weights, scale, num_block, img_range):
    first = y = layer(x * img_range, weights, 'conv_first')
    for i in range(num_block):
        block, refined = part(weights, f'body.{i}'), y
        for j in range(3):
            refined = leaky(layer(refined, block, f'refine.{j}'))
        fused, inside = layer(y + refined, block, 'fuse'), part(block, 'attention')
        narrow = layer(fused, inside, 'conv1')
        small = layer(narrow, inside, 'conv2', stride=2, pad=0)
        small = layer(sliding_window_view(small, (7, 7), axis=(1, 2))[:, ::3, ::3].max(axis=(3, 4)), inside, 'conv3')
        mask = bilinear(small, *fused.shape[1:]) + layer(narrow, inside, 'conv_f')
        y = fused * sigmoid(layer(mask, inside, 'conv4'))
    y = first + layer(y, weights, 'conv_after_body')
    return shuffle(layer(y, weights, 'upsample.0'), scale) / img_range


def bsrn(x, weights, scale, num_block):
    first = y = blueprint(np.concatenate([x, x, x, x]), weights, 'conv_first')
    outputs = []
    for i in range(num_block):
        block, inner, kept = part(weights, f'body.{i}'), y, []
        for j in range(3):
            kept.append(gelu(layer(inner, block, f'distill.{j}')))
            inner = gelu(blueprint(inner, block, f'refine.{j}') + inner)
        kept.append(gelu(blueprint(inner, block, 'last')))
        fused, inside = layer(np.concatenate(kept), block, 'fuse'), part(block, 'attention.0')
        narrow = layer(fused, inside, 'conv1')
        small = blueprint(narrow, inside, 'conv2', stride=2, pad=0)
        small = sliding_window_view(small, (7, 7), axis=(1, 2))[:, ::3, ::3].max(axis=(3, 4))
        small = gelu(blueprint(gelu(blueprint(small, inside, 'conv_max')), inside, 'conv3'))
        small = blueprint(small, inside, 'conv3_')
        mask = bilinear(small, *fused.shape[1:]) + layer(narrow, inside, 'conv_f')
        y = y + contrast_attention(fused * sigmoid(layer(mask, inside, 'conv4')), part(block, 'attention.1'))
        outputs.append(y)
    y = first + blueprint(gelu(layer(np.concatenate(outputs), weights, 'fuse.0')), weights, 'conv_after_body')
    return shuffle(layer(y, weights, 'upsample.0'), scale)


def pan(x, weights, steps, num_block):
    first = y = layer(x, weights, 'conv_first')
    for i in range(num_block):
        block = part(weights, f'body.{i}')
        plain, masked = (leaky(layer(y, block, f'enter.{j}'), 0.2) for j in range(2))
        masked = layer(masked, block, 'masked.0') * sigmoid(layer(masked, block, 'mask'))
        both = [leaky(layer(plain, block, 'plain'), 0.2), leaky(layer(masked, block, 'masked.1'), 0.2)]
        y = y + layer(np.concatenate(both), block, 'fuse')
    y = first + layer(y, weights, 'conv_after_body')
    for i, step in enumerate(steps):
        inside = part(weights, f'upsample.{i}')
        larger = layer(nearest(y, step), inside, 'conv')
        y = leaky(layer(leaky(larger * sigmoid(layer(larger, inside, 'mask')), 0.2), inside, 'refine'), 0.2)
    scale = int(np.prod(steps))
    return layer(y, weights, 'conv_last') + bilinear(x, scale * x.shape[1], scale * x.shape[2])


def efdn_cell(x, weights):
    maps = [x]
    for i in range(3):
        y = layer(maps[-1], weights, f'refine.{i}.0')
        maps.append(np.where(y > 0, y, weights[f'refine.{i}.1.weight'][:, None, None] * y))
    halves = [layer(y, weights, f'distill.{i}') for i, y in enumerate(maps)]
    return x + spatial_attention(layer(np.concatenate(halves), weights, 'fuse'), part(weights, 'attention'))


def efdn(x, weights, scale):
    def fused(number, *maps):
        return layer(np.concatenate(maps), weights, f'fuse.{number}')

    def cell(number, y):
        return efdn_cell(y, part(weights, f'body.{number}'))

    first = layer(x, weights, 'conv_first')
    one = cell(0, first)
    two = cell(1, one)
    three = cell(2, fused(0, one, two))
    four = cell(3, fused(1, two, three))
    return shuffle(layer(first + fused(2, two, four), weights, 'upsample.0'), scale)


def fmen(x, weights, scale, num_block, img_range):
    def pair(y, inside, name):
        return layer(leaky(layer(y, inside, f'{name}.0'), 0.1), inside, f'{name}.2')

    def masked(y, inside, num_pair):
        inner = leaky(layer(y, inside, 'enter'), 0.1)
        for i in range(num_pair):
            inner = pair(inner, inside, f'pairs.{i}')
        return y * sigmoid(layer(leaky(inner, 0.1), inside, 'leave'))

    first = layer(x * img_range, weights, 'conv_first')
    y = masked(layer(first, weights, 'body.0.0'), part(weights, 'body.0.1'), 2)
    for i in range(1, num_block + 1):
        y = masked(pair(y, weights, f'body.{i}.0'), part(weights, f'body.{i}.1'), 1)
    y = first + layer(y, weights, 'conv_after_body')
    return shuffle(layer(y, weights, 'upsample.0'), scale) / img_range


def doubled(x, w):
    """Transposed 4x4 convolution with stride 2, one stamp for each pixel; a border of one pixel is cut off."""
    (_, height, width), outputs = x.shape, w.shape[1]
    canvas = np.zeros((outputs, 2 * height + 2, 2 * width + 2))
    for row in range(height):
        for column in range(width):
            canvas[:, 2 * row : 2 * row + 4, 2 * column : 2 * column + 4] += np.tensordot(x[:, row, column], w, axes=1)
    return canvas[:, 1:-1, 1:-1]


def lapsrn(x, weights, levels, depth):
    y, image = leaky(layer(x, weights, 'conv_first'), 0.2), x
    for i in range(levels):
        level = part(weights, f'levels.{i}')
        for j in range(depth):
            y = leaky(layer(y, level, f'body.{j}'), 0.2)
        y = leaky(doubled(y, level['double_features.weight']), 0.2)
        image = doubled(image, level['double_image.weight']) + layer(y, level, 'residual')
    return image


def rfdn_block(x, weights, block):
    attention = spatial_attention if block == 'e_rfdb' else contrast_attention
    identity = block in ('rfdb', 'e_rfdb', 'srb')
    kept = []
    for i in range(3):
        if block not in ('base', 'srb'):
            kept.append(leaky(layer(x, weights, f'distill.{i}')))
        refined = layer(x, weights, f'refine.{i}')
        x = leaky(refined + x) if identity else leaky(refined)
    x = leaky(layer(x, weights, 'last'))
    if kept:
        x = layer(np.concatenate([*kept, x]), weights, 'fuse')
    return attention(x, part(weights, 'attention'))


def imdn_block(x, weights):
    kept, rest = [], x
    for i in range(3):
        y = leaky(layer(rest, weights, f'refine.{i}'))
        kept.append(y[: len(x) // 4])
        rest = y[len(x) // 4 :]
    kept.append(layer(rest, weights, 'last'))
    return layer(contrast_attention(np.concatenate(kept), part(weights, 'attention')), weights, 'fuse') + x


def distilled_network(x, weights, block, scale, img_range):
    """RFDN and IMDN: a chain of blocks, all of whose outputs are fused."""
    first = y = layer(x * img_range, weights, 'conv_first')
    outputs = []
    while part(weights, f'body.{len(outputs)}'):
        y = block(y, part(weights, f'body.{len(outputs)}'))
        outputs.append(y)
    y = leaky(layer(np.concatenate(outputs), weights, 'fuse.0'))
    y = first + layer(y, weights, 'conv_after_body')
    return shuffle(layer(y, weights, 'upsample.0'), scale) / img_range


def idn_block(x, weights):
    y = x
    for i, groups in enumerate((1, 4, 1)):
        y = leaky(layer(y, weights, f'upper.{i}.0', groups=groups))
    quarter = len(x) // 4
    skipped, y = np.concatenate([x, y[:quarter]]), y[quarter:]
    for i, groups in enumerate((1, 4, 1)):
        y = leaky(layer(y, weights, f'lower.{i}.0', groups=groups))
    return leaky(layer(skipped + y, weights, 'compress.0'))


def idn(x, weights, scale, num_block, img_range):
    y = x * img_range
    for i in range(2):
        y = leaky(layer(y, weights, f'conv_first.{i}.0'))
    for i in range(num_block):
        y = idn_block(y, part(weights, f'body.{i}'))
    y = layer(layer(y, weights, 'upsample.0'), weights, 'upsample.1')
    return bicubic(x, scale) + shuffle(y, scale) / img_range


def carn_unit(x, weights, groups, mobile):
    y = relu(layer(x, weights, 'body.0', groups=groups))
    y = layer(y, weights, 'body.2', groups=groups)
    if mobile:
        y = layer(relu(y), weights, 'body.4')
    return relu(y + x)


def cascade(x, weights, unit, shared):
    """Three units; what enters unit i is a summary of the input and of all units before it."""
    seen, y = [x], x
    for i in range(3):
        seen.append(unit(y, part(weights, f'units.{0 if shared else i}')))
        y = relu(layer(np.concatenate(seen), weights, f'fuse.{i}.0'))
    return y


def carn(x, weights, mean, mobile, groups, steps):
    def inner(z, w):
        return cascade(z, w, lambda v, u: carn_unit(v, u, groups, mobile), shared=mobile)

    mean = np.array(mean)[:, None, None]
    y = cascade(layer(x - mean, weights, 'conv_first'), part(weights, 'body'), inner, shared=False)
    for i, step in enumerate(steps):
        y = shuffle(relu(layer(y, weights, f'upsample.{3 * i}', groups=groups)), step)
    return layer(y, weights, 'conv_last') + mean


def fsrcnn(x, weights, scale, num_map):
    def step(z, name):
        return leaky(layer(z, weights, f'{name}.0'), weights[f'{name}.1.weight'])

    x = step(step(x, 'feature_extraction'), 'shrinking')
    for i in range(num_map):
        x = step(x, f'mapping.{i}')
    return transposed_conv(step(x, 'expanding'), weights['last_layer.weight'], weights['last_layer.bias'], scale)


def vdsr(x, weights, scale, num_block):
    enlarged = y = bicubic(x, scale)
    y = relu(layer(y, weights, 'conv_first.0'))
    for i in range(num_block):
        y = relu(layer(y, weights, f'body.{i}.0'))
    return enlarged + layer(y, weights, 'conv_last')


def pisr_encoder(x, weights, scale):
    for i, stride in ((0, 1), (2, scale), (4, 1)):
        x = leaky(layer(x, weights, f'encoder.{i}', stride=stride), weights[f'encoder.{i + 1}.weight'])
    return layer(x, weights, 'encoder.6')
