"""The papers' tables, and which of the shipped option files are comparable with which row."""

import csv
from collections import Counter
from pathlib import Path

import pytest

from kdsr import options
from kdsr.papers.results import (
    FILE,
    ROWS,
    comparable_rows,
    differences_from,
    is_papers_metric,
    method_of,
    paper_cells,
    student_of,
)

OPTIONS = Path(__file__).parents[2] / 'options'


def rows_of(file):
    return set(comparable_rows(options.load(str(OPTIONS / file))))


def test_the_tables_are_whole():
    assert Counter(cell.paper for cell in paper_cells()) == {
        'FACD': 352, 'MTKD': 328, 'RFDN': 262, 'LSFD': 238, 'PISR': 211,
    }  # fmt: skip
    for cell in paper_cells():
        if cell.kind == 'result':
            assert cell.psnr is None or 20 < cell.psnr < 45
            assert cell.ssim is None or 0.4 < cell.ssim < 1
            assert cell.scale in (2, 3, 4)


def test_known_cells():
    wanted = {
        ('LSFD', '2', 'RCAN', 2, 'LSFD', 'Urban100'): 32.704,
        ('MTKD', '2', 'RCAN_lightweight', 4, 'MTKD (ours)', 'Urban100'): 27.08,
        ('PISR', '2', 'FSRCNN (Ours)', 3, 'FSRCNN (Ours)', 'Set5'): 33.31,
        ('RFDN', '3', 'RFDN (Ours)', 4, 'RFDN (Ours)', 'Set5'): 32.24,
    }
    found = {(c.paper, c.table, c.network, c.scale, c.row, c.set): c.psnr for c in paper_cells()}
    assert {key: found[key] for key in wanted} == wanted


def test_misprints_are_flagged_and_can_be_mended():
    misprints = {(c.paper, c.row, c.set): c for c in paper_cells() if c.misprint}
    assert len(misprints) == 6
    cell = misprints['LSFD', 'FAKD + FFT', 'Set14']
    assert (cell.psnr, cell.likely('psnr')) == (23.547, 33.547)
    cell = misprints['MTKD', 'MTKD (ours)', 'B100']
    assert (cell.ssim, cell.likely('ssim'), cell.likely('psnr')) == (0.4707, 0.7407, 27.69)
    assert misprints['LSFD', 'LSFD', 'B100'].likely('psnr') == 32.276


@pytest.mark.parametrize(
    ('file', 'rows'),
    [
        ('lsfd_rcan_x4.yml', {('LSFD', '2', 'LSFD')}),
        ('lsfd_san_x2.yml', {('LSFD', '4', 'LSFD')}),
        ('comparisons/lsfd/fitnet_rcan_x3.yml', {('LSFD', '2', 'FitNet')}),
        ('comparisons/lsfd/lsfd_fft_edsr_x4.yml', {('LSFD', '3', 'LSFD + FFT')}),
        ('comparisons/lsfd/lfd_rcan_x2.yml', {('LSFD', '2', 'LFD'), ('FACD', '2', 'LFD**')}),
        ('comparisons/facd/fakd_edsr_x4.yml', {
            ('LSFD', '3', 'FAKD*'), ('FACD', '2', 'FAKD**'), ('MTKD', '3', 'FAKD'),
        }),
        ('facd_edsr_x2.yml', {('FACD', '2', 'FACD (ours)')}),
        ('mtkd_swinir_x4.yml', {('MTKD', '4', 'MTKD (ours)')}),
        ('comparisons/mtkd/kd_rcan_x4.yml', {('MTKD', '2', 'KD')}),
        ('comparisons/mtkd/dukd_swinir_x2.yml', {('MTKD', '4', 'DUKD')}),
        ('baseline_swinir_x3.yml', {('MTKD', '4', 'Compact')}),
        ('baseline_edsr_x4.yml', {('LSFD', '3', 'Student'), ('FACD', '2', 'Student'), ('MTKD', '3', 'Compact')}),
        ('pisr_idn_x4.yml', {('PISR', '3', 'IDN (Ours)')}),
        ('pisr_fsrcnn_l_x2.yml', {('PISR', '3', 'FSRCNN-L (Ours)')}),
        ('baseline_fsrcnn_x2.yml', {('PISR', '2', 'FSRCNN*')}),
        ('baseline_carn_x3.yml', {('PISR', '3', 'CARN*')}),
        ('rfdn_l_x3.yml', {('RFDN', '3', 'RFDN-L (Ours)')}),
    ],
)  # fmt: skip
def test_shipped_files_meet_their_rows(file, rows):
    assert rows_of(file) == rows


@pytest.mark.parametrize('file', [
    'ablations/facd/fcd_edsr_x2.yml', 'ablations/pisr/transfer_only.yml', 'ablations/pisr/table1_f_vid_gaussian.yml',
    'studies/feature_kd.yml', 'pisr_teacher_idn_x2.yml', 'mtkd_aggregator_x4.yml', 'baseline_rcan_x4.yml',
])  # fmt: skip
def test_other_runs_meet_none_or_only_the_student_alone(file):
    assert all(row in ('Student', 'Compact') for _, _, row in rows_of(file))


def test_a_student_that_starts_from_other_weights_is_no_row():
    opt = options.load(str(OPTIONS / 'baseline_edsr_x4.yml'))
    assert method_of({**opt, 'path': {'pretrain_network_g': 'teacher.pth'}}) is None
    assert method_of(opt) == 'alone'
    assert student_of({**opt, 'network_g': {**opt['network_g'], 'num_block': 8}}) is None


def test_every_row_that_is_looked_for_is_printed():
    printed = {(c.paper, c.row) for c in paper_cells()}
    for (paper, _), rows in ROWS.items():
        for row in rows:
            assert any((paper, row.format(student=s)) in printed for s in ('FSRCNN', 'RFDN', ''))


def test_shipped_runs_differ_in_nothing_and_others_say_in_what():
    for file, paper in (('lsfd_rcan_x4.yml', 'LSFD'), ('mtkd_edsr_x2.yml', 'MTKD'), ('pisr_vdsr_x4.yml', 'PISR')):
        assert differences_from(paper, options.load(str(OPTIONS / file))) == []
    study = options.load(str(OPTIONS / 'studies/feature_kd.yml'))
    assert differences_from('LSFD', study) == [
        'BSD400 instead of DIV2K', '2,000 iterations instead of 300,000', 'batch 8 a GPU instead of 16 in all',
        'crops of 64 instead of 192', 'IMDN as teacher instead of RFDN',
    ]  # fmt: skip


def test_only_the_papers_metric_counts():
    metric = {'type': 'calculate_psnr', 'crop_border': 4, 'test_y_channel': True}
    assert is_papers_metric(metric, {'scale': 4}) == 'psnr'
    assert is_papers_metric({**metric, 'test_y_channel': False}, {'scale': 4}) == ''
    assert is_papers_metric({**metric, 'test_y_channel': False}, {'scale': 4, 'color': 'y'}) == 'psnr'
    assert is_papers_metric({**metric, 'crop_border': 2}, {'scale': 4}) == ''


def test_the_complexity_table_is_readable():
    with FILE.with_name('complexity.csv').open(encoding='utf-8', newline='') as file:
        rows = list(csv.DictReader(file))
    found = {(r['paper'], r['network'], r['scale'], r['quantity']): r['value'] for r in rows}
    assert found['PISR', 'IMDN', '4', 'multiadds'] == '41.1'
    assert found['MTKD', 'MT', '4', 'LAM diffusion index'] == '26.09'
