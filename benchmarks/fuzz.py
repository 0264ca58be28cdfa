"""Feed damaged and hostile files of every kind to kdsr, and count what is not answered with one message.

    OMP_NUM_THREADS=1 python benchmarks/fuzz.py --minutes 10        # writes benchmarks/results/fuzz_cpu.md

Every round takes a right file of one kind, changes it in one to three places (a value of another type or size, a key
that is missing, flipped or missing bytes), and gives it to the code that reads such files. The answer must come within
seconds and be a result, or a UserError: one message. Anything else is a finding: its kind, round and traceback are
printed, and the script ends with status 1. A round depends on its number and `--seed` alone, so `--kind KIND --round N`
repeats it.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import io
import json
import logging
import os
import random
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import kdsr
from kdsr import options

# isort: split
import numpy as np
import torch
from basicsr.utils.logger import initialized_logger
from safetensors.torch import save_file
from side_by_side import keep, machine
from stress_kill import EDSR, kinds, prepare

from kdsr.authoring.option_check import check_option_files
from kdsr.comparison.plan import read_comparison
from kdsr.comparison.training_record import read_record
from kdsr.data.prepare import prepare_training_set
from kdsr.data.raw_images import RawImages
from kdsr.data.verifying import verify_sets
from kdsr.deployment.card import read_card
from kdsr.deployment.sources import make_card, read_model
from kdsr.errors import UserError
from kdsr.lifecycle.locking import FolderLock, Holder
from kdsr.metadata import safetensors_metadata

assert kdsr.__version__  # kdsr comes first: it repairs BasicSR's import
SLOW, STUCK = 20.0, 120.0  # processor seconds, and seconds on the clock; a round takes milliseconds
ODD = (
    None, True, -1, 0, 1, 7, 2**31, 2**53 + 1, 10**30, 0.5, -1e300, float('nan'), float('inf'), '', 'x', '..', '../x',
    'a/b', '\0', 'é' * 90, '~', 'none', '1e999', [], [1], ['x'], [[]], [None], {}, {'x': 1}, {'type': 'x'},
    {'type': ['EDSR']},
)  # fmt: skip


def change(value: Any, rng: random.Random) -> Any:
    """Change a copy of nested values in one place."""
    value = copy.deepcopy(value)
    node: Any = value
    while True:
        if not isinstance(node, (dict, list)) or not node:
            return rng.choice(ODD)
        key = rng.choice(list(node) if isinstance(node, dict) else range(len(node)))
        if isinstance(node[key], (dict, list)) and node[key] and rng.random() < 0.8:
            node = node[key]
            continue
        act = rng.random()
        if act < 0.7:
            node[key] = copy.deepcopy(rng.choice(ODD))
        elif act < 0.85:
            del node[key]
        elif isinstance(node, dict):
            node[rng.choice(('x', '', '<<', 'type', 'name', '1'))] = node[key]
        else:
            node.append(node[key])
        return value


def change_bytes(content: bytes, rng: random.Random) -> bytes:
    """Flip, remove or repeat bytes."""
    data = bytearray(content)
    for _ in range(rng.randint(1, 8)):
        if not data:
            break
        place = rng.randrange(len(data))
        act = rng.random()
        if act < 0.6:
            data[place] ^= 1 << rng.randrange(8)
        elif act < 0.8:
            del data[place : place + rng.randint(1, 40)]
        elif act < 0.9:
            data[place:place] = data[place : place + rng.randint(1, 40)]
        else:
            data = data[:place]
    return bytes(data)


def several(value: Any, rng: random.Random) -> Any:
    """Change nested values in one to three places."""
    for _ in range(rng.randint(1, 3)):
        value = change(value, rng)
    return value


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
            'image': self.image,
        }

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

    def image(self, rng: random.Random) -> object:
        """Check and read an image with damaged bytes."""
        from kdsr.image_files.reading import read_picture

        path = self.folder / 'fuzz.png'
        path.write_bytes(change_bytes((self.folder / 'gt' / '0.png').read_bytes(), rng))
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


def dump(content: Any) -> str:
    """Return YAML, also of values that options cannot have."""
    return options.dump(content) if isinstance(content, dict) else json.dumps(content)


def odd_tensor(tensor: torch.Tensor, rng: random.Random) -> Any:
    """Return a tensor of another kind, size or type."""
    flat = tensor.reshape(-1)
    makers: list[Callable[[], Any]] = [
        lambda: tensor.to_sparse(),
        lambda: torch.quantize_per_tensor(tensor, 0.1, 0, torch.qint8),
        lambda: tensor.to('meta'),
        lambda: torch.nested.nested_tensor([flat, flat[:1]]),
        lambda: flat[:1].expand(1000, 1000),
        lambda: tensor.to(rng.choice((torch.int64, torch.bool, torch.complex64, torch.float64, torch.bfloat16))),
        lambda: tensor * float('nan'),
        lambda: tensor[..., :0],
        lambda: tensor.unsqueeze(0),
        lambda: [tensor],
    ]
    return rng.choice(makers)()


def odd_onnx(card: dict[str, str], rng: random.Random) -> bytes:
    """Return an ONNX file that enlarges by repetition, with something odd about it."""
    from onnx import TensorProto, helper

    scales = [1.0, 1.0, 2.0, 2.0]
    scales[rng.randrange(4)] = rng.choice((1.0, 2.0, 3.0, 1.5))
    kind = rng.choice((TensorProto.FLOAT, TensorProto.FLOAT, TensorProto.UINT8, TensorProto.DOUBLE))
    sides = rng.choice(
        (['n', 3, 'h', 'w'], ['n', 1, 'h', 'w'], [1, 3, 8, 8], ['n', 'h', 'w'], ['n', 3, 'h', 8], [0, 3, 8, 8])
    )
    inputs = [helper.make_tensor_value_info('lq', kind, sides)]
    outputs = [helper.make_tensor_value_info('sr', kind, ['n', rng.choice((1, 3)), 'H', 'W'][: len(sides)])]
    nodes = [helper.make_node('Resize', ['lq', '', 'scales'], ['sr'], mode='nearest')]
    initial = [helper.make_tensor('scales', TensorProto.FLOAT, [4], scales)]
    if rng.random() < 0.2:
        nodes = [helper.make_node('ReduceMean', ['lq'], ['sr'], axes=[1], keepdims=1)]
    graph = helper.make_graph(nodes, 'g', inputs if rng.random() < 0.9 else [], outputs, initial)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 13)])
    model.ir_version = 8
    metadata = dict(card)
    key = rng.choice(list(metadata))
    metadata[key] = rng.choice(('', '-1', '1000000', '9' * 40, '[]', '{}', 'null', '2'))
    helper.set_model_props(model, metadata if rng.random() < 0.7 else {})
    return bytes(model.SerializeToString())


def forget_loggers() -> None:
    """Close BasicSR's logs: each run has its own."""
    initialized_logger.clear()
    logger = logging.getLogger('basicsr')
    for handler in list(logger.handlers):
        handler.close()
        logger.removeHandler(handler)


def answer(read: Callable[[random.Random], object], seed: str) -> tuple[str, float]:
    """Run one round; return 'taken', 'refused', or the traceback of a finding, and its processor seconds."""
    began, worked = time.monotonic(), time.process_time()
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            read(random.Random(seed))
        result = 'taken'
    except UserError:
        result = 'refused'
    except Exception:
        result = traceback.format_exc()
    seconds, waited = time.process_time() - worked, time.monotonic() - began
    quick = seconds < SLOW and waited < STUCK
    return (result if quick else f'{result}: it took {seconds:.1f} processor seconds, {waited:.1f} s in all'), seconds


def main() -> None:
    """Run rounds until the time is over, and write the counts."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--minutes', type=float, default=10.0)
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--kind', help='only this kind')
    parser.add_argument('--round', type=int, help='only this round')
    parser.add_argument('--findings', type=int, default=20, help='stop after so many')
    args = parser.parse_args()
    torch.set_num_threads(1)
    np.seterr(all='ignore')
    warnings.simplefilter('ignore')
    began, findings = time.monotonic(), 0
    with tempfile.TemporaryDirectory(prefix='kdsr_fuzz_') as temporary:
        os.chdir(temporary)
        with contextlib.redirect_stdout(io.StringIO()):
            readers = Kinds(Path(temporary)).readers
        logging.disable(logging.CRITICAL)
        chosen = {name: read for name, read in readers.items() if args.kind in (None, name)}
        counts = {name: {'taken': 0, 'refused': 0, 'slowest': 0.0} for name in chosen}
        number = args.round or 0
        while findings < args.findings:
            for name, read in chosen.items():
                result, seconds = answer(read, f'{args.seed} {name} {number}')
                counts[name]['slowest'] = max(counts[name]['slowest'], seconds)
                if result in ('taken', 'refused'):
                    counts[name][result] += 1
                else:
                    findings += 1
                    print(f'FINDING {name}, round {number}:\n{result}', flush=True)
            number += 1
            if args.round is not None or time.monotonic() - began > 60 * args.minutes:
                break
        os.chdir('/')
    rounds = sum(int(count['taken'] + count['refused']) for count in counts.values())
    print(f'{rounds} rounds, {findings} findings')
    if findings:
        sys.exit(1)
    if args.kind is None and args.round is None:
        lines = [
            f'| {name} | {count["taken"]} | {count["refused"]} | {count["slowest"]:.2f} |'
            for name, count in counts.items()
        ]
        about = (
            f'{rounds} rounds in {(time.monotonic() - began) / 60:.1f} min, seed {args.seed}: no traceback, and '
            f'nothing that took {SLOW:g} processor seconds. {machine()} Written by `OMP_NUM_THREADS=1 python '
            f'benchmarks/fuzz.py --minutes {args.minutes:g}`.'
        )
        head = ['| file | taken | refused with one message | slowest round (processor seconds) |', '|---|---|---|---|']
        keep('fuzz', ['# Damaged and hostile files', '', about, '', *head, *lines])


if __name__ == '__main__':
    main()
