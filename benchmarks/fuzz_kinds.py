"""The kinds of files that `fuzz.py` changes: one right file of each, how it is changed, and the code that reads it."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import os
import random
import shutil
import sys
import unittest.mock
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import kdsr
from kdsr import options

# isort: split
import torch
from basicsr.utils.logger import initialized_logger
from fuzz_changes import change_bytes, dump, odd_onnx, odd_tensor, several
from PIL import Image
from safetensors.torch import save_file
from stress_kill import EDSR, kinds, prepare

from kdsr.authoring.option_check import check_option_files
from kdsr.benchmark import scoring
from kdsr.benchmark.report import format_csv
from kdsr.benchmark.results import ImageScore, SetScores
from kdsr.comparison import references
from kdsr.comparison.plan import read_comparison
from kdsr.comparison.training_record import read_record
from kdsr.data import set_headers
from kdsr.data.growing_folder import GrowingFolder
from kdsr.data.image_headers import ImageHeader, read_header
from kdsr.data.prepare import prepare_training_set
from kdsr.data.raw_images import RawImages
from kdsr.data.verifying import verify_sets
from kdsr.deployment.card import read_card
from kdsr.deployment.sources import make_card, read_model
from kdsr.errors import UserError
from kdsr.lifecycle.locking import FolderLock, Holder
from kdsr.metadata import safetensors_metadata

assert kdsr.__version__  # kdsr comes first: it repairs BasicSR's import


class Kinds:
    """The kinds of files, each with one that is right, and the code that reads it.

    Args:
        folder: Where the files lie.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        prepare(folder)
        _, self.opt = kinds(folder).values()
        self.comparison = {
            'name': 'study', 'seeds': [0, 1], 'baseline': 'a', 'about': 'text',
            'common': {k: v for k, v in self.opt.items() if k not in ('name', 'manual_seed', 'distillation')},
            'runs': {
                'a': {'model_type': 'StudentModel', 'title': 'A', 'note': 'n'},
                'b': {'distillation': self.opt['distillation'], 'needs': ['a'], 'seeds': [0]},
            },
        }  # fmt: skip
        prepare_training_set(folder / 'gt', folder / 'sets', (2,), 24, 24, 1, progress=False, raw=True)
        prepare_training_set(folder / 'gt', folder / 'sets', (2,), 24, 24, 1, progress=False)
        self.raw = folder / 'sets' / 'gt_HR_sub.raw'
        self.index = json.loads((self.raw / 'index.json').read_bytes())
        self.lmdb = folder / 'sets' / 'gt_HR_sub.lmdb'
        self._begin_sets()
        self.weights = torch.load(folder / 'teacher.pth', weights_only=True)['params']
        self.network = {**EDSR, 'type': 'RCAN', 'num_group': 2, 'num_block': 1, 'squeeze_factor': 4}
        torch.save({'params': self.weights, 'network': self.network}, folder / 'whole.pth')
        one, _ = read_model(str(folder / 'whole.pth'))
        self.card = make_card(one, one.source).metadata()
        self.state = self._train()
        self.readers: dict[str, Callable[[random.Random], object]] = {
            'option file, values': self.option_file,
            'option file, bytes': self.option_bytes,
            'command line': self.override,
            'comparison file': self.comparison_file,
            'checkpoint': self.checkpoint,
            'checkpoint, bytes': self.checkpoint_bytes,
            'safetensors': self.safetensors,
            'safetensors, bytes': self.safetensors_bytes,
            'ONNX': self.onnx,
            'training state': self.training_state,
            'raw index': self.raw_index,
            'raw index, bytes': self.raw_bytes,
            'set settings': self.set_settings,
            'list of an LMDB': self.lmdb_list,
            'record of a run': self.record,
            'holder of a lock': self.holder,
            'journal of an LMDB': lambda rng: self.journal(rng, '.lmdb'),
            'journal of a raw set': lambda rng: self.journal(rng, '.raw'),
            'kept scores': self.kept_scores,
            'kept references': self.kept_references,
            'kept headers': self.kept_headers,
            'image': self.image,
        }

    def _begin_sets(self) -> None:
        """Make sets that are not finished."""

        def stop(_: object) -> None:
            raise UserError('stopped')

        with unittest.mock.patch.object(GrowingFolder, 'finish', stop):
            for raw in (False, True):
                with contextlib.suppress(UserError):
                    self._prepare(self.folder / 'begun', raw)

    def _prepare(self, out: Path, raw: bool) -> object:
        return prepare_training_set(self.folder / 'gt', out, (2,), 24, 24, 1, progress=False, raw=raw)

    def _train(self) -> dict[str, Any]:
        from basicsr.train import train_pipeline

        opt = {**self.opt, 'train': {**self.opt['train'], 'total_iter': 2}}
        (self.folder / 'run.yml').write_text(options.dump(opt))
        argv, sys.argv = sys.argv, ['train.py', '-opt', str(self.folder / 'run.yml')]
        try:
            train_pipeline(str(self.folder))
        finally:
            sys.argv = argv
            forget_loggers()
        path = self.folder / 'experiments' / 'run' / 'training_states' / '2.state'
        self.record_text = ''.join(json.dumps(event) + '\n' for event in EVENTS)
        return torch.load(path, weights_only=False)

    def option_file(self, rng: random.Random) -> object:
        """Check an option file, then the experiment in it."""
        (self.folder / 'fuzz.yml').write_text(dump(several(self.opt, rng)), errors='surrogatepass')
        return check_option_files([str(self.folder / 'fuzz.yml')])

    def option_bytes(self, rng: random.Random) -> object:
        """Read an option file with damaged bytes."""
        (self.folder / 'fuzz.yml').write_bytes(change_bytes(options.dump(self.opt).encode(), rng))
        return options.load_experiment(str(self.folder / 'fuzz.yml'))

    def override(self, rng: random.Random) -> object:
        """Read an option file with words of a command line."""
        (self.folder / 'fuzz.yml').write_text(options.dump(self.opt))
        words = change_bytes(rng.choice((b'train:total_iter=5', b'name=x', b'val:metrics:psnr={a: [1, 2]}')), rng)
        file = options.read(str(self.folder / 'fuzz.yml'), [os.fsdecode(words)])
        return options.find_option_problems(file.opt, is_train=True)

    def comparison_file(self, rng: random.Random) -> object:
        """Read a comparison file."""
        (self.folder / 'fuzz.yml').write_text(dump(several(self.comparison, rng)))
        return read_comparison(str(self.folder / 'fuzz.yml'))

    def checkpoint(self, rng: random.Random) -> object:
        """Load a network from a checkpoint with odd tensors and options."""
        content: dict[str, Any] = {'params': dict(self.weights), 'network': dict(self.network)}
        if rng.random() < 0.5:
            name = rng.choice(list(self.weights))
            content['params'][name] = odd_tensor(self.weights[name], rng)
        else:
            content = several(content, rng)
        if rng.random() < 0.3 and isinstance(content, dict):
            content.pop('network', None)
        torch.save(content, self.folder / 'fuzz.pth')
        return kdsr.load_network(str(self.folder / 'fuzz.pth'))

    def checkpoint_bytes(self, rng: random.Random) -> object:
        """Load a network from a checkpoint with damaged bytes."""
        (self.folder / 'fuzz.pth').write_bytes(change_bytes((self.folder / 'whole.pth').read_bytes(), rng))
        return kdsr.load_network(str(self.folder / 'fuzz.pth'))

    def safetensors(self, rng: random.Random) -> object:
        """Load a network, and its card, from a safetensors file with odd metadata."""
        path = str(self.folder / 'fuzz.safetensors')
        metadata = dict(self.card)
        key = rng.choice(list(metadata))
        if rng.random() < 0.5 and key in ('network', 'metrics'):
            metadata[key] = json.dumps(several(json.loads(metadata[key]), rng))
        elif rng.random() < 0.2:
            del metadata[key]
        else:
            metadata[key] = rng.choice(('', '-1', '1000000', '9' * 40, '[]', '{}', 'null', '1.5', '"x"', '[[["', 'NaN'))
        save_file(self.weights, path, metadata=metadata)
        read_card(safetensors_metadata(path), path)
        return read_model(path)

    def safetensors_bytes(self, rng: random.Random) -> object:
        """Load a network from a safetensors file with damaged bytes."""
        path = self.folder / 'fuzz.safetensors'
        save_file(self.weights, str(path), metadata=self.card)
        path.write_bytes(change_bytes(path.read_bytes(), rng))
        return read_model(str(path))

    def onnx(self, rng: random.Random) -> object:
        """Open an ONNX file with odd shapes, channels and metadata."""
        from kdsr.deployment.upscaler import Upscaler

        path = self.folder / 'fuzz.onnx'
        path.write_bytes(odd_onnx(self.card, rng))
        return Upscaler(str(path)).scale

    def training_state(self, rng: random.Random) -> object:
        """Resume a run from a damaged state."""
        from basicsr.train import train_pipeline

        opt = {**self.opt, 'train': {**self.opt['train'], 'total_iter': 3}}
        (self.folder / 'run.yml').write_text(options.dump(opt))
        state = several(self.state, rng)
        torch.save(state, self.folder / 'experiments/run/training_states/2.state')
        argv, sys.argv = sys.argv, ['train.py', '-opt', str(self.folder / 'run.yml'), '--auto_resume']
        try:
            return train_pipeline(str(self.folder))
        finally:
            sys.argv = argv
            forget_loggers()

    def raw_index(self, rng: random.Random) -> object:
        """Open a raw set with a damaged index, and read its images."""
        return self._read_raw(json.dumps(several(self.index, rng)).encode())

    def raw_bytes(self, rng: random.Random) -> object:
        """Open a raw set with damaged bytes in its index."""
        return self._read_raw(change_bytes(json.dumps(self.index).encode(), rng))

    def _read_raw(self, index: bytes) -> object:
        (self.raw / 'index.json').write_bytes(index)
        images = RawImages(self.raw)
        return [images.image(number) for number in range(min(3, len(images)))]

    def set_settings(self, rng: random.Random) -> object:
        """Make a set again whose settings are damaged."""
        path = self.lmdb / 'kdsr_prepare.json'
        right = path.read_bytes()
        try:
            path.write_bytes(json.dumps(several(json.loads(right), rng)).encode())
            return prepare_training_set(self.folder / 'gt', self.folder / 'sets', (2,), 24, 24, 1, progress=False)
        finally:
            path.write_bytes(right)

    def lmdb_list(self, rng: random.Random) -> object:
        """Verify an LMDB whose list is damaged."""
        path = self.lmdb / 'meta_info.txt'
        right = path.read_bytes()
        try:
            path.write_bytes(change_bytes(right, rng))
            return verify_sets([self.lmdb])
        finally:
            path.write_bytes(right)

    def record(self, rng: random.Random) -> object:
        """Read the record of a run with damaged lines."""
        events = several(EVENTS, rng)
        lines = ''.join(json.dumps(event) + '\n' for event in events) if isinstance(events, list) else ''
        text = lines.encode() if rng.random() < 0.5 else change_bytes(self.record_text.encode(), rng)
        (self.folder / 'record.jsonl').write_bytes(text)
        return read_record(str(self.folder))

    def holder(self, rng: random.Random) -> object:
        """Take a lock beside a damaged file of its holder."""
        lock = FolderLock(self.folder / 'locked', 'being written')
        Holder.here().write(lock.holder_path)
        content = several(json.loads(lock.holder_path.read_bytes()), rng)
        lock.holder_path.write_bytes(change_bytes(json.dumps(content).encode(), rng))
        Holder.read(lock.holder_path)
        with lock:
            return None

    def journal(self, rng: random.Random, ending: str) -> object:
        """Go on with a set whose journal is damaged."""
        out = self.folder / 'resumed'
        shutil.rmtree(out, ignore_errors=True)
        shutil.copytree(self.folder / 'begun', out)
        path = out / f'gt_HR_sub{ending}.partial' / 'finished.jsonl'
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        text = ''.join(json.dumps(line) + '\n' for line in several(lines, rng) or ()).encode()
        path.write_bytes(text if rng.random() < 0.7 else change_bytes(path.read_bytes(), rng))
        return self._prepare(out, ending == '.raw')

    def kept_scores(self, rng: random.Random) -> object:
        """Read scores of a benchmark that were kept, and report them."""
        path = self.folder / 'scores.json'
        text = json.dumps(several(dataclasses.asdict(SCORES), rng)).encode()
        path.write_bytes(text if rng.random() < 0.7 else change_bytes(text, rng))
        named = SimpleNamespace(name='x', source='x.pth')
        scores = scoring._read_finished(SimpleNamespace(candidate=named, test_set=named), path)
        return scores and (scores.psnr, scores.ssim, scores.lost_to_bicubic, format_csv([scores]))

    def kept_references(self, rng: random.Random) -> object:
        """Read values of bicubic and of teachers that were kept."""
        path, right = self.folder / 'references.json', {'a': [['tiny', 'psnr', 30.5]], 'b': [['tiny', 'ssim', 0.5]]}
        text = json.dumps(several(right, rng)).encode()
        path.write_bytes(text if rng.random() < 0.7 else change_bytes(text, rng))
        return [{(name, metric): v + 1 for name, metric, v in kept} for kept in references._read(path).values()]

    def kept_headers(self, rng: random.Random) -> object:
        """Check images whose kept headers are damaged."""
        names = [f'{number}.png' for number in range(300)]
        place = set_headers._place(self.folder / 'many')
        set_headers._save(place, {name: ([1, 2], ImageHeader((4, 5), mark='x')) for name in names})
        place.write_bytes(change_bytes(place.read_bytes(), rng))
        headers = set_headers._load(place)
        return [(header.size[0] + header.size[1], header.describe_loss()) for _, header in headers.values()]

    def image(self, rng: random.Random) -> object:
        """Check and read an image with damaged bytes."""
        from kdsr.image_files.reading import read_picture

        ending = rng.choice(('png', 'jpg', 'webp', 'bmp', 'tif'))
        right, path = self.folder / f'right.{ending}', self.folder / f'fuzz.{ending}'
        if not right.exists():
            with Image.open(self.folder / 'gt' / '0.png') as image:
                image.save(right)
        path.write_bytes(change_bytes(right.read_bytes(), rng))
        read_header(path)
        return read_picture(path)


EVENTS: list[dict[str, Any]] = [
    {'event': 'start', 'iter': 0, 'date': 1.0, 'parameters': 5},
    {'event': 'log', 'iter': 1, 'date': 2.0, 'losses': {'l_pix': 0.5}, 'step_seconds': 0.1, 'seconds': 1.0,
     'cpu_seconds': 1.0},
    {'event': 'validation', 'iter': 2, 'date': 3.0, 'set': 'tiny', 'values': {'psnr': 30.0}, 'seconds': 2.0,
     'cpu_seconds': 2.0},
    {'event': 'start', 'iter': 2, 'date': 4.0, 'parameters': 5},
    {'event': 'end', 'iter': 2, 'date': 5.0, 'seconds': 2.0, 'cpu_seconds': 2.0},
]  # fmt: skip


SCORES = SetScores(
    model='rfdn', scale=2, set_name='Set5', lr_origin='bicubic', crop=2, source='x.pth', fingerprint='0', parameters=5,
    luminance=False, quadrants=False, seconds=1.5,
    images=(ImageScore('a', 30.0, 0.9, 28.0), ImageScore('b', 31.0, 0.8)),
)  # fmt: skip


def forget_loggers() -> None:
    """Close BasicSR's logs: each run has its own."""
    initialized_logger.clear()
    logger = logging.getLogger('basicsr')
    for handler in list(logger.handlers):
        handler.close()
        logger.removeHandler(handler)
