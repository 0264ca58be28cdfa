import json

import pytest

from kdsr.comparison import runs as comparison_runs
from kdsr.comparison.report import format_report, make_sections
from kdsr.comparison.stopping import find_excluded_gain
from kdsr.comparison.study import compare
from kdsr.comparison.summary import summarise
from kdsr.comparison.training_record import RecordWriter
from tests.helpers.comparisons import START, comparison, comparison_file, trained

RUNS = {'plain': {}, 'worse': {}}


def began(workspace, run, values):
    """Leave the record of a run that is not finished: iteration to value."""
    folder = workspace.root / run.folder
    folder.mkdir(parents=True)
    writer = RecordWriter(str(folder))
    writer.write('start', 0, **START)
    for iteration, value in values.items():
        writer.write('validation', iteration, set='photos', values={'psnr': value}, seconds=1.0, cpu_seconds=1.0)
    writer.close()


def plan_with(workspace, last, runs=None):
    """Return a comparison whose baseline ended with 30, 30.2 and 30.1, and whose other runs with `last`."""
    plan = comparison(workspace, runs or RUNS)
    for label, values in {'plain': [30.0, 30.2, 30.1], 'worse': last}.items():
        for run, value in zip(plan.of(label), values):
            trained(workspace, run, value)
    return plan


@pytest.mark.parametrize(
    ('last', 'excluded'),
    [
        ([29.5, 29.71], True),  # -0.5 and -0.49
        ([29.5, 30.1], False),  # -0.5 and -0.1: with two seeds the interval is wide
        ([30.5, 30.69], False),  # better
        ([29.5], False),  # one seed shows nothing
        ([29.5, 30.0, 29.9], False),  # -0.3 with s 0.173, t(2) 4.303: half width 0.430
        ([29.5, 29.8, 29.7], True),  # -0.433 with s 0.058: half width 0.143
    ],
)
def test_a_gain_is_excluded_by_its_interval(workspace, last, excluded):
    assert (find_excluded_gain(plan_with(workspace, last), 'worse') is not None) == excluded


def test_the_reason_names_iteration_and_interval(workspace):
    found = find_excluded_gain(plan_with(workspace, [29.5, 29.71]), 'worse')
    # mean -0.495, s = 0.00707, t(1) = 12.706, half width 12.706 * 0.00707 / sqrt(2) = 0.0635
    assert str(found) == 'after 40 iterations the gain is photos -0.559 to -0.431 (95 %, 2 seeds)'


def test_lower_can_be_better(workspace):
    metric = {'val': {'metrics': {'psnr': {'better': 'lower'}}}}
    plan = plan_with(workspace, [29.5, 29.71], {'plain': metric, 'worse': metric})
    assert find_excluded_gain(plan, 'worse') is None
    assert find_excluded_gain(plan, 'plain') is None


def test_the_first_half_of_a_training_excludes_nothing(workspace):
    plan = comparison(workspace, RUNS, iterations=80)
    for seed in range(2):
        began(workspace, plan.of('plain')[seed], {20: 28 + 0.1 * seed, 40: 29.0 + 0.1 * seed})
        began(workspace, plan.of('worse')[seed], {20: 25 + 0.1 * seed})
    assert find_excluded_gain(plan, 'worse') is None


def test_the_newest_common_validation_decides(workspace):
    plan = comparison(workspace, RUNS, iterations=80)
    for seed in range(2):
        began(workspace, plan.of('plain')[seed], {40: 29 + 0.1 * seed, 60: 29.5 + 0.1 * seed, 80: 30.0 + 0.1 * seed})
        began(workspace, plan.of('worse')[seed], {40: 28 + 0.101 * seed, 60: 29.8 + 0.101 * seed})
    assert find_excluded_gain(plan, 'worse') is None
    began_worse = workspace.root / plan.of('worse')[0].folder / 'record.jsonl'
    text = began_worse.read_text().replace('29.8', '29.1')
    began_worse.write_text(text)
    other = workspace.root / plan.of('worse')[1].folder / 'record.jsonl'
    other.write_text(other.read_text().replace('29.901', '29.2'))
    assert find_excluded_gain(plan, 'worse').iteration == 60


def test_stopped_labels_are_left_out_and_reported(workspace, monkeypatch):
    path = comparison_file(workspace, {'plain': {}, 'worse': {}, 'stage': {}, 'uses': {'needs': 'stage'}})
    plan = plan_with(workspace, [29.5, 29.71], {'plain': {}, 'worse': {}, 'stage': {}, 'uses': {'needs': 'stage'}})
    for run in (*plan.of('stage')[:2], *plan.of('uses')[:2]):
        trained(workspace, run, 20.0 + run.seed * 0.2)
    started, said = [], []

    def start(run, *_):
        started.append(run.name)
        raise comparison_runs.UserError('not trained in this test')

    monkeypatch.setattr(comparison_runs, 'TrainingProcess', start)
    with pytest.raises(comparison_runs.UserError, match='1 of 12 runs did not finish'):
        compare(path, stop_early=True, say=said.append)
    assert started == ['cmp_stage_seed2']  # it has no gain either, but others need it
    assert 'worse: stopped early, after 40 iterations the gain is photos -0.559 to -0.431 (95 %, 2 seeds).' in said
    assert json.loads((workspace.root / 'experiments/cmp/stopped.json').read_text()).keys() == {'worse', 'uses'}
    summary = summarise(plan)
    text = format_report(summary, make_sections(summary, ''))
    assert '## Stopped early' in text
    assert '| worse | 2 of 3 | after 40 iterations the gain is photos -0.559 to -0.431 (95 %, 2 seeds) |' in text
    trained(workspace, plan.of('worse')[2], 29.6)
    summary = summarise(plan)
    assert '| worse | 2 of 3 |' not in format_report(summary, make_sections(summary, ''))
