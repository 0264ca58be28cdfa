"""Which runs are comparable with which row of the papers, and what differs."""

import copy
from dataclasses import replace
from pathlib import Path

import pytest

from kdsr import options
from kdsr.experiment import Experiment, read_experiment
from kdsr.options import model_class_of
from kdsr.papers.matching import find_matches, metric_of_papers
from kdsr.papers.rows import paper_rows

OPTIONS = Path(__file__).parents[2] / 'options'
# A row's own file, for every table: x4, and the tables that are printed for x2 only.
OWN = sorted({
    row.file for row in paper_rows()
    if row.kind == 'trained' and row.network != 'PISR teacher' and (row.paper, row.table) != ('FACD', '4')
    and (row.scale == 4 or (row.paper, row.table) in {('FACD', '5'), ('FACD', '6'), ('FACD', '9'), ('PISR', '1')})
})  # fmt: skip


def load(file, *overrides):
    return options.load(str(OPTIONS / file), overrides)


def rows_of(opt):
    return {(m.row.paper, m.row.table, m.row.row): list(m.differences) for m in find_matches(read_experiment(opt))}


@pytest.mark.parametrize('file', OWN)
def test_a_rows_own_file_differs_in_nothing(file):
    matches = [match for match in find_matches(read_experiment(load(file))) if match.row.file == file]
    assert matches
    assert all(match.differences == () for match in matches)


@pytest.mark.parametrize(
    ('file', 'rows'),
    [
        ('lsfd_san_x2.yml', {('LSFD', '4', 'LSFD')}),
        ('comparisons/lsfd/lsfd_fft_edsr_x4.yml', {('LSFD', '3', 'LSFD + FFT')}),
        ('comparisons/lsfd/lfd_rcan_x2.yml', {('LSFD', '2', 'LFD'), ('FACD', '2', 'LFD**')}),
        ('comparisons/facd/fakd_edsr_x4.yml', {
            ('LSFD', '3', 'FAKD*'), ('FACD', '2', 'FAKD**'), ('MTKD', '3', 'FAKD'),
        }),
        ('comparisons/lsfd/fakd_as_published_rcan_x4.yml', {('LSFD', '2', 'FAKD')}),
        ('comparisons/lsfd/fakd_rcan_x4.yml', {('LSFD', '2', 'FAKD*')}),
        ('comparisons/mtkd/dukd_swinir_x2.yml', {('MTKD', '4', 'DUKD')}),
        ('baseline_edsr_x4.yml', {('LSFD', '3', 'Student'), ('MTKD', '3', 'Compact')}),
        ('ablations/facd/fcd_edsr_x4.yml', {
            ('FACD', '7', 'L1_GT+L1_T+FCD'), ('FACD', '8', 'FCD(ours)'),
        }),
        ('pisr_fsrcnn_l_x2.yml', {('PISR', '3', 'FSRCNN-L (Ours)')}),
        ('rfdn_l_x3.yml', {('RFDN', '3', 'RFDN-L (Ours)')}),
        ('ablations/rfdn/scratch_imdn_x4.yml', {('RFDN', '4', 'IMDN (trained from scratch)')}),
        ('mtkd_aggregator_x4.yml', {('MTKD', '2', 'MT')}),
        ('studies/feature_kd.yml', set()),
    ],
)  # fmt: skip
def test_files_meet_their_rows(file, rows):
    assert set(rows_of(load(file))) == rows


def test_a_student_that_starts_from_other_weights_or_is_another_network_is_no_row():
    assert rows_of(load('baseline_edsr_x4.yml', 'path:pretrain_network_g=teacher.pth')) == {}
    assert rows_of(load('baseline_edsr_x4.yml', 'network_g:num_block=8')) == {}


def test_where_a_paper_copied_its_numbers_is_said():
    (match,) = find_matches(read_experiment(load('comparisons/lsfd/student_as_published_rcan_x4.yml')))
    assert (match.row.paper, match.row.row, match.origin) == ('LSFD', 'Student', "FAKD's repository")
    assert match.differences == ()
    assert match.cells['Urban100'].psnr == 26.340


def test_explicit_defaults_change_nothing():
    opt = load('comparisons/lsfd/fakd_rcan_x4.yml')
    explicit = copy.deepcopy(opt)
    (loss,) = (x for x in explicit['distillation']['losses'].values() if x and x['type'] == 'FAKDLoss')
    loss['selective'] = 'none'
    explicit['network_g']['res_scale'] = 1.0
    explicit['train']['accumulate'] = 1
    assert rows_of(explicit) == rows_of(opt) == {('LSFD', '2', 'FAKD*'): []}


@pytest.mark.parametrize(
    ('override', 'said'),
    [
        ('train:optim_g:lr=5e-5', 'learning rate 5e-05 instead of 0.0001'),
        ('train:optim_g:betas=[0.9,0.999]', 'betas (0.9, 0.999) instead of (0.9, 0.99)'),
        ('train:optim_g:weight_decay=0.1', 'weight_decay 0.1 instead of 0'),
        ('train:total_iter=1000', '1,000 iterations instead of 300,000'),
        (
            'train:scheduler:milestones=[100000]',
            'schedule MultiStepLR (gamma 0.5, milestones (100000)) instead of '
            'MultiStepLR (gamma 0.5, milestones (150000))',
        ),
        ('train:ema_decay=0.999', 'ema_decay 0.999 instead of 0'),
        ('train:amp=bf16', 'amp bf16 instead of None'),
        ('train:pixel_opt:loss_weight=1', 'pixel_opt with loss_weight 1 instead of 0.5'),
        ('datasets:train:batch_size_per_gpu=4', 'batch 4 per GPU instead of 16 in all'),
        ('datasets:train:gt_size=96', 'crops of 96 instead of 192'),
        ('datasets:train:use_rot=true', 'with rotations'),
        ('datasets:train:use_hflip=false', 'without flips'),
        ('datasets:train:dataroot_gt=datasets/BSD400/HR', 'datasets/BSD400/HR instead of DIV2K'),
        ('datasets:val:dataroot_gt=datasets/Set5/GTmod12',
         'GT cropped to a multiple of 12 instead of a multiple of the scale (Set5)'),
        ('network_g:img_range=1.0', 'RCAN with img_range 1 instead of 255'),
        ('distillation:teachers:0:network:num_block=6', 'teacher RCAN with num_block 6 instead of 20'),
        ('distillation:features:late:student=conv_after_body',
         'feature 3: student conv_after_body instead of upsample:input'),
        ('distillation:losses:l_lsfd:alpha2=20', 'LSFDLoss with alpha2 20 instead of 10'),
        ('distillation:losses:l_lsfd:feature_norm=none', 'LSFDLoss with feature_norm none instead of l2_flat'),
        ('distillation:losses:l_kd:loss_weight=1', 'ResponseLoss with loss_weight 1 instead of 0.5'),
    ],
)  # fmt: skip
def test_every_difference_is_named(override, said):
    assert rows_of(load('lsfd_rcan_x4.yml', override)) == {('LSFD', '2', 'LSFD'): [said]}


def test_sets_that_the_paper_tests_in_quarters():
    opt = load('lsfd_san_x2.yml')
    assert rows_of(opt) == {('LSFD', '4', 'LSFD'): ['Set5 not in quarters']}
    opt['val']['quadrants'] = ['Set5']
    assert rows_of(opt) == {('LSFD', '4', 'LSFD'): []}


def test_another_number_of_teachers_is_a_difference():
    opt = load('mtkd_edsr_x4.yml')
    del opt['distillation']['teachers'][0]
    assert rows_of(opt)['MTKD', '3', 'MTKD (ours)'] == [
        'RCAN + EDSR + DCTSwin as teacher instead of SwinIR + RCAN + EDSR + DCTSwin'
    ]


def test_only_the_papers_metric_counts():
    metric = {'type': 'calculate_psnr', 'crop_border': 4, 'test_y_channel': True}
    on_rgb = Experiment('x', model_class_of('SRModel'), scale=4)
    assert metric_of_papers(metric, on_rgb) == 'psnr'
    assert metric_of_papers({**metric, 'test_y_channel': False}, on_rgb) == ''
    assert metric_of_papers({**metric, 'test_y_channel': False}, replace(on_rgb, luminance=True)) == 'psnr'
    assert metric_of_papers({**metric, 'crop_border': 2}, on_rgb) == ''
