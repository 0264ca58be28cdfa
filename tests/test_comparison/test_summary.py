from dataclasses import replace

from kdsr.comparison.summary import summarise
from tests.helpers.comparisons import comparison, trained


def test_methods_that_are_not_finished_count_in_the_correction_and_single_runs_do_not(workspace):
    plan = comparison(workspace, {'plain': {}, 'fast': {}, 'slow': {}, 'teacher': {'seeds': [0]}})
    for label, values in {'plain': [30.0, 30.0, 30.0], 'fast': [30.5, 30.7, 30.35], 'teacher': [33.0]}.items():
        for run, value in zip(plan.of(label), values):
            trained(workspace, run, value)
    column = ('photos', 'psnr')
    assert 0.025 < summarise(plan).gain('fast', column).p < 0.05
    assert summarise(plan).significant(column) == set()
    slow = tuple(run for run in plan.runs if run.label != 'slow')
    assert summarise(replace(plan, runs=slow)).significant(column) == {'fast'}


def test_only_finished_runs_count_and_the_last_value_is_the_result(workspace):
    plan = comparison(workspace)
    for seed, run in enumerate(plan.of('plain')):
        trained(workspace, run, 30.0 + seed, ended=seed < 2)
    summary = summarise(plan)
    assert summary.columns == [('photos', 'psnr')]
    assert summary.values('plain', ('photos', 'psnr')) == {0: 30.0, 1: 31.0}
    assert summary.values('fast', ('photos', 'psnr')) == {}
    assert summary.gain('fast', ('photos', 'psnr')) is None
    assert summary.best('plain', ('photos', 'psnr')) == 30.5


def test_two_seeds_get_no_star_however_large_their_gain_is(workspace):
    plan = comparison(workspace, seeds=[0, 1])
    for label, values in {'plain': [30.0, 30.001], 'fast': [31.0, 31.0011]}.items():
        for run, value in zip(plan.of(label), values):
            trained(workspace, run, value)
    summary, column = summarise(plan), ('photos', 'psnr')
    assert summary.gain('fast', column).p < 0.001
    assert summary.significant(column) == set()


def test_three_seeds_get_their_star(workspace):
    plan = comparison(workspace)
    for label, values in {'plain': [30.0, 30.01, 30.02], 'fast': [31.0, 31.012, 31.02]}.items():
        for run, value in zip(plan.of(label), values):
            trained(workspace, run, value)
    assert summarise(plan).significant(('photos', 'psnr')) == {'fast'}
