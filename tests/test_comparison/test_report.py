import csv
import io
import sys

import cv2
import pytest

from kdsr.comparison.report import format_report, format_results_csv, format_runs_csv, make_sections, write_report
from kdsr.comparison.summary import summarise
from kdsr.errors import UserError
from tests.helpers.comparisons import comparison, trained

RUNS = {
    'teacher': {'seeds': [7]},
    'plain': {'title': 'student alone'},
    'kd': {'needs': 'teacher', 'note': 'from | images'},
    'long': {'train': {'total_iter': 80}},
}


@pytest.fixture
def summary(workspace):
    plan = comparison(workspace, RUNS, about='Which is better?')
    for label, values in {'teacher': [33.0], 'plain': [30.0, 30.2, 30.1], 'kd': [30.5, 30.72, 30.6]}.items():
        for run, value in zip(plan.of(label), values):
            trained(workspace, run, value, seconds=100.0 if label == 'teacher' else 60.0)
    trained(workspace, plan.of('long')[0], 29.0, ended=False)
    return summarise(plan)


def rows(text, first):
    return [line for line in text.splitlines() if line.startswith(f'| {first} |')]


def test_the_report_says_what_was_measured_and_how(workspace, summary):
    text = format_report(summary, make_sections(summary, 'kdsr compare cmp.yml'))
    assert text.startswith('# cmp\n\nWhich is better?\n')
    for told in (
        '`kdsr compare cmp.yml`',
        'calculate_psnr (crop_border 2, test_y_channel True)',
        'photos (`photos/gt`, GT cropped to a multiple of the scale)',
    ):
        assert told in text
    assert rows(text, 'seeds') == ['| seeds | 0, 1, 2 |']
    assert '**long differs**: train.total_iter: 40 -> 80' in rows(text, 'budget')[0]
    assert 'commit abc' in rows(text, 'code')[0]
    assert '| cmp_long_seed0 | 80 | 80 |\n| cmp_long_seed1 | 0 | 80 |' in text


def test_the_tables_hold_means_gains_and_costs(workspace, summary):
    text = format_report(summary, make_sections(summary, ''))
    values, gain, cost = rows(text, r'kd (from \| images)')
    assert values == r'| kd (from \| images) | 3 | 30.607 ± 0.110 | +0.507 (p < 0.001) * |'
    assert gain == (
        r'| kd (from \| images) | photos | psnr | +0.507 | +0.478 to +0.535 | < 0.001 | paired t | 3 | 30.607 |'
    )
    assert cost == r'| kd (from \| images) | 6,867 | 40 | 1.500 | 0:01:00 | 0:00:30 | 0:01:20 |'
    assert rows(text, 'student alone')[0] == '| student alone | 3 | 30.100 ± 0.100 | |'
    assert rows(text, 'teacher')[0] == '| teacher | 1 | 33.000 | +2.900 |'
    assert rows(text, 'long')[0] == '| long | 0 | \u2013 | |'


def test_the_csv_files_hold_every_validation_and_every_run(workspace, summary):
    results = list(csv.DictReader(io.StringIO(format_results_csv(summary))))
    assert len(results) == 2 * 8
    assert results[1] == {
        'run': 'teacher', 'seed': '7', 'set': 'photos', 'metric': 'psnr', 'iteration': '40', 'value': '33.0',
        'train_seconds': '100.000', 'cpu_seconds': '50.000',
    }  # fmt: skip
    runs = {row['experiment']: row for row in csv.DictReader(io.StringIO(format_runs_csv(summary)))}
    assert len(runs) == 10
    assert runs['cmp_kd_seed1']['finished'] == 'True'
    assert runs['cmp_kd_seed1']['step_seconds'] == '1.5'
    assert runs['cmp_long_seed2']['finished'] == 'False'


def test_notes_with_newlines_and_html_stay_in_their_cell(workspace):
    runs = {'plain': {'note': 'first line\nsecond <script>alert(1)</script> `<b>`', 'title': 'a|b'}}
    plan = comparison(workspace, runs, about='Read <!-- this --> & more')
    for run in plan.runs:
        trained(workspace, run, 30.0)
    found = summarise(plan)
    text = format_report(found, make_sections(found, ''))
    cell = r'a\|b (first line second &lt;script>alert(1)&lt;/script> `<b>`)'
    assert rows(text, cell)[0] == f'| {cell} | 3 | 30.000 ± 0.000 | |'
    assert 'Read &lt;!-- this --> & more' in text
    write_report(found, workspace.root / 'out', '')
    html = (workspace.root / 'out' / 'report.html').read_text()
    assert '&lt;script&gt;alert(1)&lt;/script&gt; <code>&lt;b&gt;</code>' in html
    assert '<script' not in html


def test_pictures_are_drawn(workspace, summary):
    warnings = write_report(summary, workspace.root / 'out', '')  # the photos' bicubic has 36.9 dB
    assert [line.split(' is worse than bicubic')[0] for line in warnings] == ['teacher', 'plain', 'kd']
    for name in ('curves.png', 'losses.png'):
        image = cv2.imread(str(workspace.root / 'out' / name))
        assert min(image.shape[:2]) > 300
        assert image.std() > 10
        assert f']({name})' in (workspace.root / 'out' / 'report.md').read_text()


def test_losses_are_drawn_with_and_without_their_factors(workspace, summary, monkeypatch):
    from kdsr.comparison import curves

    (workspace.root / 'out').mkdir()
    drawn = {}
    monkeypatch.setattr(curves, '_dress', lambda axis, title, x: drawn.update({title: axis.lines[-1].get_ydata()[-1]}))
    run = summary.all[0].run
    for result in summary.all:
        monkeypatch.setitem(result.run.opt['train'], 'pixel_opt', {'type': 'L1Loss', 'loss_weight': 0.5})
    assert curves._draw_losses(summary, workspace.root / 'out' / 'losses.png'), run
    assert set(drawn) >= {'l_pix as logged, running mean', 'l_pix without its factor, running mean'}
    weighted, plain = (drawn[f'l_pix {kind}, running mean'] for kind in ('as logged', 'without its factor'))
    assert plain == pytest.approx(2 * weighted)


def test_without_matplotlib_the_rest_is_written(workspace, summary, monkeypatch):
    monkeypatch.delitem(sys.modules, 'kdsr.comparison.curves', raising=False)
    monkeypatch.setitem(sys.modules, 'matplotlib', None)
    problems = write_report(summary, workspace.root / 'out', '')
    assert 'pip install -e ".[plots]"' in problems[-1]
    assert 'curves.png' not in (workspace.root / 'out' / 'report.md').read_text()


def test_a_report_before_anything_is_trained_is_empty(workspace):
    empty = summarise(comparison(workspace))
    assert '| trained | not yet |' in format_report(empty, make_sections(empty, ''))
    with pytest.raises(UserError, match='is a file'):
        write_report(summarise(comparison(workspace)), workspace.root / 'cmp.yml', '')
