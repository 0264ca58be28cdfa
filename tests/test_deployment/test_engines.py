"""Runtimes: what is chosen, that it gives what PyTorch gives, and what happens where it cannot."""

import sys
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import nn

from kdsr.deployment import Upscaler, engines
from kdsr.deployment.engines import PixelRunner, installed_engine, is_out_of_memory
from kdsr.errors import UserError

CPU, GPU = torch.device('cpu'), torch.device('cuda')
PHOTO = np.random.default_rng(0).integers(0, 256, (40, 56, 4), np.uint8)


@pytest.fixture
def installed(monkeypatch):
    """Pretend that only these packages are installed."""

    def pretend(*names):
        monkeypatch.setattr(engines, 'is_installed', lambda name: name in names)

    return pretend


def test_the_fastest_engine_that_is_installed_is_chosen(installed):
    installed('onnx', 'onnxruntime', 'openvino')
    assert installed_engine('auto', 'fp32', CPU) == 'openvino'
    assert installed_engine('auto', 'bf16', CPU) == 'openvino'
    assert installed_engine('auto', 'fp16', CPU) == 'torch'
    assert installed_engine('auto', 'fp32', GPU) == 'torch'
    assert installed_engine('torch', 'fp32', CPU) == 'torch'
    installed('onnx', 'onnxruntime')
    assert installed_engine('auto', 'fp32', CPU) == 'onnx'
    assert installed_engine('auto', 'bf16', CPU) == 'torch'
    for names in ((), ('onnx',), ('onnxruntime', 'openvino')):
        installed(*names)
        assert installed_engine('auto', 'fp32', CPU) == 'torch'


@pytest.mark.parametrize(('engine', 'precision', 'device', 'reason'), [
    ('onnx', 'fp32', GPU, 'runs on the CPU'),
    ('openvino', 'fp32', GPU, 'runs on the CPU'),
    ('onnx', 'bf16', CPU, 'bf16'),
    ('openvino', 'fp16', CPU, 'fp16'),
])  # fmt: skip
def test_what_an_engine_does_not_do_is_one_message(engine, precision, device, reason):
    with pytest.raises(UserError, match=reason):
        installed_engine(engine, precision, device)


@pytest.mark.parametrize(('engine', 'package'), [('openvino', 'openvino'), ('onnx', 'onnxruntime'), ('onnx', 'onnx')])
def test_an_engine_that_is_not_installed_is_told_before_any_image(engine, package, monkeypatch):
    for name in ('onnx', 'onnxruntime', 'openvino'):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError, match=f'--engine {engine} needs {package} .*pip install'):
        installed_engine(engine, 'fp32', CPU)


@pytest.mark.parametrize('engine', ['onnx', 'openvino'])
@pytest.mark.parametrize('name', ['fsrcnn_x2', 'rfdn_tiny_x3'])
@pytest.mark.parametrize('channels', [1, 3, 4])
def test_engines_give_what_pytorch_gives(engine, name, channels):
    pytest.importorskip('onnx')
    pytest.importorskip('openvino' if engine == 'openvino' else 'onnxruntime')
    image = PHOTO[..., 0] if channels == 1 else PHOTO[..., :channels]
    ours, torchs = Upscaler(name, engine=engine), Upscaler(name, engine='torch')
    assert (ours.engine, torchs.engine) == (engine, 'torch')
    assert np.abs(ours(image).astype(int) - torchs(image)).max() <= 1
    deep = image.astype(np.uint16) * 257
    assert np.abs(ours(deep).astype(int) - torchs(deep)).max() <= 30


@pytest.mark.parametrize('name', ['rfdn_tiny_x2', 'fsrcnn_x4'])
def test_bf16_in_openvino_is_close(name):
    pytest.importorskip('openvino')
    smooth = np.linspace(0, 255, 48 * 48 * 3).reshape(48, 48, 3).astype(np.uint8)
    low, full = (Upscaler(name, engine='openvino', precision=p)(smooth).astype(int) for p in ('bf16', 'fp32'))
    assert np.abs(low - full).max() <= 8


class Flipping(nn.Module):
    """Gives another result when it is traced, as networks do that ask Python for their sizes."""

    def forward(self, x):
        large = x.repeat_interleave(2, 2).repeat_interleave(2, 3)
        return 1 - large if torch.jit.is_tracing() else large


class Unexportable(nn.Module):
    """Uses what ONNX does not have."""

    def forward(self, x):
        large = x.repeat_interleave(2, 2).repeat_interleave(2, 3)
        return large + torch.special.bessel_j0(large) * 0


def runner(network, fall_back, told):
    return PixelRunner(
        network.eval(), scale=2, luminance=False, multiple=1, engine='onnx', fall_back=fall_back, device=CPU,
        precision='fp32', notice=told.append,
    )  # fmt: skip


@pytest.mark.parametrize(('network', 'reason'), [(Flipping, 'differs from PyTorch'), (Unexportable, 'exported')])
def test_a_network_that_an_engine_gets_wrong_runs_in_pytorch(network, reason):
    pytest.importorskip('onnxruntime')
    told, pixels = [], torch.from_numpy(PHOTO[None, ..., :3].copy())
    one = runner(network(), True, told)
    expected = PHOTO[..., :3].repeat(2, axis=0).repeat(2, axis=1)
    np.testing.assert_array_equal(one.run(pixels)[0].numpy(), expected)
    assert one.engine == 'torch'
    assert reason in told[0]
    with pytest.raises(UserError, match=reason):
        runner(network(), False, told).run(pixels)


class Broken(nn.Module):
    """Gives one value that is not finite."""

    def __init__(self, value):
        super().__init__()
        self.value = value

    def forward(self, x):
        large = x.repeat_interleave(2, 2).repeat_interleave(2, 3)
        return torch.cat([torch.full_like(large[..., :1], self.value), large[..., 1:]], dim=-1)


@pytest.mark.parametrize('value', [float('nan'), float('inf'), -float('inf')])
@pytest.mark.parametrize('engine', ['torch', 'onnx', 'openvino'])
def test_one_value_that_is_not_finite_is_no_image(value, engine, monkeypatch):
    pytest.importorskip('onnx')
    pytest.importorskip({'torch': 'torch', 'onnx': 'onnxruntime', 'openvino': 'openvino'}[engine])
    monkeypatch.setattr(engines, '_TOLERANCE', {'fp32': float('inf')})
    one = runner(Broken(value), False, [])
    one.engine = engine
    for pixels in (torch.from_numpy(PHOTO[None, ..., :3].copy()), torch.rand(1, 8, 8, 3), torch.rand(1, 8, 8, 1)):
        with pytest.raises(UserError, match='not finite'):
            one.run(pixels)


def test_what_a_lack_of_memory_looks_like():
    for error in (MemoryError(), torch.cuda.OutOfMemoryError('x'), RuntimeError('DefaultCPUAllocator: out of memory')):
        assert is_out_of_memory(error)
    assert not is_out_of_memory(RuntimeError('size mismatch'))
