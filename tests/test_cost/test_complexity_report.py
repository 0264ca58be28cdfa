import csv
import json
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from kdsr.cli import main
from kdsr.cost.complexity import count
from kdsr.cost.complexity_report import format_tables, make_complexity_tables
from kdsr.cost.latency import Timing, time_network
from kdsr.errors import UserError
from kdsr.networks.weight_files import read_network_opt
from kdsr.wording import counted

FSRCNN = '{type: FSRCNN, upscale: 2}'


def test_the_command_prints_both_sizes_and_writes_them(workspace, capsys):
    main(['complexity', '--network', FSRCNN, '--network', FSRCNN, '--csv', 'c.csv', '--json', 'c.json'])
    told = capsys.readouterr().out
    assert told.index('256x256 input:') < told.index('1280x720 output:')
    assert '| FSRCNN x2 | 12,644 | 6.007 | ' in told
    assert 'FSRCNN x2 (2)' in told
    assert 'latency' not in told.lower()
    rows = list(csv.DictReader((workspace.root / 'c.csv').read_text().splitlines()))
    content = json.loads((workspace.root / 'c.json').read_text())
    assert [row['size'] for row in rows] == ['256x256 input'] * 2 + ['1280x720 output'] * 2
    assert float(rows[2]['multi_adds']) == content['sizes']['1280x720 output'][0]['multi_adds'] == 6_006_988_800
    assert rows[2]['seconds'] == ''


def test_latency_is_measured_and_said(capsys):
    main(['complexity', '--network', FSRCNN, '--latency', '--repeats', '2', '--input-size', '8', '12', '--output-size',
          '16', '24'])  # fmt: skip
    told = capsys.readouterr().out
    assert 'latency [ms] |' in told
    assert f'{counted(torch.get_num_threads(), "thread")}, fp32, batch 1, median of 2 runs after 3' in told
    tables = make_complexity_tables([], [read_network_opt(FSRCNN)], (16, 24), (8, 12), Timing(repeats=1))
    assert all(row.seconds > 0 for rows in tables.values() for row in rows)
    assert 'latency' in format_tables(tables, Timing())


def test_timing_leaves_the_network_as_it_is():
    seen = []

    class Probe(nn.Module):
        def forward(self, x):
            seen.append((x.shape, self.training, torch.is_grad_enabled()))
            return x

    network = Probe().train()
    seconds, peak = time_network(network, (3, 4, 5), Timing(repeats=2, warmup=1))
    assert seen == [((1, 3, 4, 5), False, False)] * 3
    assert seconds >= 0
    assert peak is None
    assert network.training


def test_the_time_is_the_median_without_the_warmup(monkeypatch):
    ticks = iter([0, 100, 200, 300, 400, 401, 500, 509, 600, 602])  # two runs of 100 s, then 1, 9 and 2 s
    monkeypatch.setattr('kdsr.cost.latency.time', SimpleNamespace(perf_counter=lambda: next(ticks)))
    assert time_network(nn.Identity(), (3, 4, 5), Timing(repeats=3, warmup=2)) == (2, None)


@pytest.mark.skipif(torch.cuda.is_available(), reason='there is one')
def test_a_device_that_is_not_there():
    with pytest.raises(UserError, match='no GPU'):
        count('x', nn.Identity(), (3, 4, 4), Timing('cuda'))


@pytest.mark.parametrize('text', ['RFDN', '{upscale: 4}', '[1]'])
def test_what_is_no_network_is_told(text):
    with pytest.raises(UserError, match='write a mapping'):
        read_network_opt(text)


def test_nothing_to_count_is_told():
    with pytest.raises(SystemExit, match='name option files'):
        main(['complexity'])
