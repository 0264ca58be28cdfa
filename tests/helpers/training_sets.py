"""Training sets of a tiny experiment: on raw files, and their whole images."""

from __future__ import annotations

import copy
import os

from basicsr.data import build_dataset

from kdsr.data.prepare import prepare_training_set
from kdsr.distillation.outputs import Batch


def on_raw(workspace, opt, raw=True):
    """Let the experiment train on prepared sub-images, 32x32 every 16 pixels."""
    workspace.images(name='hr')
    gt, lq = prepare_training_set(workspace.root / 'hr' / 'gt', workspace.root, [2], 32, 16, 1, progress=False, raw=raw)
    kind = {'type': 'RawPairedImageDataset'} if raw else {'io_backend': {'type': 'lmdb'}}
    opt['datasets']['train'].update(dataroot_gt=str(gt), dataroot_lq=str(lq), gt_size=16, **kind)
    return opt


def samples(opt):
    """The whole training images by key."""
    train_set = {**opt['datasets']['train'], 'phase': 'val', 'scale': 2}
    pairs = build_dataset(copy.deepcopy(train_set))
    return {os.path.splitext(os.path.basename(p['gt_path']))[0]: Batch(p['lq'][None], p['gt'][None]) for p in pairs}
