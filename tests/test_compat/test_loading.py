"""Weights of any origin. `__wrapped__` is BasicSR's own function."""

import pytest
import torch
from basicsr.models.base_model import BaseModel


@pytest.mark.parametrize('param_key', [None, 'params', 'params_ema'])
def test_bare_weights_are_loaded_whatever_key_is_asked_for(tmp_path, param_key):
    source, target = torch.nn.Conv2d(1, 1, 1), torch.nn.Conv2d(1, 1, 1)
    torch.save(source.state_dict(), tmp_path / 'bare.pth')
    model = BaseModel({'num_gpu': 0, 'is_train': True, 'dist': False})
    model.load_network(target, str(tmp_path / 'bare.pth'), True, param_key)
    assert torch.equal(source.weight, target.weight)
    if param_key:
        with pytest.raises(KeyError):
            BaseModel.load_network.__wrapped__(model, target, str(tmp_path / 'bare.pth'), True, param_key)
