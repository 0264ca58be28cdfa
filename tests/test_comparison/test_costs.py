from pathlib import Path

import numpy as np
import pytest

from kdsr.comparison import curves
from kdsr.comparison.costs import make_cost_table, measure_stages
from kdsr.comparison.summary import summarise
from kdsr.data.raw_images import RawImages
from kdsr.data.raw_writer import RawWriter
from tests.helpers.comparisons import comparison, trained

CACHED = {
    'model_type': 'DistillationModel',
    'distillation': {
        'cache': 'cache.raw',
        'teachers': [
            {'name': 'big', 'network': {'type': 'FSRCNN', 'upscale': 2}, 'path': '{teacher}/models/net_g_latest.pth'}
        ],
        'losses': {'l_kd': {'type': 'ResponseLoss'}},
    },
}


def write_cache(path, costs):
    """Write a raw set of one pixel an image, with the costs (seconds, cpu_seconds) of its images; None for none."""
    writer = RawWriter(Path(path), {}, {str(n): 1 for n in range(len(costs))})
    writer.open()
    for number, cost in enumerate(costs):
        facts = {} if cost is None else {'cost': cost}
        writer.add(str(number), 1, (np.zeros((3, 1, 1), np.uint8), []), **facts)
    writer.finish()


@pytest.fixture
def plan(workspace):
    found = comparison(
        workspace, {'teacher': {'seeds': [0]}, 'plain': {}, 'kd': {'needs': 'teacher', **CACHED}}, seeds=[0, 1, 2]
    )
    for run in found.runs:
        trained(workspace, run, 30.0, seconds=100.0 if run.label == 'teacher' else 60.0)
    return found


def test_stages_and_caches_count_in_full(workspace, plan):
    write_cache(workspace.root / 'cache.raw', [[2.0, 4.0], [5.0, 3.5]])
    summary = summarise(plan)
    found = measure_stages(summary, summary.results['kd'][1])
    assert (found.seconds, found.cpu_seconds, found.unknown) == (100 + 7, 50 + 7.5, ())
    assert measure_stages(summary, summary.results['plain'][0]).cpu_seconds == 0
    table = make_cost_table(summary)
    assert {row[0]: row[-2:] for row in table.rows} == {
        'teacher': ['0:00:50', '0:00:50'],
        'plain': ['0:00:30', '0:00:30'],
        'kd': ['0:00:30', '0:01:28'],
    }
    assert 'not known' not in table.text


@pytest.mark.parametrize('costs', [[None], None])
def test_a_cache_without_times_is_named(workspace, plan, costs):
    if costs:
        write_cache(workspace.root / 'cache.raw', costs)
    summary = summarise(plan)
    assert measure_stages(summary, summary.results['kd'][0]).unknown == ('cache.raw',)
    assert make_cost_table(summary).text.endswith('is not known and not counted: cache.raw.')


def test_curves_over_time_begin_after_the_stages(workspace, plan, monkeypatch):
    write_cache(workspace.root / 'cache.raw', [[7.0, 10.0]])
    lines = {}
    monkeypatch.setattr(curves, '_save', lambda figure, *_: lines.update({a.get_title(): a.lines for a in figure.axes}))
    curves.draw_pictures(summarise(plan), workspace.root)
    over_time, gain = (
        {
            tuple(round(60 * minutes) for minutes in line.get_xdata()): line.get_ydata()
            for line in lines[f'photos: {name}']
        }
        for name in ('psnr against its cost', 'psnr, gain at equal cost')
    )
    assert set(over_time) == {(25, 50), (15, 30), (75, 90)}  # teacher, plain, kd after 50 + 10 seconds
    assert gain[75, 90] == pytest.approx([-2, 0])  # 28 and 30 dB, the baseline ended with 30 after 30 seconds
    assert gain[25, 50] == pytest.approx([28 - (28 + 2 * 10 / 15), 0])


def test_a_cache_knows_its_time(workspace):
    write_cache(workspace.root / 'a.raw', [[2.0, 4.0], [5.0, 3.5]])
    write_cache(workspace.root / 'b.raw', [[2.0, 4.0], None])
    known, unknown = (RawImages(workspace.root / f'{name}.raw') for name in 'ab')
    assert (known.seconds, known.cpu_seconds) == (7.0, 7.5)
    assert (unknown.seconds, unknown.cpu_seconds) == (None, None)
