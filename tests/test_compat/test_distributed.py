"""Distributed runs on a CPU, and the GPU of each process. `__wrapped__` is BasicSR's own function."""

import pytest
import torch
from basicsr.models.base_model import BaseModel
from basicsr.utils import dist_util
from basicsr.utils import options as basicsr_options

from kdsr.compat.option_files import settings
from kdsr.errors import UserError


def distributed_call(monkeypatch, gpus):
    calls = []
    monkeypatch.setitem(settings, 'cpu', False)  # as an option file that another test parsed may have left it
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: gpus)
    monkeypatch.setattr(torch.cuda, 'set_device', lambda device: calls.append(('device', device)))
    monkeypatch.setattr(torch.distributed, 'init_process_group', lambda **kw: calls.append(('backend', kw['backend'])))
    monkeypatch.setattr(dist_util.mp, 'set_start_method', lambda method: None)
    monkeypatch.setenv('RANK', '5')
    monkeypatch.setenv('LOCAL_RANK', '1')
    return calls


def test_distributed_runs_start_on_a_cpu(monkeypatch):
    calls = distributed_call(monkeypatch, gpus=0)
    basicsr_options.init_dist('pytorch')
    assert calls == [('backend', 'gloo')]
    with pytest.raises(ZeroDivisionError):
        dist_util.init_dist.__wrapped__('pytorch')


def test_on_gpus_the_backend_stays_and_the_local_rank_picks_the_device(monkeypatch):
    calls = distributed_call(monkeypatch, gpus=4)
    dist_util.init_dist('pytorch')
    assert ('backend', 'nccl') in calls
    assert calls[-1] == ('device', 1)


def test_a_network_is_wrapped_for_distributed_training_on_a_cpu(tmp_path):
    torch.distributed.init_process_group('gloo', init_method=f'file://{tmp_path}/store', rank=0, world_size=1)
    try:
        model = BaseModel({'num_gpu': 0, 'is_train': True, 'dist': True})
        net = model.model_to_device(torch.nn.Conv2d(3, 3, 1))
        assert net(torch.rand(1, 3, 4, 4)).shape == (1, 3, 4, 4)
        assert isinstance(net, torch.nn.parallel.DistributedDataParallel)
        if not torch.cuda.is_available():
            with pytest.raises((AssertionError, RuntimeError)):
                BaseModel.model_to_device.__wrapped__(model, torch.nn.Conv2d(3, 3, 1))
    finally:
        torch.distributed.destroy_process_group()


class HalfUsed(torch.nn.Module):
    """A network with a layer that its output does not depend on."""

    def __init__(self):
        super().__init__()
        self.used, self.forgotten = torch.nn.Conv2d(3, 3, 1), torch.nn.Conv2d(3, 3, 1)

    def forward(self, x):
        return self.used(x)


@pytest.mark.parametrize('finds', [False, True])
def test_layers_without_gradient_are_named_with_the_option_that_helps(tmp_path, finds):
    """PyTorch names their numbers alone, in the second step."""
    torch.distributed.init_process_group('gloo', init_method=f'file://{tmp_path}/store', rank=0, world_size=1)
    try:
        opt = {'num_gpu': 0, 'is_train': True, 'dist': True, 'find_unused_parameters': finds}
        net = BaseModel(opt).model_to_device(HalfUsed())
        net(torch.rand(1, 3, 4, 4)).sum().backward()
        if finds:
            net(torch.rand(1, 3, 4, 4)).sum().backward()
            return
        with pytest.raises(
            UserError, match=r'HalfUsed has 2 parameters .*: forgotten\.weight, forgotten\.bias\.'
        ) as error:
            net(torch.rand(1, 3, 4, 4))
        assert 'find_unused_parameters: true' in str(error.value)
    finally:
        torch.distributed.destroy_process_group()
