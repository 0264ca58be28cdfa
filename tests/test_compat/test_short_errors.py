"""Errors of BasicSR that did not say what the user can do."""

import re
import urllib.error

import numpy as np
import pytest
import torch
from basicsr.losses import build_loss
from basicsr.metrics import calculate_metric

from kdsr.compat import short_errors
from kdsr.errors import UserError


def niqe(height, width, crop_border):
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3)).astype(np.uint8)
    return calculate_metric({'img': image}, {'type': 'calculate_niqe', 'crop_border': crop_border})


def test_niqe_names_the_size_that_it_needs():
    """It ended with "axis 1 is out of bounds", or for one block with "SVD did not converge"."""
    for height, width in ((94, 400), (120, 191)):
        with pytest.raises(UserError, match=rf'calculate_niqe needs two blocks of 96x96 .*not {width}x{height}'):
            niqe(height + 2, width + 2, crop_border=1)
    assert niqe(98, 194, crop_border=1) > 0


@pytest.mark.filterwarnings('ignore:.*pretrained.*:UserWarning', 'ignore:Arguments other than a weight enum')
def test_a_perceptual_loss_without_its_file_names_its_place_and_its_address(tmp_path, monkeypatch):
    """It ended with "urlopen error"."""

    def refuse(*args, **kwargs):
        raise urllib.error.URLError('no route')

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(tmp_path / 'hub'))
    monkeypatch.setattr(torch.hub, 'download_url_to_file', refuse)
    with pytest.raises(UserError) as refusal:
        build_loss({'type': 'PerceptualLoss', 'layer_weights': {'conv5_4': 1}})
    text = str(refusal.value)
    assert 'no route' in text
    assert 'https://download.pytorch.org/models/vgg19-dcbb9e9d.pth' in text
    assert re.search(r'put it into experiments/pretrained_models/', text)


def test_the_file_is_found_in_both_places(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(tmp_path / 'hub'))
    assert short_errors.find_vgg19() is None
    for folder in ('hub/checkpoints', 'experiments/pretrained_models'):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / 'vgg19-dcbb9e9d.pth').touch()
        assert folder in short_errors.find_vgg19()
