"""The benchmarks run: their logic at small sizes, on a CPU. What they measure is for people to read."""

import importlib
import os
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from kdsr.errors import UserError
from tests.conftest import network_opt

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_losses_beside_their_plain_formulations(tmp_path):
    """At small sizes: whether both are equal, which the benchmark asserts, and whether it comes to its end."""
    env = {**os.environ, 'OMP_NUM_THREADS': '1', 'PYTHONWARNINGS': 'ignore', 'PYTHONPATH': str(ROOT)}
    command = [sys.executable, str(ROOT / 'benchmarks' / 'losses.py'), '--quick', '--out', str(tmp_path)]
    command += ['--only', 'WaveletLoss', 'WindowDCT', 'FAKDLoss', 'LSFDLoss 1x1']
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr[-3000:]
    lines = (tmp_path / 'losses_cpu.md').read_text(encoding='utf-8').splitlines()
    rows = [line.split('|')[1].strip() for line in lines if line.startswith('| ')]
    losses = ['WaveletLoss haar, level 1', 'WaveletLoss haar, level 4', 'FAKDLoss']
    losses += ['LSFDLoss 1x1', 'LSFDLoss 1x1, narrow']
    windows = ['WindowDCT 8x8, 24 channels, 64x64', 'WindowDCT 8x8, 96 channels, 32x32']
    assert rows == ['loss', *losses[:2], *windows, *losses[2:], 'step with', *losses]
    assert not any('nan' in line for line in lines)


@pytest.fixture
def benchmark(monkeypatch):
    """Import a benchmark as running it does: with its folder on the path."""
    monkeypatch.syspath_prepend(str(ROOT / 'benchmarks'))
    return importlib.import_module


def test_the_gpu_benchmark_measures_everything_it_says(benchmark, workspace, monkeypatch):
    gpu, student_step = benchmark('gpu'), benchmark('student_step')
    monkeypatch.setattr(torch, 'compile', lambda function: function)  # compiling takes minutes
    opt = {**workspace.options(scale=4), 'network_g': network_opt('EDSR', 4)}
    names = {'swinir': 'SwinIR', 'rcan': 'RCAN', 'edsr': 'EDSR', 'student': 'EDSR'}
    networks = {name: network_opt(network, 4) for name, network in names.items()}
    networks['aggregator'] = {**network_opt('DCTSwin', 4), 'num_teachers': 3}
    settings = gpu.Settings(
        {'tiny': opt}, batch=2, lq_size=8, mtkd_lq_size=8, rounds=1, workers=0, loaded=5, networks=networks
    )
    photos = workspace.images(size=64, scale=4, name='many')
    lines = gpu.measure(settings, dict.fromkeys(gpu.DATA.values(), photos), matrix=32)
    table = [[cell.strip() for cell in line.split('|')[1:-1]] for line in lines if line.startswith('| ')]
    students = [row for row in table if row[0] == 'tiny']
    assert [row[1] for row in students] == ['BasicSR, fp32', *student_step.VARIANTS, *student_step.COMPILED]
    assert students[0][4] == '1.00'
    assert all(float(cell) > 0 for row in students for cell in row[2:5])
    assert [row[1] for row in table if row[0].startswith('tiny,')] == list(gpu.DATA.values())
    steps = [row for row in table if row[0].endswith('(batch 2)')]
    assert steps[0][:3:2] == ['plain (batch 2)', '1.00']
    assert steps[-1][0].startswith('under autograd')
    assert len(steps) == 7
    assert not any(re.search(r'\b(nan|inf)\b', cell) for row in table for cell in row)


@pytest.mark.slow
def test_parity_finds_a_difference_and_two_processes_learn_what_one_does(benchmark, workspace, monkeypatch):
    parity = benchmark('gpu_parity')
    cpu = torch.device('cpu')
    table = [*parity.rows(parity.loss_differences, cpu), *parity.rows(parity.network_differences, cpu)]
    assert len(table) > 40
    assert all('| 0.0e+00 | 0.0e+00 | |' in row for row in table)
    distance = parity.losses.LOSS_REGISTRY.get('ResponseLoss').distance
    calls = []

    def off(self, *args):  # what the "device" computes, which comes first, is wrong
        calls.append(None)
        return distance(self, *args) * (1.01 if len(calls) % 2 else 1)

    monkeypatch.setattr(parity.losses.LOSS_REGISTRY.get('ResponseLoss'), 'distance', off)
    row = next(row for row in parity.rows(parity.loss_differences, cpu) if row.startswith('| ResponseLoss'))
    assert '**far**' in row
    said = parity.two_processes(workspace.root)
    assert float(re.search(r'differ by (.*)\.$', said)[1]) < 1e-4


@pytest.mark.skipif(torch.cuda.is_available(), reason='there is a GPU, and it would be measured')
def test_without_a_gpu_nothing_is_measured(benchmark, monkeypatch, capsys):
    monkeypatch.setattr('sys.argv', ['gpu.py'])
    benchmark('gpu').main()
    assert capsys.readouterr().out == 'benchmarks/gpu.py: PyTorch sees no CUDA device here; nothing is measured.\n'


def test_pisrs_step_is_measured_with_a_live_teacher_and_with_codes(benchmark):
    pisr_step, side_by_side = benchmark('pisr_step'), benchmark('side_by_side')
    rounds = side_by_side.take_turns(pisr_step.steps_of(scale=2, batch=2, gt_size=16), 1)
    lines = pisr_step.table(rounds)
    assert [line.split('|')[1].strip() for line in lines[2:]] == ['student alone', 'PISR', 'PISR, codes from a cache']
    assert all(float(line.split('|')[3]) > 0 for line in lines[2:])


def test_the_command_line_is_timed_and_its_imports_are_listed(benchmark):
    command_line = benchmark('command_line')
    command = [sys.executable, '-c', 'import decimal']
    assert 0 < command_line.processor_seconds(command, repeats=1) < 60
    assert 'decimal' in command_line.slowest_imports(command, count=1000)


def test_the_fuzz_script_tells_an_error_from_a_message(benchmark):
    fuzz = benchmark('fuzz')
    refused, failed = UserError('one message'), KeyError('x')

    def read_then_raise(error):
        def read(rng):
            raise error

        return read

    assert fuzz.answer(lambda rng: None, 'seed')[0] == 'taken'
    assert fuzz.answer(read_then_raise(refused), 'seed')[0] == 'refused'
    assert 'KeyError' in fuzz.answer(read_then_raise(failed), 'seed')[0]


def test_a_round_of_the_fuzz_script_depends_on_its_seed_alone(benchmark):
    changes = benchmark('fuzz_changes')
    value = {'a': [1, {'b': 2}], 'c': 'x'}
    changed = [changes.several(value, random.Random('0 kind 7')) for _ in range(2)]
    assert repr(changed[0]) == repr(changed[1])
    assert value == {'a': [1, {'b': 2}], 'c': 'x'}
    damaged = [changes.change_bytes(b'0123456789' * 9, random.Random('0 kind 7')) for _ in range(2)]
    assert damaged[0] == damaged[1] != b'0123456789' * 9


@pytest.mark.slow
def test_a_few_rounds_of_every_kind_find_nothing(benchmark, tmp_path, monkeypatch):
    fuzz = benchmark('fuzz')
    monkeypatch.chdir(tmp_path)
    readers = fuzz.Kinds(tmp_path).readers
    assert len(readers) == 22
    for name, read in readers.items():
        for number in range(3):
            result, _ = fuzz.answer(read, f'0 {name} {number}')
            assert result in ('taken', 'refused'), (name, number, result)
