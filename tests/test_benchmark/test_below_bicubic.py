"""No network is scored or enlarges with below bicubic upsampling without a loud line."""

import pytest
import torch
from basicsr.archs import build_network

from kdsr.benchmark.report import warn_if_below_bicubic
from kdsr.benchmark.results import ImageScore, SetScores
from kdsr.deployment.sources import read_model

SMALL = {'type': 'RFDN', 'upscale': 2, 'num_feat': 8, 'num_block': 1}


def scores(*images):
    return SetScores(
        model='mine', scale=2, set_name='Set5', lr_origin='', crop=2, source='', fingerprint='', parameters=1,
        luminance=False, quadrants=False, seconds=1.0, images=images,
    )  # fmt: skip


def test_the_compared_images_decide():
    below = scores(ImageScore('a', 30.0, 0.9, 31.0), ImageScore('b', 20.0, 0.5, 20.5), ImageScore('c', 1.0, 0.0))
    assert below.lost_to_bicubic == pytest.approx(0.75)
    assert 'mine x2 is 0.75 dB below bicubic upsampling on Set5' in warn_if_below_bicubic(below)
    assert warn_if_below_bicubic(scores(ImageScore('a', 30.0, 0.9, 29.0))) is None
    assert warn_if_below_bicubic(scores(ImageScore('a', 30.0, 0.9))) is None  # bicubic itself


def test_a_model_without_a_card_is_tried_on_photos(tmp_path):
    """`kdsr upscale` wrote a ruined picture with exit 0."""
    torch.save({'params': build_network(SMALL).state_dict(), 'network': SMALL}, tmp_path / 'random.pth')
    told = []
    read_model(str(tmp_path / 'random.pth'), notice=told.append)
    assert len(told) == 1
    assert told[0].startswith('WARNING: random reaches')
    read_model('rfdn_tiny_x2', notice=told.append)
    assert len(told) == 1
