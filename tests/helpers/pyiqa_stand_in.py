"""A package `pyiqa` with the interface that kdsr uses, and metrics whose values can be computed by hand."""

import sys
from pathlib import Path

URL = 'https://weights.invalid/net-1234abcd.pth'
CONFIGURATIONS = """
DEFAULT_CONFIGS = {
    'lpips': {'metric_mode': 'FR', 'lower_better': True},
    'musiq': {'metric_mode': 'NR'},
    'loaded': {'metric_mode': 'NR'},
    'fid': {'metric_mode': 'NR', 'lower_better': True},
}
"""
PACKAGE = f"""
import numpy as np
import random
import torch
from pyiqa.default_model_configs import DEFAULT_CONFIGS
from pyiqa.utils import download_util

__version__ = '9.9'


class Metric(torch.nn.Module):
    def __init__(self, name):
        super().__init__()
        self.name = name
        self.metric_mode = DEFAULT_CONFIGS[name]['metric_mode']
        self.noise = torch.nn.Parameter(torch.rand(1))  # networks draw their first weights
        random.random(), np.random.rand()

    def forward(self, image, gt=None):
        assert 0 <= image.min() and image.max() <= 1
        if self.name == 'lpips':  # the weights tell red from blue
            return ((image - gt).abs().mean((2, 3)) * torch.tensor([1.0, 10.0, 100.0])).sum()
        return image.mean() + 1e-3 * torch.rand(()) + 0 * self.noise


def create_metric(name, as_loss=False, device=None, pretrained_model_path=None, **settings):
    if settings.get('net') == 'impossible':
        raise KeyError('impossible')
    if name == 'loaded':
        if pretrained_model_path is None:
            torch.hub.load_state_dict_from_url('{URL}')
        torch.load(pretrained_model_path, weights_only=False)
    return Metric(name)
"""


def install(folder: Path, monkeypatch) -> None:
    """Make the package importable, in place of an installed one."""
    (folder / 'pyiqa' / 'utils').mkdir(parents=True)
    (folder / 'pyiqa' / '__init__.py').write_text(PACKAGE)
    (folder / 'pyiqa' / 'default_model_configs.py').write_text(CONFIGURATIONS)
    (folder / 'pyiqa' / 'utils' / '__init__.py').write_text('')
    (folder / 'pyiqa' / 'utils' / 'download_util.py').write_text('from torch.hub import download_url_to_file\n')
    for name in [name for name in sys.modules if name.split('.')[0] == 'pyiqa']:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(str(folder))
