"""Weights of any origin. `__wrapped__` is BasicSR's own function."""

from pathlib import Path

import numpy as np
import pytest
import torch
from basicsr.archs import build_network
from basicsr.models.base_model import BaseModel

from kdsr.compat.loading import read_checkpoint
from kdsr.distillation.checkpoint import load_weights
from kdsr.errors import UserError


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


class Code:
    def __reduce__(self):
        return Path.touch, (Path('code_was_run'),)


@pytest.mark.parametrize(
    ('network', 'key'),
    [('SpyNet', 'load_path'), ('BasicVSR', 'spynet_path'), ('DFDNet', 'dict_path')],
)
def test_networks_that_read_files_themselves_run_no_code(tmp_path, monkeypatch, network, key):
    """PyTorch's own loader unpickles with this variable, which many guides for old checkpoints set."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD', '1')
    torch.save({'params': Code()}, 'file.pth')
    arguments = {'num_feat': 64} if network == 'DFDNet' else {}
    with pytest.raises(UserError, match='nothing in it was run'):
        build_network({'type': network, key: 'file.pth', **arguments})
    assert not Path('code_was_run').exists()


def test_pytorch_would_run_it(tmp_path, monkeypatch):
    """The test above can fail: this is what it guards against."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD', '1')
    torch.save({'params': Code()}, 'file.pth')
    with pytest.warns(UserWarning, match='TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD'):
        torch.load('file.pth')
    assert Path('code_was_run').exists()


def test_spynet_reads_weights(tmp_path):
    network = build_network({'type': 'SpyNet'})
    weights = dict(network.named_parameters())  # BasicSR reads the file before it makes the buffers
    torch.save({'params': {key: value.data for key, value in weights.items()}}, tmp_path / 'spynet.pth')
    again = build_network({'type': 'SpyNet', 'load_path': str(tmp_path / 'spynet.pth')})
    assert all(torch.equal(a, b) for a, b in zip(network.state_dict().values(), again.state_dict().values()))


def model():
    return BaseModel({'num_gpu': 0, 'is_train': True, 'dist': False})


@pytest.mark.parametrize('key', ['model_state_dict', 'state_dict', 'net', 'g', 'params', None])
@pytest.mark.parametrize('prefix', ['', '_orig_mod.', 'module._orig_mod.', 'model.', 'net_g.', 'generator.'])
def test_weights_under_others_keys_and_names(tmp_path, key, prefix):
    """From torch.compile, Lightning, GAN code: each ended in "no tensor fits"."""
    source, target, teacher = (torch.nn.Sequential(torch.nn.Conv2d(1, 1, 1)) for _ in range(3))
    weights = {prefix + name: value for name, value in source.state_dict().items()}
    beside = {} if key is None else {'best_psnr': np.float64(31.4), 'epoch': 3}
    torch.save({key: weights, **beside} if key else weights, tmp_path / 'file.pth')
    model().load_network(target, str(tmp_path / 'file.pth'), True, 'params')
    load_weights(teacher, str(tmp_path / 'file.pth'))
    for network in (target, teacher):
        assert torch.equal(network[0].weight, source[0].weight)


def test_a_network_that_is_called_model_keeps_its_name(tmp_path):
    class Wrapper(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = torch.nn.Conv2d(1, 1, 1)

    source, target = Wrapper(), Wrapper()
    torch.save({'params': source.state_dict()}, tmp_path / 'file.pth')
    load_weights(target, str(tmp_path / 'file.pth'))
    assert torch.equal(target.model.weight, source.model.weight)


def test_losses_beside_the_network_in_one_state_dict(tmp_path):
    source, target = torch.nn.Conv2d(1, 1, 1), torch.nn.Conv2d(1, 1, 1)
    weights = {f'net_g.{name}': value for name, value in source.state_dict().items()}
    torch.save({'state_dict': {**weights, 'loss.vgg.weight': torch.zeros(3)}}, tmp_path / 'file.pth')
    load_weights(target, str(tmp_path / 'file.pth'))
    assert torch.equal(target.weight, source.weight)


def test_numpy_numbers_run_no_code(tmp_path):
    torch.save({'params': {'a': torch.ones(1)}, 'psnr': np.float32(3.5), 'iter': np.int64(7)}, tmp_path / 'file.pth')
    content = read_checkpoint(str(tmp_path / 'file.pth'))
    assert (content['psnr'], content['iter']) == (3.5, 7)
