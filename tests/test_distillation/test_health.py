import math
import re

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from kdsr.data.matlab_bicubic import imresize_bicubic
from kdsr.distillation.health import check_teacher
from kdsr.distillation.outputs import Batch
from kdsr.distillation.teacher import FrozenNetwork, TeacherEnsemble
from kdsr.errors import UserError
from tests.conftest import network_opt


def pairs(scale=2, count=2, seed=0):
    """Coloured shapes with sharp edges on soft ground, and their bicubic reduction."""
    rng, images = np.random.default_rng(seed), []
    y, x = np.mgrid[:48, :48]
    for _ in range(2 * count):
        image = np.stack([(40 * k + 2 * x + y) % 256 for k in rng.integers(0, 4, 3)], -1).astype(np.float64)
        for cx, cy, r in rng.integers(6, 42, (5, 3)):
            image[(x - cx) ** 2 + (y - cy) ** 2 < r**2 / 4] = rng.integers(0, 256, 3)
        images.append(image.astype(np.uint8))
    to_tensor = lambda batch: torch.from_numpy(np.stack(batch)).permute(0, 3, 1, 2).float() / 255  # noqa: E731
    reduced = [imresize_bicubic(image, scale) for image in images]
    return [Batch(to_tensor(reduced[i : i + 2]), to_tensor(images[i : i + 2])) for i in range(0, 2 * count, 2)]


class Sharper(nn.Module):
    """Bicubic upsampling, then back-projection: half of what its reduction lacks is given back. Better than bicubic."""

    def __init__(self, scale=2, factor=1.0, order=(0, 1, 2)):
        super().__init__()
        self.scale, self.factor, self.order = scale, factor, list(order)
        self.weight = nn.Parameter(torch.zeros(1, 3, 1, 1))

    def up(self, image):
        return F.interpolate(image, scale_factor=self.scale, mode='bicubic', align_corners=False)

    def forward(self, lq):
        image = self.up(lq)
        for _ in range(4):
            image = image + self.up(lq - F.avg_pool2d(image, self.scale)) / 2
        return image[:, self.order] * self.factor


def ensemble(inputs=None, aggregator=None, **networks):
    return TeacherEnsemble({n: FrozenNetwork(network) for n, network in networks.items()}, inputs, aggregator)


def psnr(image, gt):
    return -10 * math.log10(((image.clamp(0, 1) - gt) ** 2).mean().item())


@pytest.mark.parametrize('scale', [2, 3, 4])
def test_a_good_teacher_passes_with_its_psnr(scale):
    batch = pairs(scale, count=1)[0]
    line = check_teacher(ensemble(good=Sharper(scale)), [batch], scale)
    bicubic = F.interpolate(batch.lq, scale_factor=scale, mode='bicubic', align_corners=False)
    values = psnr(bicubic, batch.gt), psnr(Sharper(scale)(batch.lq), batch.gt)
    assert line == f'Teachers on training pairs: bicubic upsampling {values[0]:.2f} dB, good {values[1]:.2f} dB'
    assert values[1] > values[0] + 0.1


def test_error_is_that_of_all_pairs_together():
    batches = pairs(count=3)
    whole = Batch(torch.cat([b.lq for b in batches]), torch.cat([b.gt for b in batches]))
    teacher = ensemble(good=Sharper())
    assert check_teacher(teacher, iter(batches), 2) == check_teacher(teacher, [whole], 2)


@pytest.mark.parametrize(
    ('bad', 'why'),
    [
        (Sharper(factor=255.0), '0..255'),
        (Sharper(factor=1 / 255), 'a 255th'),
        (Sharper(order=(2, 1, 0)), 'BGR'),
        (Sharper(factor=float('nan')), 'nan'),
    ],
    ids=lambda v: v if isinstance(v, str) else '',
)
def test_a_teacher_worse_than_bicubic_is_refused_by_name(bad, why):
    message = r"teacher 'swinir' reaches (-?[\d.]+|nan) dB .*, less than bicubic upsampling \([\d.]+ dB\). Wrong range"
    with pytest.raises(UserError, match=message):
        check_teacher(ensemble(rcan=Sharper(), swinir=bad), pairs(), 2)


def test_the_line_is_drawn_at_bicubic_itself():
    class Bicubic(nn.Module):
        def __init__(self, offset):
            super().__init__()
            self.offset = offset

        def forward(self, lq):
            return F.interpolate(lq, scale_factor=2, mode='bicubic', align_corners=False) + self.offset

    assert check_teacher(ensemble(a=Bicubic(0.0)), pairs(), 2)
    with pytest.raises(UserError, match="teacher 'a' reaches"):
        check_teacher(ensemble(a=Bicubic(0.01)), pairs(), 2)


def test_random_weights_are_refused(workspace):
    from basicsr.archs import build_network

    for name in ('EDSR', 'RCAN', 'SwinIR'):
        with pytest.raises(UserError, match=f"teacher '{name}' reaches"):
            check_teacher(ensemble(**{name: build_network(network_opt(name))}), pairs(), 2)


def test_the_fused_image_of_good_teachers_is_checked_too():
    class Wrong(nn.Module):
        def forward(self, images):
            return images[:, [5, 4, 3]]

    line = check_teacher(ensemble(a=Sharper(), b=Sharper()), pairs(), 2)
    values = re.search(r'a ([\d.]+) dB, b ([\d.]+) dB, all teachers fused ([\d.]+) dB', line).groups()
    assert len(set(values)) == 1  # the mean of two like teachers is as good as each
    with pytest.raises(UserError, match='all teachers fused reach'):
        check_teacher(ensemble(a=Sharper(), b=Sharper(), aggregator=FrozenNetwork(Wrong())), pairs(), 2)


def test_a_privileged_teacher_is_shown_the_ground_truth():
    class Same(nn.Module):
        def forward(self, image):
            return image

    assert 'a 120.00 dB' in check_teacher(ensemble({'a': 'gt'}, a=Same()), pairs(), 2)


def test_a_teacher_of_another_scale_is_named():
    with pytest.raises(UserError, match=r"teacher 'b': its image is \(3, 72, 72\).* network for x2"):
        check_teacher(ensemble(a=Sharper(), b=Sharper(scale=3)), pairs(), 2)


def test_flat_images_judge_no_one():
    flat = Batch(torch.full((1, 3, 8, 8), 0.5), torch.full((1, 3, 16, 16), 0.5))
    assert 'not checked' in check_teacher(ensemble(a=Sharper(factor=1.01)), [flat], 2)


def test_pairs_are_needed():
    with pytest.raises(UserError, match='no training pairs'):
        check_teacher(ensemble(a=Sharper()), [], 2)
    with pytest.raises(UserError, match='needs the ground truth'):
        check_teacher(ensemble(a=Sharper()), [Batch(torch.rand(1, 3, 8, 8))], 2)


def test_all_processes_come_to_one_verdict(monkeypatch):
    """The other process saw errors of 1 on a thousand times as many values, in bicubic upsampling or in the teacher."""
    others = torch.tensor([0.0, 1e7, 1e7])
    monkeypatch.setattr(torch.distributed, 'is_initialized', lambda: True)
    monkeypatch.setattr(torch.distributed, 'all_reduce', lambda sums: sums.add_(others))
    with pytest.raises(UserError, match="teacher 'a' reaches"):
        check_teacher(ensemble(a=Sharper()), pairs(), 2)
    others = torch.tensor([1e7, 0.0, 1e7])
    assert 'Teachers on training pairs' in check_teacher(ensemble(a=Sharper(factor=255.0)), pairs(), 2)


def test_random_numbers_and_gradients_are_left_alone():
    teacher, state = ensemble(a=Sharper()), torch.get_rng_state()
    check_teacher(teacher, pairs(), 2)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(p.grad is None for p in teacher.parameters())
