"""Where bf16 is slower than fp32, a run says so."""

import pytest
import torch

from kdsr.distillation import precision
from kdsr.distillation.precision import find_slow_precision, has_bf16_instructions

CPU = torch.device('cpu')


@pytest.mark.parametrize(('avx', 'amx'), [(True, False), (False, True), (False, False)])
def test_bf16_is_warned_of_where_the_processor_has_no_instructions_for_it(avx, amx, monkeypatch):
    monkeypatch.setattr(precision.platform, 'machine', lambda: 'x86_64')
    monkeypatch.setattr(torch.cpu, '_is_avx512_bf16_supported', lambda: avx, raising=False)
    monkeypatch.setattr(torch.cpu, '_is_amx_tile_supported', lambda: amx, raising=False)
    assert has_bf16_instructions() == (avx or amx)
    assert (find_slow_precision(CPU, 'bf16') is None) == (avx or amx)


def test_nothing_is_said_elsewhere(monkeypatch):
    monkeypatch.setattr(precision, 'has_bf16_instructions', lambda: False)
    assert find_slow_precision(CPU, 'fp32') is None
    assert find_slow_precision(CPU, None) is None
    assert find_slow_precision(torch.device('cuda'), 'bf16') is None
    assert 'slower than fp32' in find_slow_precision(CPU, 'bf16')


def test_other_processors_are_left_to_pytorch(monkeypatch):
    monkeypatch.setattr(precision.platform, 'machine', lambda: 'arm64')
    monkeypatch.setattr(torch.cpu, '_is_avx512_bf16_supported', lambda: False, raising=False)
    assert has_bf16_instructions()
