"""Pictures of a folder as tensors, and networks from their files."""

from pathlib import Path

import cv2
import torch
from basicsr.archs import build_network


def float_images(folder):
    """RGB in [0, 1], (1, 3, H, W), in the order of the file names."""
    files = sorted(Path(folder).glob('*.png'))
    return [torch.from_numpy(cv2.imread(str(f))[..., ::-1].copy()).permute(2, 0, 1)[None] / 255 for f in files]


def network(opt, path, key):
    built = build_network(opt).eval()
    built.load_state_dict(torch.load(path, weights_only=True)[key])
    return built
