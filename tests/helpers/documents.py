"""The code blocks of the documents, and a folder in which their commands can be run."""

from __future__ import annotations

import glob
import re
import shlex
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import torch
import yaml
from safetensors.torch import load_file

from kdsr import zoo
from kdsr.data.prepare import prepare_benchmark_set
from kdsr.metadata import safetensors_metadata

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    path
    for pattern in ('*.md', 'docs/*.md', 'docs/methods/*.md', 'datasets/*.md', 'options/*.md')
    for path in ROOT.glob(pattern)
)
_BLOCK = re.compile(r'(?P<note><!-- not run: .*? -->\n)?^```(?P<language>\w*)\n(?P<text>.*?)^```$', re.M | re.S)
_FILE = re.compile(r'# ([\w/]+\.(?:py|yml))\n')


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its text, and why it is not run (empty if it is)."""

    language: str
    text: str
    not_run: str

    @property
    def file(self) -> str:
        """The file that the block is, named in its first line; empty if it is none."""
        named = _FILE.match(self.text)
        return named[1] if named else ''

    def commands(self) -> list[list[str]]:
        """Return the words of each command, without comments; patterns are resolved in the current folder."""
        lines = self.text.replace('\\\n', ' ').splitlines()
        return [_words(line) for line in lines if shlex.split(line, comments=True)]


def blocks(page: Path) -> list[Block]:
    """Return the fenced blocks of a page."""
    found = _BLOCK.finditer(page.read_text(encoding='utf-8'))
    return [Block(one['language'], one['text'], (one['note'] or '').strip()) for one in found]


def _words(line: str) -> list[str]:
    words = shlex.split(line, comments=True)
    return [path for word in words for path in (sorted(glob.glob(word, recursive=True)) if '*' in word else [word])]


def inline_commands(page: Path) -> Iterator[list[str]]:
    """Yield the words of every `kdsr ...` between backticks in the text of a page."""
    text = _BLOCK.sub('', page.read_text(encoding='utf-8'))
    for command in re.findall(r'`kdsr ([^`]+)`', text):
        yield shlex.split(command.replace('\n', ' '))


def small(text: str) -> str:
    """Return an option file of a page with a run of two iterations on small crops."""
    for key, value in (('total_iter', 2), ('val_freq', 2), ('save_checkpoint_freq', 2), ('gt_size', 32)):
        text = re.sub(rf'{key}: \d+', f'{key}: {value}', text)
    return text.replace('periods: [1000]', 'periods: [2]')


def make_folder(root: Path) -> None:
    """Fill a folder with what the pages assume: photos, test sets, an option file, networks, a trained run."""
    from skimage import data

    for folder, photos in (('photos', ('astronaut', 'coffee')), ('unseen', ('cat', 'rocket'))):
        (root / folder).mkdir(parents=True)
        for name in photos:
            image = cv2.cvtColor(getattr(data, name)()[60:156, 60:156], cv2.COLOR_RGB2BGR)
            cv2.imwrite(str(root / folder / f'{name}.png'), image)
    shutil.copy(root / 'photos/astronaut.png', root / 'photo.png')
    for name in ('Set5', 'Set14'):
        shutil.copytree(root / 'unseen', root / f'{name}_HR')
        prepare_benchmark_set(root / 'unseen', root / 'datasets' / name, scales=(2, 4), workers=1, progress=False)
    (root / 'options').symlink_to(ROOT / 'options')
    better = zoo.find_file('rfdn_small_x2')
    network = yaml.safe_load(safetensors_metadata(better)['network'])
    torch.save({'params': load_file(better), 'network': network}, root / 'better.pth')
    _write_options(root, network)


def _write_options(root: Path, teacher: dict) -> None:
    """Write `my_network.yml`, `my_cached.yml`, and a trained run of the first."""
    data = {
        'name': 'photos', 'type': 'PairedImageDataset', 'dataroot_gt': 'datasets/Set5/HR',
        'dataroot_lq': 'datasets/Set5/LR_bicubic/X2', 'filename_tmpl': '{}x2', 'io_backend': {'type': 'disk'},
    }  # fmt: skip
    opt = {
        'name': 'my_network', 'model_type': 'SRModel', 'scale': 2, 'num_gpu': 'auto', 'manual_seed': 0,
        'datasets': {'train': {**data, 'gt_size': 32, 'use_hflip': True, 'use_rot': True, 'num_worker_per_gpu': 0,
                               'batch_size_per_gpu': 2, 'dataset_enlarge_ratio': 100}, 'val': data},
        'network_g': {'type': 'RFDN', 'upscale': 2, 'num_feat': 12, 'num_block': 3}, 'path': {},
        'train': {'ema_decay': 0.9, 'optim_g': {'type': 'Adam', 'lr': 1e-4}, 'total_iter': 2,
                  'scheduler': {'type': 'MultiStepLR', 'milestones': [100], 'gamma': 0.5},
                  'pixel_opt': {'type': 'L1Loss', 'loss_weight': 1.0, 'reduction': 'mean'}},
        'val': {'val_freq': 2, 'save_img': False, 'metrics': {
            'psnr': {'type': 'calculate_psnr', 'crop_border': 2, 'test_y_channel': True}}},
        'logger': {'print_freq': 1, 'save_checkpoint_freq': 2, 'use_tb_logger': False},
    }  # fmt: skip
    cached = {
        'base': 'my_network.yml', 'name': 'my_cached', 'model_type': 'DistillationModel',
        'distillation': {'teachers': [{'name': 'better', 'network': teacher, 'path': 'better.pth'}],
                         'losses': {'l_kd': {'type': 'ResponseLoss'}}, 'cache': 'datasets/cache/my_network.raw'},
    }  # fmt: skip
    (root / 'my_network.yml').write_text(yaml.safe_dump(opt))
    (root / 'my_cached.yml').write_text(yaml.safe_dump(cached))
    trained = root / 'experiments' / 'my_student'
    (trained / 'models').mkdir(parents=True)
    torch.save({'params': torch.load(root / 'better.pth')['params']}, trained / 'models' / 'net_g_latest.pth')
    (trained / 'my_student.yml').write_text(yaml.safe_dump({**opt, 'name': 'my_student', 'network_g': teacher}))
