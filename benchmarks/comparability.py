"""What other tools print for the same images: writes docs/comparability.md.

python benchmarks/comparability.py --weights IMDN_x4.pth --set datasets/Set5/HR > docs/comparability.md

It needs pyiqa, piq, torchmetrics, kornia and scikit-image, which kdsr itself does not depend on: install them
into an environment of their own. A call that fails is named with its error.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import importlib.metadata
import io
import warnings
from collections.abc import Callable, Mapping, Sequence

import kdsr.metrics  # isort: skip  (before BasicSR, which needs its repairs)

import cv2
import kornia
import numpy as np
import onnx
import onnxruntime
import piq
import pyiqa
import torch
import torchmetrics.functional.image as torchmetrics
from basicsr.metrics import calculate_psnr, calculate_ssim
from basicsr.utils.matlab_functions import bgr2ycbcr
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import nn
from torch.nn import functional as F

import kdsr
from kdsr.data.benchmark_sets import find_sets, locate_lr_cache, read_pair
from kdsr.data.matlab_bicubic import imresize_bicubic
from kdsr.markdown import markdown_table
from kdsr.metrics import score
from kdsr.networks.facts import scale_of
from kdsr.networks.weight_files import build, identify
from kdsr.pictures.images import super_resolve

PACKAGES = ('basicsr', 'scikit-image', 'pyiqa', 'piq', 'torchmetrics', 'kornia', 'torch', 'Pillow', 'opencv-python',
            'onnxruntime')  # fmt: skip
Pairs = Sequence[tuple[np.ndarray, np.ndarray]]


def luminance(image: np.ndarray) -> np.ndarray:
    """Return Y of BT.601 in 16..235 as float, of (H, W, 3), uint8, BGR."""
    return bgr2ycbcr(image.astype(np.float32) / 255, y_only=True) * 255


def as_tensor(image: np.ndarray) -> torch.Tensor:
    """Return (H, W) or (H, W, 3) BGR in 0..255 as (1, C, H, W), RGB, in [0, 1]."""
    planes = image[None] if image.ndim == 2 else image[..., ::-1].transpose(2, 0, 1)
    return torch.from_numpy(np.ascontiguousarray(planes)).float()[None] / 255


def mean(measure: Callable[[np.ndarray, np.ndarray], float], pairs: Pairs) -> str:
    """Return the mean of a measure over pairs of images, as a text; the error where it fails."""
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter('ignore')
            return f'{np.mean([float(measure(sr, gt)) for sr, gt in pairs]):.4f}'
    except Exception as error:
        return f'fails ({type(error).__name__})'


def psnr_rows(pairs: Pairs, cut: Pairs, on_y: Pairs, scale: int) -> list[list[str]]:
    """Return (tool, call, PSNR) for whole images, images without border, and their Y."""
    as_papers = pyiqa.create_metric('psnr', test_y_channel=True, color_space='ycbcr', crop_border=scale)
    psnry = pyiqa.create_metric('psnry', crop_border=scale)
    rgb = pyiqa.create_metric('psnr')
    return [
        ['BasicSR', f'calculate_psnr, crop_border={scale}, test_y_channel',
         mean(lambda s, g: calculate_psnr(s, g, scale, test_y_channel=True), pairs)],
        ['kdsr', 'benchmark, test', mean(lambda s, g: score(s, g, scale)[0], pairs)],
        ['pyiqa', "'psnr', test_y_channel, color_space='ycbcr', crop_border",
         mean(lambda s, g: as_papers(as_tensor(s), as_tensor(g)), pairs)],
        ['pyiqa', "'psnry', crop_border", mean(lambda s, g: psnry(as_tensor(s), as_tensor(g)), pairs)],
        ['pyiqa', "'psnr' (R, G, B, whole image)", mean(lambda s, g: rgb(as_tensor(s), as_tensor(g)), pairs)],
        ['scikit-image', 'Y as float, data_range=255',
         mean(lambda s, g: peak_signal_noise_ratio(g, s, data_range=255), on_y)],
        ['scikit-image', 'Y as int16, no data_range',
         mean(lambda s, g: peak_signal_noise_ratio(*(x.round().astype(np.int16) for x in (g, s))), on_y)],
        ['torchmetrics', 'Y, data_range=1',
         mean(lambda s, g: torchmetrics.peak_signal_noise_ratio(as_tensor(s), as_tensor(g), data_range=1.0), on_y)],
        ['piq', 'psnr of Y', mean(lambda s, g: piq.psnr(as_tensor(s), as_tensor(g)), on_y)],
        ['piq', 'psnr, convert_to_greyscale',
         mean(lambda s, g: piq.psnr(as_tensor(s).clamp(0, 1), as_tensor(g), convert_to_greyscale=True), cut)],
        ['kornia', 'psnr of Y, max_val=1',
         mean(lambda s, g: kornia.metrics.psnr(as_tensor(s), as_tensor(g), 1.0), on_y)],
    ]  # fmt: skip


def ssim_rows(pairs: Pairs, on_y: Pairs, scale: int) -> list[list[str]]:
    """Return (tool, call, SSIM) for whole images, and the Y of images without border."""
    as_papers = pyiqa.create_metric('ssim', test_y_channel=True, color_space='ycbcr', crop_border=scale)
    gaussian = {'gaussian_weights': True, 'sigma': 1.5, 'use_sample_covariance': False, 'data_range': 255}
    return [
        ['BasicSR', f'calculate_ssim, crop_border={scale}, test_y_channel',
         mean(lambda s, g: calculate_ssim(s, g, scale, test_y_channel=True), pairs)],
        ['kdsr', 'benchmark, test', mean(lambda s, g: score(s, g, scale)[1], pairs)],
        ['pyiqa', "'ssim', test_y_channel, color_space='ycbcr', crop_border",
         mean(lambda s, g: as_papers(as_tensor(s), as_tensor(g)), pairs)],
        ['scikit-image', 'Y, data_range=255 (7x7 mean)',
         mean(lambda s, g: structural_similarity(g, s, data_range=255), on_y)],
        ['scikit-image', 'Y, gaussian_weights, sigma=1.5, no sample covariance',
         mean(lambda s, g: structural_similarity(g, s, **gaussian), on_y)],
        ['torchmetrics', 'Y, data_range=1',
         mean(lambda s, g: torchmetrics.structural_similarity_index_measure(as_tensor(s), as_tensor(g), data_range=1.0),
              on_y)],
        ['piq', 'ssim of Y (downsample=True)', mean(lambda s, g: piq.ssim(as_tensor(s), as_tensor(g)), on_y)],
        ['piq', 'ssim of Y, downsample=False',
         mean(lambda s, g: piq.ssim(as_tensor(s), as_tensor(g), downsample=False), on_y)],
        ['kornia', 'ssim of Y, window 11 (mean of the map)',
         mean(lambda s, g: kornia.metrics.ssim(as_tensor(s), as_tensor(g), 11).mean(), on_y)],
    ]  # fmt: skip


def onnx_resize(image: np.ndarray, scale: int) -> np.ndarray:
    """Downsample with ONNX's Resize: cubic, a = -0.5, antialias."""
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node('Resize', ['x', '', 'scales'], ['y'], mode='cubic', cubic_coeff_a=-0.5, antialias=1)],
        'resize',
        [onnx.helper.make_tensor_value_info('x', onnx.TensorProto.FLOAT, [1, 3, None, None])],
        [onnx.helper.make_tensor_value_info('y', onnx.TensorProto.FLOAT, [1, 3, None, None])],
        [onnx.helper.make_tensor('scales', onnx.TensorProto.FLOAT, [4], [1, 1, 1 / scale, 1 / scale])],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid('', 18)], ir_version=9)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=['CPUExecutionProvider'])
    (found,) = session.run(None, {'x': image.astype(np.float32).transpose(2, 0, 1)[None]})
    return rounded(found[0].transpose(1, 2, 0))


def rounded(image: np.ndarray) -> np.ndarray:
    """Return an image in 8 bits."""
    return np.ascontiguousarray(np.clip(np.rint(image), 0, 255).astype(np.uint8))


def torch_resize(image: np.ndarray, scale: int, kind: torch.dtype, antialias: bool = True) -> np.ndarray:
    """Downsample with torch's bicubic interpolation, of uint8 or float."""
    tensor = torch.from_numpy(image.transpose(2, 0, 1).copy())[None].to(kind)
    size = [side // scale for side in image.shape[:2]]
    small = F.interpolate(tensor, size=size, mode='bicubic', antialias=antialias, align_corners=False)
    return rounded(small[0].numpy().transpose(1, 2, 0).astype(np.float64))


def cv2_resize(image: np.ndarray, scale: int, how: int) -> np.ndarray:
    """Downsample with OpenCV."""
    return cv2.resize(image, (image.shape[1] // scale, image.shape[0] // scale), interpolation=how)


def pillow_resize(image: np.ndarray, scale: int) -> np.ndarray:
    """Downsample with Pillow's bicubic."""
    size = (image.shape[1] // scale, image.shape[0] // scale)
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))


DOWNSAMPLERS: Mapping[str, Callable[[np.ndarray, int], np.ndarray]] = {
    "MATLAB's imresize (kdsr)": imresize_bicubic,
    'Pillow, BICUBIC': pillow_resize,
    'torch, bicubic, antialias, uint8': lambda image, s: torch_resize(image, s, torch.uint8),
    'torch, bicubic, antialias, float': lambda image, s: torch_resize(image, s, torch.float32),
    'torch, bicubic, no antialias': lambda image, s: torch_resize(image, s, torch.float32, antialias=False),
    'OpenCV, INTER_CUBIC': lambda image, s: cv2_resize(image, s, cv2.INTER_CUBIC),
    'OpenCV, INTER_AREA': lambda image, s: cv2_resize(image, s, cv2.INTER_AREA),
    'ONNX Resize, cubic, antialias, a=-0.5': onnx_resize,
}


def lr_rows(network: nn.Module, truths: Sequence[np.ndarray], scale: int) -> list[list[str]]:
    """Return (how LR is made, share of values that differ from MATLAB's, largest difference, PSNR, its change)."""
    wanted = [imresize_bicubic(gt, scale) for gt in truths]
    rows, best = [], 0.0
    for name, downsample in DOWNSAMPLERS.items():
        images = [downsample(gt, scale) for gt in truths]
        gaps = [np.abs(one.astype(int) - other) for one, other in zip(images, wanted)]
        differ = 100 * np.mean(np.concatenate([gap.ravel() > 0 for gap in gaps]))
        psnr = float(np.mean([score(super_resolve(network, lq), gt, scale)[0] for lq, gt in zip(images, truths)]))
        best = best or psnr
        rows.append(
            [name, f'{differ:.1f} %', str(max(int(gap.max()) for gap in gaps)), f'{psnr:.2f}', f'{psnr - best:+.2f}']
        )
    return rows


def grey_rows(pairs: Pairs, scale: int) -> list[list[str]]:
    """Return (file, PSNR) of the same grey pictures as files of one and of three channels."""
    grey = [tuple(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY) for image in pair) for pair in pairs]
    flat = mean(lambda s, g: calculate_psnr(s, g, scale, test_y_channel=True), grey)
    three = [tuple(np.repeat(image[..., None], 3, axis=2) for image in pair) for pair in grey]
    return [
        ['one channel, (H, W)', flat],
        ['three equal channels', mean(lambda s, g: calculate_psnr(s, g, scale, test_y_channel=True), three)],
    ]


def versions() -> str:
    """Return the versions of all packages, in words."""
    return ', '.join(f'{name} {importlib.metadata.version(name)}' for name in PACKAGES)


def main() -> None:
    """Measure, and print the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--weights', required=True, help='official weights of IMDN x4, or of another network')
    parser.add_argument('--set', required=True, help='folder of a test set')
    parser.add_argument('--template', default='benchmarks/comparability.md.in', help='the text around the tables')
    args = parser.parse_args()
    options, weights = identify(args.weights)
    network = build('network', options, weights, args.weights)
    scale = scale_of(network, options)
    (test_set,) = find_sets([args.set], scale)
    loaded = [read_pair(pair, scale, locate_lr_cache()) for pair in test_set.pairs]
    truths = [gt for _, gt in loaded]
    pairs = [(super_resolve(network, lq), gt) for lq, gt in loaded]
    cut = [tuple(image[scale:-scale, scale:-scale] for image in pair) for pair in pairs]
    on_y = [tuple(luminance(np.ascontiguousarray(image)) for image in pair) for pair in cut]
    tables = {
        'psnr': markdown_table(['tool', 'call', 'PSNR [dB]'], psnr_rows(pairs, cut, on_y, scale), numbers=[2]),
        'ssim': markdown_table(['tool', 'call', 'SSIM'], ssim_rows(pairs, on_y, scale), numbers=[2]),
        'grey': markdown_table(['file', 'BasicSR [dB]'], grey_rows(pairs, scale), numbers=[1]),
        'lr': markdown_table(
            ['LR images', 'values that differ', 'largest difference', 'PSNR [dB]', 'change [dB]'],
            lr_rows(network, truths, scale),
            numbers=[1, 2, 3, 4],
        ),
        'about': f'Network: {options["type"]} x{scale}, official weights. Images: {test_set.name}. Date: '
        f'{datetime.date.today().isoformat()}. Versions: {versions()}, '
        f'kdsr {kdsr.__version__}.',
    }
    with open(args.template, encoding='utf-8') as file:
        page = file.read()
    for key, text in tables.items():
        page = page.replace(f'<!-- {key} -->', text)
    print(page, end='')


if __name__ == '__main__':
    main()
