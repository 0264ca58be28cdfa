"""The option files that come with kdsr have no mistakes: only their data and weights have to be placed."""

from pathlib import Path

import pytest
import yaml

from kdsr.authoring.option_check import check_option_files
from kdsr.cli import main
from kdsr.options import report

ROOT = Path(__file__).parents[2]
BASICSR = """\
name: 201_RCANx4_scratch_DIV2K_rand0
model_type: SRModel
scale: 4
num_gpu: 1
manual_seed: 10
datasets:
  train:
    name: DIV2K
    type: PairedImageDataset
    dataroot_gt: datasets/DF2K/DIV2K_train_HR_sub
    dataroot_lq: datasets/DF2K/DIV2K_train_LR_bicubic_X4_sub
    meta_info_file: basicsr/data/meta_info/meta_info_DIV2K800sub_GT.txt
    filename_tmpl: '{}'
    io_backend: {type: disk}
    gt_size: 128
    use_hflip: true
    use_rot: true
    use_shuffle: true
    num_worker_per_gpu: 6
    batch_size_per_gpu: 16
    dataset_enlarge_ratio: 100
    prefetch_mode: ~
network_g: {type: MSRResNet, num_in_ch: 3, num_out_ch: 3, num_feat: 64, num_block: 16, upscale: 4}
path: {pretrain_network_g: ~, strict_load_g: true, resume_state: ~}
train:
  ema_decay: 0.999
  optim_g: {type: Adam, lr: !!float 2e-4, weight_decay: 0, betas: [0.9, 0.99]}
  scheduler:
    type: CosineAnnealingRestartLR
    periods: [250000, 250000, 250000, 250000]
    restart_weights: [1, 1, 1, 1]
    eta_min: !!float 1e-7
  total_iter: 1000000
  warmup_iter: -1
  pixel_opt: {type: L1Loss, loss_weight: 1.0, reduction: mean}
val:
  val_freq: !!float 5e3
  save_img: false
  pbar: false
  metrics:
    psnr: {type: calculate_psnr, crop_border: 4, test_y_channel: false, better: higher}
    niqe: {type: calculate_niqe, crop_border: 4, better: lower}
logger:
  print_freq: 100
  save_checkpoint_freq: !!float 5e3
  use_tb_logger: true
  wandb: {project: ~, resume_id: ~}
dist_params: {backend: nccl, port: 29500}
"""


def test_they_have_no_mistakes(monkeypatch):
    monkeypatch.chdir(ROOT)
    text, fine = check_option_files(['options/**/*.yml'], files=False)
    assert fine, text
    assert 'files are fine' in text.splitlines()[-1]


def test_a_file_of_basicsr_has_none(workspace, capsys):
    Path('basicsr.yml').write_text(BASICSR)
    with pytest.raises(SystemExit) as end:
        main(['check', '--options-only', 'basicsr.yml'])
    text = capsys.readouterr().out
    assert end.value.code == 0
    assert text == (
        'warnings:\n  basicsr.yml:18: datasets.train.use_shuffle: nothing reads this key (old files of BasicSR '
        'and other projects contain it); delete it.\n1 file is fine, 1 warning\n'
    )


def test_a_model_of_another_package_reads_what_it_likes(workspace):
    opt = yaml.safe_load(BASICSR)
    opt.update(tile={'size': 8})
    opt['train']['their_opt'] = 1
    Path('theirs.yml').write_text(yaml.safe_dump({**opt, 'model_type': 'HATModel'}))
    text, _ = check_option_files(['theirs.yml'], files=False)
    assert "no model is called 'HATModel'" in text
    assert 'tile' not in text
    assert 'their_opt' not in text


def test_what_is_missing_is_reported_once_and_ends_in_status_1(workspace, capsys):
    for name in 'ab':
        Path(f'{name}.yml').write_text(BASICSR)
    with pytest.raises(SystemExit) as end:
        main(['check', 'a.yml', 'b.yml', 'c.yml'])
    text = capsys.readouterr().out
    assert end.value.code == 1
    assert text.count('DIV2K_train_HR_sub') == 1
    assert 'a.yml:10: datasets.train.dataroot_gt (and 1 more)' in text
    assert "option file 'c.yml' does not exist" in text
    assert report([]) == ''


def test_the_schema_is_printed(capsys):
    main(['check', '--schema'])
    assert capsys.readouterr().out.startswith('{\n "$schema"')
