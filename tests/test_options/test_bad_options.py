"""What a user sees for each mistake in an option file: the place, the key and the cure.

A case is a name, what replaces what in a good file, and the words that the report must hold. Cases of bad data,
checkpoints and command lines fit into the same table: `prepare` may spoil the workspace before the check.
"""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml

from kdsr.authoring.option_check import check_option_files
from kdsr.data.prepare import prepare_training_set
from tests.conftest import network_opt

GOOD = """\
name: run
model_type: DistillationModel
scale: 2
num_gpu: 0
manual_seed: 0
datasets:
  train:
    name: photos
    type: PairedImageDataset
    dataroot_gt: photos/gt
    dataroot_lq: photos/lq2
    io_backend: {type: disk}
    gt_size: 32
    use_hflip: true
    use_rot: true
    batch_size_per_gpu: 2
  val:
    name: photos
    type: PairedImageDataset
    dataroot_gt: photos/gt
    dataroot_lq: photos/lq2
    io_backend: {type: disk}
network_g:
  type: SwinIR
  upscale: 2
  img_size: 16
  window_size: 4
  depths: [2]
  num_heads: [2]
  embed_dim: 8
  upsampler: pixelshuffledirect
distillation:
  health_check: false
  teachers:
    - name: one
      network: {type: EDSR, num_in_ch: 3, num_out_ch: 3, num_feat: 8, num_block: 3, upscale: 2}
      path: teacher.pth
    - name: two
      network: {type: EDSR, num_in_ch: 3, num_out_ch: 3, num_feat: 8, num_block: 3, upscale: 2}
      path: teacher.pth
  aggregator:
    network: {type: DCTSwin, upscale: 2, num_teachers: 2, embed_dim: 8, depths: [2], num_heads: 2, window_size: 4}
    path: aggregator.pth
  features:
    early: {student: conv_first, teacher: body.0, from: one}
  losses:
    l_fitnet: {type: FitNetLoss}
path:
  pretrain_network_g: ~
train:
  ema_decay: 0.999
  optim_g: {type: Adam, lr: 1e-4, betas: [0.9, 0.99]}
  scheduler: {type: MultiStepLR, milestones: [50], gamma: 0.5}
  total_iter: 100
  pixel_opt: {type: L1Loss, loss_weight: 1.0, reduction: mean}
val:
  val_freq: 50
  metrics:
    psnr: {type: calculate_psnr, crop_border: 2, test_y_channel: true}
logger:
  print_freq: 10
"""
COSINE = 'scheduler: {type: CosineAnnealingRestartLR, periods: [50, 50], restart_weights: [1, 1], eta_min: 1e-7}'
MULTI = 'scheduler: {type: MultiStepLR, milestones: [50], gamma: 0.5}'

# name: (what is replaced in GOOD, by what, words in one line of the report). `{at}` is the file and line of the first.
CASES = {
    # keys
    'a misspelt key of a training set': ('gt_size: 32', 'gt_siez: 32', ['{at}: datasets.train.gt_siez', "'gt_size'"]),
    'the key that is then missing': ('gt_size: 32', 'gt_siez: 32', ['datasets.train.gt_size: missing']),
    'a misspelt key of the training': ('ema_decay:', 'ema_dacay:', ['{at}: train.ema_dacay', "'ema_decay'"]),
    'a misspelt section': ('logger:', 'loger:', ['{at}: loger', "'logger'"]),
    'a key in the wrong section': (
        '  val_freq: 50', '  val_freq: 50\n  total_iter: 100',
        ['val.total_iter', '`train:`'],
    ),
    'a teacher at the top level': (
        'path:\n', 'network_t: {type: EDSR}\npath:\n',
        ['network_t', 'distillation: {teach'],
    ),
    'an unknown key of a path': ('path:\n', 'path:\n  pretrain_network_t: x\n', ['path.pretrain_network_t', 'known']),
    'a misspelt key of a backend': ('{type: disk}', '{typ: disk}', ['io_backend.typ', "'type'"]),
    'a misspelt key of the optimiser': ('lr: 1e-4', 'learning_rate: 1e-4', ['train.optim_g.learning_rate: unknown']),
    'a key of the distillation block': ('  losses:', '  loses:', ['distillation.loses', "'losses'"]),
    'a key of another model': (
        '  total_iter', '  gan_opt: {type: GANLoss, gan_type: vanilla}\n  total_iter',
        ['SRGANModel'],
    ),
    'a key of a cosine in a multistep': ('milestones: [50]', 'milestones: [50], eta_min: 0', ['scheduler.eta_min']),
    'a key twice': ('scale: 2', 'scale: 2\nscale: 4', ['scale: the key stands here twice, in lines 3 and 4']),
    # names
    'an unknown network': ('type: SwinIR', 'type: SwinRI', ['{at}: network_g.type', "'SwinIR'"]),
    'a network of another package': ('type: SwinIR', 'type: HAT', ['XPixelGroup/HAT', 'import_modules: [hat.archs]']),
    'an unknown model': ('DistillationModel', 'DistilationModel', ['{at}: model_type', "'DistillationModel'"]),
    'an unknown dataset': (
        'PairedImageDataset', 'PairedImagesDataset',
        ['datasets.train.type', "'PairedImageDataset'"],
    ),
    'an unknown loss': ('FitNetLoss', 'FitnetLoss', ['{at}: distillation.losses.l_fitnet.type', "'FitNetLoss'"]),
    'an unknown image loss': ('L1Loss', 'L1', ['{at}: train.pixel_opt.type', "no loss is called 'L1'"]),
    'an unknown metric': ('calculate_psnr', 'psnr', ['val.metrics.psnr.type', "'calculate_psnr'"]),
    'an unknown optimiser': ('type: Adam,', 'type: Adem,', ['train.optim_g.type: must be one of Adam', "'Adem'"]),
    'an unknown scheduler': ('type: MultiStepLR', 'type: MultistepLR', ['train.scheduler.type', "'MultiStepLR'"]),
    'a module that is not installed': ('scale: 2', 'scale: 2\nimport_modules: [hat_archs]', ['hat_archs']),
    'a model without teachers that has some': (
        'DistillationModel', 'StudentModel', ['{at}', 'would train without teachers'],
    ),
    # arguments
    'an argument of a network': ('embed_dim: 8', 'embed_dims: 8', ['{at}: network_g.embed_dims', "'embed_dim'"]),
    'an argument that is missing': ('num_in_ch: 3, ', '', ['teachers[0].network: EDSR needs `num_in_ch:`']),
    'an argument of a loss': (
        '{type: FitNetLoss}', '{type: FitNetLoss, weight: 1}',
        ['l_fitnet.weight', 'loss_weight'],
    ),
    'a value of a loss': ('reduction: mean', 'reduction: average', ['{at}: train.pixel_opt', 'average']),
    'an argument that a metric swallows': (
        'test_y_channel', 'test_y_chanel',
        ['psnr.test_y_chanel', "'test_y_channel'"],
    ),
    'an image loss that distils': (
        '{type: FitNetLoss}', '{type: MSELoss}',
        ['not a distillation loss', 'train.pixel_opt'],
    ),
    'a feature that is not tapped': ('{type: FitNetLoss}', '{type: FitNetLoss, features: [erly]}', ["'early'"]),
    # types and ranges
    'a scale of zero': ('scale: 2', 'scale: 0', ['{at}: scale: must be at least 1, is 0']),
    'a rate in words': ('lr: 1e-4', 'lr: 1e-4x', ["optim_g.lr: must be a number, is '1e-4x'"]),
    'a list for a number': ('total_iter: 100', 'total_iter: [100]', ['{at}: train.total_iter: must be a whole']),
    'half an iteration': ('val_freq: 50', 'val_freq: 0.5', ['{at}: val.val_freq: must be at least 1, is 0.5']),
    'an average without end': ('ema_decay: 0.999', 'ema_decay: 1', ['ema_decay: must be at least 0 and below 1, is 1']),
    'no batch': ('batch_size_per_gpu: 2', 'batch_size_per_gpu: 0', ['{at}: datasets.train.batch_size_per_gpu']),
    'a mapping that is none': ('  pretrain_network_g: ~', '  - x', ["path: must be a mapping, is ['x']"]),
    'betas': ('betas: [0.9, 0.99]', 'betas: [0.9, 1.0]', ['optim_g.betas: must be two numbers']),
    'a crop that is no multiple': ('gt_size: 32', 'gt_size: 33', ['33 is not a multiple of `scale: 2`; 32 is']),
    'too short periods': (
        MULTI, COSINE.replace('50, 50', '50, 40'),
        ['periods: the sum is 90, less than `tot'],
    ),
    'weights of restarts': (MULTI, COSINE.replace('[1, 1]', '[1]'), ['{at}', '`periods` has 2 entries', '1 ']),
    'a rate that never falls': ('milestones: [50]', 'milestones: [500]', ['milestones: 500 is never reached']),
    'an unknown prefetcher': (
        'use_rot: true', 'use_rot: true\n    prefetch_mode: gpu',
        ['prefetch_mode: must be one of'],
    ),
    'a direction that is no word': (
        'type: calculate_psnr,', 'type: calculate_psnr, better: bigger,', ['{at}: val.metrics.psnr.better', 'bigger'],
    ),
    'a direction that keeps the worst': (
        'type: calculate_psnr,', 'type: calculate_psnr, better: lower,', ['psnr.better: lower, but higher values'],
    ),
    'a metric of unknown direction': (
        'psnr: {type: calculate_psnr', 'psnr: {type: calculate_mine', ['write `better: higher`', 'val.metrics.psnr'],
    ),
    'two sets of one name': (
        '  val:\n',
        '  val_2: {name: photos, type: Single, dataroot_lq: photos/lq2, io_backend: {type: disk}}\n  val:\n',
        ["datasets.val.name: 'photos' is also the name of `val_2`"],
    ),
    'a set without ground truth': (
        '  val:\n',
        '  val_2: {name: real, type: SingleImageDataset, dataroot_lq: photos/lq2, io_backend: {type: disk}}\n  val:\n',
        ['datasets.val_2.type', 'no ground truth', 'psnr'],
    ),
    'a seed that is too large': ('manual_seed: 0', 'manual_seed: 4294967296', ['manual_seed', 'below']),
    'an epoch of nothing': ('    gt_size: 32', '    gt_size: 32\n    dataset_enlarge_ratio: 0', ['must be above 0']),
    'an argument that an optimiser lacks': ('type: Adam,', 'type: SGD,', ["SGD has no option 'betas'"]),
    'what other files contain': ('scale: 2\n', 'scale: 2\ntask: sr\n', ['task: nothing reads this key']),
    'an anchor at the top': ('scale: 2\n', 'scale: 2\nx-common: &c {a: 1}\n', ['x-common: nothing reads this key']),
    'another border than the scale': ('crop_border: 2', 'crop_border: 4', ['psnr.crop_border: 4, but `scale` is 2']),
    'nothing to be minimised': (
        '    l_fitnet: {type: FitNetLoss}', '    l_fitnet: ~', ['distillation.losses: nothing is distilled'],
    ),
    'a phase': ('  val:\n', '  vall:\n', ['datasets.vall', "'val'"]),
    # what belongs together
    "the student's scale": ('upscale: 2\n  img', 'upscale: 4\n  img', ['{at}: network_g.upscale', 'x4', 'x2']),
    "a teacher's scale by default": (
        'num_block: 3, upscale: 2',
        'num_block: 3',
        ['{at}: distillation.teachers[0].network.upscale: left out, EDSR enlarges x4'],
    ),
    "the aggregator's scale": ('DCTSwin, upscale: 2', 'DCTSwin, upscale: 3', ['aggregator.network.upscale', 'x3']),
    "the aggregator's teachers": ('num_teachers: 2', 'num_teachers: 3', ['num_teachers: 3, but there are 2']),
    'a tap in the student': (
        'student: conv_first', 'student: conv_frist',
        ['{at}: distillation.features.early.student', "'conv_first'"],
    ),
    'a tap in a teacher': ('teacher: body.0,', 'teacher: body.7,', ["EDSR has no module 'body.7'"]),
    'a teacher that is not there': ('from: one', 'from: three', ["there is no teacher 'three'"]),
    'a window': ('gt_size: 32', 'gt_size: 36', ['36 gives LR crops of 18', 'window, 4', '40']),
    'colours of luminance': (
        'scale: 2\nnum', 'scale: 2\ncolor: y\nnum',
        ['network_g.in_chans: `color: y`', 'in_chans: 1'],
    ),
    'quadrants of no dataset': (
        'val_freq: 50',
        'val_freq: 50\n  quadrants: [phots]',
        ["val.quadrants[0]: there is no dataset 'phots'", "'photos'"],
    ),
    'what a model of BasicSR would ignore': (
        'model_type: DistillationModel',
        'model_type: SRModel\ncolor: y',
        ['color: `model_type: SRModel`', 'StudentModel'],
    ),
    'an LMDB of another name': ('{type: disk}', '{type: lmdb}', ['datasets.train.dataroot_gt', 'must end in .lmdb']),
    'a template without a name': (
        'use_rot: true', 'use_rot: true\n    filename_tmpl: x4', ["filename_tmpl: 'x4' must hold one {}"],
    ),
    'no name': ('name: run\n', '', ['name: missing']),
    'no scale': ('scale: 2\n', '', ['scale: missing']),
    'no schedule': (f'  {MULTI}\n', '', ['train.scheduler: missing: for example']),
    'no image set': ('  train:\n', '  val_2:\n', ['datasets: missing: the training set, `train:`']),
}  # fmt: skip


def make_files(workspace):
    workspace.images()
    workspace.weights(network_opt('EDSR'), 'teacher')
    aggregator = yaml.safe_load(GOOD)['distillation']['aggregator']['network']
    workspace.weights(aggregator, 'aggregator', teachers=['one', 'two'])


def at(text):
    return f'run.yml:{GOOD[: GOOD.index(text)].count(chr(10)) + 1}'


def check(workspace, text=GOOD, *overrides):
    (workspace.root / 'run.yml').write_text(text)
    return check_option_files(['run.yml'], overrides)


def test_the_good_file_is_fine(workspace):
    make_files(workspace)
    assert check(workspace) == ('1 file is fine', True)


@pytest.mark.parametrize(('old', 'new', 'words'), CASES.values(), ids=CASES)
def test_a_mistake_is_reported_with_place_key_and_cure(workspace, old, new, words):
    words = [word.replace('{at}', at(old)) for word in words]
    report, _ = check(workspace, GOOD.replace(old, new, 1))
    lines = [line for line in report.split('missing files')[0].splitlines() + report.splitlines() if words[0] in line]
    assert lines, report
    assert all(word in lines[0] for word in words), lines[0]


def truncate(workspace):
    path = Path('aggregator.pth')
    path.write_bytes(path.read_bytes()[:100])


def reorder(workspace):
    content = torch.load('aggregator.pth', weights_only=True)
    torch.save({**content, 'teachers': ['two', 'one']}, 'aggregator.pth')


def other_scale(workspace):
    workspace.images(scale=4)
    os.rename('photos/lq2', 'photos/lq2_kept')
    os.rename('photos/lq4', 'photos/lq2')


def tiny(workspace):
    for name, side in (('gt', 16), ('lq2', 8)):
        cv2.imwrite(f'photos/{name}/000.png', np.zeros((side, side, 3), np.uint8))


BAD_FILES = {
    'a missing folder': (
        lambda w: os.rename('photos', 'pictures'),
        ['run.yml:10: datasets.train.dataroot_gt (and 1 more): photos/gt'],
    ),
    'a missing teacher': (
        lambda w: os.remove('teacher.pth'),
        ['run.yml:37: distillation.teachers[0].path', '(and 1 more)'],
    ),
    'an image without a partner': (
        lambda w: os.remove('photos/lq2/002.png'),
        ['run.yml:7: datasets.train', 'photos/gt has 4 images and photos/lq2 3', "'002.png'", 'Make both'],
    ),
    'images of another scale': (
        other_scale,
        ['datasets.train: the sets are not of scale 2', "'000.png'", 'which is x4'],
    ),
    'images smaller than a crop': (tiny, ["run.yml:13: datasets.train.gt_size: 32 is larger than '000.png' (16x16; 1"]),
    'a file that is no image': (
        lambda w: Path('photos/gt/000.png').write_text('x'), ['photos/gt/000.png: it is not a readable PNG'],
    ),
    'an empty folder': (lambda w: [p.unlink() for p in Path('photos/gt').iterdir()], ['photos/gt holds no images']),
    'another order of teachers': (reorder, ['run.yml:43: distillation.aggregator.path', 'two, one, in this order']),
    'a truncated checkpoint': (truncate, ['run.yml:43: distillation.aggregator.path', 'is it truncated']),
}  # fmt: skip


@pytest.mark.parametrize(('prepare', 'words'), BAD_FILES.values(), ids=BAD_FILES)
def test_bad_files_are_reported_with_the_key_that_names_them(workspace, prepare, words):
    make_files(workspace)
    prepare(workspace)
    report, fine = check(workspace)
    assert not fine
    lines = [line for line in report.splitlines() if words[0] in line]
    assert lines, report
    assert all(word in lines[0] for word in words), lines[0]


@pytest.mark.parametrize('raw', [False, True])
def test_lmdbs_and_raw_sets_are_compared_by_their_keys_and_sizes(workspace, raw):
    make_files(workspace)
    prepare_training_set('photos/gt', 'data', (2, 3), crop_size=48, step=48, workers=1, raw=raw, progress=False)
    ending = 'raw' if raw else 'lmdb'
    opt = yaml.safe_load(GOOD)
    opt['datasets']['train'].update(
        dataroot_gt=f'data/gt_sub.{ending}', dataroot_lq=f'data/LR_bicubic_X2_sub.{ending}', io_backend={'type': 'lmdb'}
    )
    if raw:
        opt['datasets']['train']['type'] = 'RawPairedImageDataset'
    found = sorted(name for name in os.listdir('data') if not name.startswith('.'))  # not the locks
    names = {k: next(f'data/{n}' for n in found if k in n) for k in ('X2', 'X3')}
    gt = next(f'data/{n}' for n in found if 'X' not in n)
    opt['datasets']['train'].update(dataroot_gt=gt, dataroot_lq=names['X2'])
    assert check(workspace, yaml.safe_dump(opt))[1]
    opt['datasets']['train']['dataroot_lq'] = names['X3']
    report, fine = check(workspace, yaml.safe_dump(opt))
    assert not fine
    assert '48x48' in report
    assert '16x16' in report


def test_all_mistakes_are_reported_at_once_and_counted(workspace):
    text = GOOD
    for old, new in (
        ('gt_size:', 'gt_siez:'),
        ('SwinIR', 'SwinRI'),
        ('lr: 1e-4', 'lr: fast'),
        ('border: 2', 'border: 4'),
    ):
        text = text.replace(old, new, 1)
    report, fine = check(workspace, text)
    assert not fine
    assert report.splitlines()[-1] == '0 of 1 file is fine, 4 errors, 4 missing files, 1 warning'


def test_places_are_those_of_the_base_of_anchors_and_of_the_command_line(workspace):
    make_files(workspace)
    os.mkdir('options')
    Path('options/base.yml').write_text(GOOD.replace('ema_decay: 0.999', 'ema_decay: 2'))
    Path('variant.yml').write_text(
        'base: options/base.yml\nx: &x\n  batch_size_per_gpu: 0\ndatasets: {train: {<<: *x, num_worker_per_gpu: -1}}\n'
    )
    report, _ = check_option_files(['variant.yml'], ['val:val_freq=0', 'train:nowhere:deep=1'])
    for words in (
        'options/base.yml:51: train.ema_decay', 'variant.yml:3: datasets.train.batch_size_per_gpu',
        'variant.yml:2: x: ',
        'variant.yml:4: datasets.train.num_worker_per_gpu', '--force_yml: val.val_freq', "there is no 'nowhere'",
    ):  # fmt: skip
        assert words in report, report
    assert 'variant.yml:5' not in report


def test_a_run_stops_before_anything_is_built_and_tells_all(workspace):
    from basicsr.utils import logger

    from kdsr.errors import UserError

    make_files(workspace)
    (workspace.root / 'run.yml').write_text(
        GOOD.replace('ema_decay:', 'ema_dacay:').replace('val_freq: 50', 'val_freq: x')
    )
    with pytest.raises(UserError) as error:
        workspace.train('run.yml')
    assert 'run.yml:51: train.ema_dacay' in str(error.value)
    assert 'run.yml:57: val.val_freq' in str(error.value)
    assert not Path('experiments').exists()
    assert 'basicsr' not in logger.initialized_logger  # the next run's log would have no file


def test_nonsense_of_any_kind_is_reported_and_never_a_traceback(workspace):
    """Values in all parts of the good file, replaced by values of every other kind."""
    opt = yaml.safe_load(GOOD)

    def paths(value, path=()):
        if path:
            yield path
        for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
            yield from paths(value[key], (*path, key))

    nonsense = [None, 7, -1.5, 'words', [], {}, [[]], True, {'type': 3}]
    for i, path in list(enumerate(paths(opt)))[::4]:
        spoilt = yaml.safe_load(GOOD)
        node = spoilt
        for key in path[:-1]:
            node = node[key]
        node[path[-1]] = nonsense[i % len(nonsense)]
        report, _ = check(workspace, yaml.safe_dump(spoilt))
        assert report
