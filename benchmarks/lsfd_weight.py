"""How much LSFD's published weights count, by the reading of its norm, while a student learns.

    python benchmarks/lsfd_weight.py --weights IMDN_x4.pth --images datasets/BSD400

The teacher is the official IMDN x4, the student an IMDN of three blocks. The student learns from the two image losses
of the paper alone; so all readings see the same student. The regressors of every reading learn beside it. At some
iterations, each reading's term and its gradient in the student are compared with those of the image losses.
Writes benchmarks/results/lsfd_weight_<device>.md.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Sequence
from pathlib import Path

import kdsr
from kdsr.data.matlab_bicubic import imresize_bicubic
from kdsr.data.random_crops import crop_randomly
from kdsr.data.source_images import list_sources, read_rgb
from kdsr.distillation.feature_tap import FeatureTap
from kdsr.losses import LSFDLoss

# isort: split
import numpy as np
import torch
from basicsr.archs import build_network
from side_by_side import keep, machine
from torch import Tensor, nn

SCALE = 4
IMAGE_TERMS = 'the image losses'
POINTS = {
    'early': ('body.0', 'body.1'),
    'middle': ('body.1', 'body.3'),
    'late': ('upsample:input', 'upsample:input'),
}
NORMS = ('l2_flat', 'l2_spatial', 'l2_channel', 'none')
READINGS = {
    'LFD, l2_flat': {'selective': False},
    **{f'LSFD, {norm}': {'feature_norm': norm} for norm in NORMS},
}
Pair = tuple[np.ndarray, np.ndarray]


def load_pairs(folder: Path, crop: int) -> list[Pair]:
    """Return the images of a folder with their bicubic reductions, (C, h, w) and (C, S*h, S*w)."""
    pairs = []
    for source in list_sources(folder, smallest=SCALE * crop, lmdb_names=False):
        image, _ = read_rgb(source.path)
        height, width = (side - side % SCALE for side in image.shape[:2])
        gt = np.ascontiguousarray(image[:height, :width])
        pairs.append(tuple(x.transpose(2, 0, 1) for x in (imresize_bicubic(gt, SCALE), gt)))
    return pairs


def draw_batch(pairs: Sequence[Pair], size: int, crop: int) -> kdsr.Batch:
    """Return random crops, flipped at random in width, in [0, 1]."""
    opt = {'gt_size': SCALE * crop, 'scale': SCALE, 'use_hflip': True, 'use_rot': False}
    samples = [crop_randomly(dict(zip(('lq', 'gt'), random.choice(pairs))), opt, 'image') for _ in range(size)]
    lq, gt = (torch.from_numpy(np.stack([s[name] for s in samples])).float() / 255 for name in ('lq', 'gt'))
    return kdsr.Batch(lq, gt)


class Measurement:
    """A student, its teacher, and one loss per reading.

    Args:
        weights: The teacher's.
    """

    def __init__(self, weights: str) -> None:
        self.teacher = kdsr.load_network(weights)
        self.student = build_network({'type': 'IMDN', 'upscale': SCALE, 'num_block': 3})
        self.taps = [
            FeatureTap(network, {name: points[i] for name, points in POINTS.items()})
            for i, network in enumerate((self.student, self.teacher))
        ]
        example = torch.rand(1, 3, 16, 16)
        for tap in self.taps:
            tap.calibrate(lambda network=tap.network: network(example))
        self.losses = {name: LSFDLoss(**options) for name, options in READINGS.items()}
        for loss in self.losses.values():
            loss.build_helpers(*self.run(kdsr.Batch(example)))
        self.optimisers = [self._optimise(module) for module in (self.student, *self.losses.values())]

    @staticmethod
    def _optimise(module: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.Adam(module.parameters(), 1e-4, betas=(0.9, 0.99))

    def run(self, batch: kdsr.Batch) -> tuple[kdsr.NetworkOutput, kdsr.NetworkOutput]:
        """Return the outputs of student and teacher."""
        outputs = []
        for tap, learns in zip(self.taps, (True, False)):
            with torch.set_grad_enabled(learns), tap as features:
                image = tap.network(batch.lq)
            outputs.append(kdsr.NetworkOutput(image, dict(features)))
        return tuple(outputs)

    def image_term(self, student: kdsr.NetworkOutput, teacher: kdsr.NetworkOutput, batch: kdsr.Batch) -> Tensor:
        """Return Eq. (1) of the paper, for images in 0..255."""
        return 255 * ((student.sr - batch.gt).abs().mean() + (student.sr - teacher.sr).abs().mean()) / 2

    def step(self, batch: kdsr.Batch) -> None:
        """Let the student learn from the images, and every reading's regressors from its loss."""
        student, teacher = self.run(batch)
        seen = kdsr.NetworkOutput(student.sr.detach(), {n: f.detach() for n, f in student.features.items()})
        total = self.image_term(student, teacher, batch)
        total = total + sum(loss(seen, teacher, batch) for loss in self.losses.values())
        for optimiser in self.optimisers:
            optimiser.zero_grad()
        total.backward()
        for optimiser in self.optimisers:
            optimiser.step()

    def measure(self, batches: Sequence[kdsr.Batch]) -> dict[str, tuple[float, float]]:
        """Return the mean value and gradient norm of each reading, divided by those of the image losses."""
        found: dict[str, list[tuple[float, float]]] = {}
        for batch in batches:
            student, teacher = self.run(batch)
            terms = {IMAGE_TERMS: self.image_term(student, teacher, batch)}
            terms |= {name: loss(student, teacher, batch) for name, loss in self.losses.items()}
            sizes = {name: (term.item(), self._gradient_norm(term)) for name, term in terms.items()}
            value, gradient = sizes.pop(IMAGE_TERMS)
            for name, (own_value, own_gradient) in sizes.items():
                found.setdefault(name, []).append((own_value / value, own_gradient / gradient))
        return {name: tuple(np.mean(shares, axis=0).tolist()) for name, shares in found.items()}

    def _gradient_norm(self, term: Tensor) -> float:
        found = torch.autograd.grad(term, list(self.student.parameters()), retain_graph=True, allow_unused=True)
        return torch.stack([gradient.norm() for gradient in found if gradient is not None]).norm().item()


def main() -> None:
    """Measure and write the result."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--weights', required=True, help='the official IMDN_x4.pth')
    parser.add_argument('--images', required=True, type=Path, help='folder of high-resolution images')
    parser.add_argument('--at', type=int, nargs='+', default=[1, 50, 100, 200], help='iterations to measure at')
    parser.add_argument('--batch', type=int, default=2)
    parser.add_argument('--crop', type=int, default=48, help='side of the low-resolution crops')
    args = parser.parse_args()
    torch.manual_seed(0)
    random.seed(0)
    pairs, measurement = load_pairs(args.images, args.crop), Measurement(args.weights)
    fixed = [draw_batch(pairs, 2 * args.batch, args.crop) for _ in range(3)]
    columns: dict[str, list[str]] = {name: [] for name in READINGS}
    for iteration in range(1, max(args.at) + 1):
        if iteration in args.at:
            for name, (value, gradient) in measurement.measure(fixed).items():
                columns[name].append(f'{value:.2f}; {gradient:.4f}')
        measurement.step(draw_batch(pairs, args.batch, args.crop))
    lines = ["# LSFD's published weights, by the norm of its features", '']
    lines += ['A term divided by the two image losses: its value; the norm of its gradient in the student.', '']
    lines += [f'| | {" | ".join(f"iteration {i}" for i in args.at)} |', '|---' * (len(args.at) + 1) + '|']
    lines += [f'| {name} | {" | ".join(cells)} |' for name, cells in columns.items()]
    what = f'IMDN x4, LR {args.crop}, batch {args.batch}, {len(pairs)} images, one seed; {machine()}'
    keep('lsfd_weight', [*lines, '', f'{what} `python benchmarks/lsfd_weight.py`.'])


if __name__ == '__main__':
    main()
