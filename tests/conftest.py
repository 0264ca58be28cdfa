"""Fixtures shared by all tests: tiny images, tiny networks, and a run of BasicSR's pipeline inside the test process."""

from __future__ import annotations

import logging
import os
import socket
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml

import kdsr

# isort: split
from basicsr.archs import build_network
from basicsr.test import test_pipeline as basicsr_test_pipeline
from basicsr.train import train_pipeline
from basicsr.utils import logger as basicsr_logger

assert kdsr.__version__  # kdsr comes first: it repairs BasicSR's import
torch.set_num_threads(1)
cv2.setNumThreads(0)

NETWORKS = {
    'EDSR': {'type': 'EDSR', 'num_in_ch': 3, 'num_out_ch': 3, 'num_feat': 8, 'num_block': 3},
    'RCAN': {
        'type': 'RCAN', 'num_in_ch': 3, 'num_out_ch': 3, 'num_feat': 8, 'num_group': 3, 'num_block': 1,
        'squeeze_factor': 4,
    },
    'SwinIR': {
        'type': 'SwinIR', 'img_size': 16, 'in_chans': 3, 'embed_dim': 8, 'depths': [2, 2], 'num_heads': [2, 2],
        'window_size': 4, 'mlp_ratio': 2, 'upsampler': 'pixelshuffle', 'img_range': 1.0,
    },
    'SwinIRLight': {
        'type': 'SwinIR', 'img_size': 16, 'in_chans': 3, 'embed_dim': 8, 'depths': [2, 2], 'num_heads': [2, 2],
        'window_size': 4, 'mlp_ratio': 2, 'upsampler': 'pixelshuffledirect', 'img_range': 1.0,
    },
    'DCTSwin': {
        'type': 'DCTSwin', 'num_teachers': 2, 'embed_dim': 8, 'depths': [2], 'num_heads': 2, 'window_size': 4,
        'num_feat': 8,
    },
}  # fmt: skip


def network_opt(name: str, upscale: int = 2) -> dict:
    """Options of a tiny network."""
    return {**NETWORKS[name], 'upscale': upscale}


class Workspace:
    """A folder with a tiny dataset, teachers' weights, and BasicSR runs in it."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def images(self, count: int = 4, size: int = 48, scale: int = 2, name: str = 'photos') -> dict:
        """Write smooth random HR/LR pairs; return the dataset options of BasicSR's PairedImageDataset."""
        rng = np.random.default_rng(0)
        folders = {kind: self.root / name / kind for kind in ('gt', f'lq{scale}')}
        for folder in folders.values():
            folder.mkdir(parents=True, exist_ok=True)
        for i in range(count):
            gt = cv2.resize(rng.integers(0, 256, (size // 4, size // 4, 3), np.uint8), (size, size))
            lq = cv2.resize(gt, (size // scale, size // scale), interpolation=cv2.INTER_AREA)
            cv2.imwrite(str(self.root / name / 'gt' / f'{i:03d}.png'), gt)
            cv2.imwrite(str(self.root / name / f'lq{scale}' / f'{i:03d}.png'), lq)
        return {
            'name': name,
            'type': 'PairedImageDataset',
            'dataroot_gt': str(folders['gt']),
            'dataroot_lq': str(folders[f'lq{scale}']),
            'io_backend': {'type': 'disk'},
        }

    def weights(self, network: dict, name: str, seed: int = 1, **extras: object) -> str:
        """Write random weights of a network; return the path."""
        path = self.root / f'{name}.pth'
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            torch.save({'params': build_network(network).state_dict(), **extras}, path)
        return str(path)

    def teacher(self, name: str, upscale: int = 2, **settings: object) -> dict:
        """Options of a tiny teacher with weights on disk."""
        network = network_opt(name, upscale)
        return {
            'name': name.lower(),
            'network': network,
            'path': self.weights(network, f'{name}_x{upscale}'),
            **settings,
        }

    def options(self, student: str = 'EDSR', scale: int = 2, iterations: int = 2, **changes: object) -> dict:
        """Options of a tiny plain run; `changes` replace top-level keys."""
        dataset = self.images(scale=scale)
        return {
            'name': 'run',
            'model_type': 'SRModel',
            'scale': scale,
            'num_gpu': 0,
            'manual_seed': 0,
            'datasets': {
                'train': {
                    **dataset, 'gt_size': 32, 'use_hflip': True, 'use_rot': True, 'num_worker_per_gpu': 0,
                    'batch_size_per_gpu': 2, 'dataset_enlarge_ratio': 1,
                },
                'val': dataset,
            },
            'network_g': network_opt(student, scale),
            'path': {'pretrain_network_g': None, 'strict_load_g': True, 'resume_state': None},
            'train': {
                'ema_decay': 0.9,
                'optim_g': {'type': 'Adam', 'lr': 1e-3, 'betas': [0.9, 0.99]},
                'scheduler': {'type': 'MultiStepLR', 'milestones': [1000], 'gamma': 0.5},
                'total_iter': iterations,
                'pixel_opt': {'type': 'L1Loss', 'loss_weight': 1.0, 'reduction': 'mean'},
            },
            'val': {
                'val_freq': 1000, 'save_img': False,
                'metrics': {'psnr': {'type': 'calculate_psnr', 'crop_border': scale, 'test_y_channel': True}},
            },
            'logger': {'print_freq': 1, 'save_checkpoint_freq': 2, 'use_tb_logger': False},
            **changes,
        }  # fmt: skip

    def write(self, opt: dict, file: str = 'run.yml') -> str:
        """Write options as YAML; return the path. Random teachers would not pass the health check."""
        if 'distillation' in opt:
            opt = {**opt, 'distillation': {'health_check': False, **opt['distillation']}}
        path = self.root / file
        path.write_text(yaml.safe_dump(opt, sort_keys=False))
        return str(path)

    def train(self, opt: dict | str, *arguments: str) -> Path:
        """Run BasicSR's training pipeline in this process; return the experiment's folder."""
        path = opt if isinstance(opt, str) else self.write(opt)
        name = yaml.safe_load(Path(path).read_text()).get('name', 'run')
        self._run(train_pipeline, path, arguments)
        return self.root / 'experiments' / name

    def test(self, opt: dict, *arguments: str) -> Path:
        """Run BasicSR's test pipeline in this process; return the results' folder."""
        self._run(basicsr_test_pipeline, self.write(opt), arguments)
        return self.root / 'results' / opt['name']

    def _run(self, pipeline, path, arguments) -> None:
        argv = sys.argv
        sys.argv = ['run', '-opt', path, *arguments]
        reset_logger()
        try:
            pipeline(str(self.root))
        finally:
            sys.argv = argv
            reset_logger()


def reset_logger() -> None:
    """BasicSR's logger belongs to the process: the first run's file would get every later run's lines."""
    basicsr_logger.initialized_logger.clear()
    logger = logging.getLogger('basicsr')
    for handler in list(logger.handlers):
        handler.close()
        logger.removeHandler(handler)


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return Workspace(tmp_path)


@pytest.fixture(scope='session', autouse=True)
def _no_network():
    """Refuse connections that would leave the machine, in this process and those that it forks."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ('connect', 'connect_ex'):
            patch.setattr(socket.socket, name, _local_only(getattr(socket.socket, name)))
        yield


def _local_only(connect):
    def local(self, address):
        if self.family in (socket.AF_INET, socket.AF_INET6) and address[0] not in ('127.0.0.1', '::1', 'localhost'):
            raise AssertionError(f'a test connects to {address}')
        return connect(self, address)

    return local


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)
    np.random.seed(0)


def shared_folder() -> Path:
    """Research-only images and weights, outside the repository."""
    return Path(os.environ.get('KDSR_SHARED', Path(__file__).resolve().parents[2] / 'shared'))
