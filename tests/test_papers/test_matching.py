"""Which of the shipped option files are comparable with which row of the papers."""

from pathlib import Path

import pytest

from kdsr import options
from kdsr.papers.matching import ROWS, comparable_rows, differences_from, method_of, metric_of_papers, student_of
from kdsr.papers.results import paper_cells

OPTIONS = Path(__file__).parents[2] / 'options'


def rows_of(file):
    return set(comparable_rows(options.load(str(OPTIONS / file))))


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
    papers = {
        'lsfd_rcan_x4.yml': 'LSFD', 'facd_edsr_x2.yml': 'FACD', 'mtkd_edsr_x2.yml': 'MTKD', 'pisr_vdsr_x4.yml': 'PISR',
        'rfdn_x2.yml': 'RFDN',
    }  # fmt: skip
    for file, paper in papers.items():
        assert differences_from(paper, options.load(str(OPTIONS / file))) == []
    study = options.load(str(OPTIONS / 'studies/feature_kd.yml'))
    assert differences_from('LSFD', study) == [
        'BSD400 instead of DIV2K', '2,000 iterations instead of 300,000', 'batch 8 per GPU instead of 16 in all',
        'crops of 64 instead of 192', 'learning rate 0.0005 instead of 0.0001',
        'betas (0.9, 0.999) instead of (0.9, 0.99)', 'with rotations', 'IMDN as teacher instead of RFDN',
        'GT cropped to a multiple of 12 instead of a multiple of the scale (Set5, Set14)',
    ]  # fmt: skip


def test_an_explicit_default_keeps_the_row():
    opt = options.load(str(OPTIONS / 'comparisons/lsfd/fakd_rcan_x4.yml'))
    rows = set(comparable_rows(opt))
    (loss,) = (loss for loss in opt['distillation']['losses'].values() if loss and loss['type'] == 'FAKDLoss')
    loss['selective'] = 'none'
    assert ('LSFD', '2', 'FAKD*') in rows
    assert set(comparable_rows(opt)) == rows


def test_other_settings_and_readings_are_named():
    published = options.load(str(OPTIONS / 'comparisons/lsfd/fakd_as_published_rcan_x4.yml'))
    assert differences_from('LSFD', published) == [
        '200,000 iterations instead of 300,000', 'betas (0.9, 0.999) instead of (0.9, 0.99)', 'with rotations',
    ]  # fmt: skip
    reading = options.load(str(OPTIONS / 'ablations/lsfd/feature_norm_none.yml'))
    assert differences_from('LSFD', reading) == ['LSFDLoss with feature_norm none instead of l2_flat']
    slower = options.load(str(OPTIONS / 'lsfd_rcan_x4.yml'), ['train:optim_g:lr=5e-5'])
    assert differences_from('LSFD', slower) == ['learning rate 5e-05 instead of 0.0001']


def test_another_crop_of_the_test_images_is_a_difference():
    wanted = 'GT cropped to a multiple of {} instead of a multiple of {} (Set5)'
    student = options.load(str(OPTIONS / 'baseline_edsr_x4.yml'))  # MTKD's
    assert wanted.format(12, 'the scale') in differences_from('LSFD', student)
    assert differences_from('MTKD', student) == []
    lsfd = options.load(str(OPTIONS / 'lsfd_edsr_x4.yml'))
    assert wanted.format('the scale', 12) in differences_from('MTKD', lsfd)


def test_only_the_papers_metric_counts():
    metric = {'type': 'calculate_psnr', 'crop_border': 4, 'test_y_channel': True}
    assert metric_of_papers(metric, {'scale': 4}) == 'psnr'
    assert metric_of_papers({**metric, 'test_y_channel': False}, {'scale': 4}) == ''
    assert metric_of_papers({**metric, 'test_y_channel': False}, {'scale': 4, 'color': 'y'}) == 'psnr'
    assert metric_of_papers({**metric, 'crop_border': 2}, {'scale': 4}) == ''
