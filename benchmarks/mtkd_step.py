"""What three teachers cost in a training step: MTKD's stage 2 against the student alone, at the paper's network sizes.

    OMP_NUM_THREADS=1 python benchmarks/mtkd_step.py            # writes benchmarks/results/mtkd_step_<device>.md

Steps of the same EDSR-baseline x4 are timed in turn, in one process, and compared round by round (on a CPU in CPU time,
which other programs disturb less): `plain` (BasicSR's SRModel), `kdsr, live` (DistillationModel, wavelet loss),
`kdsr, cached` (the same with `distillation.cache`: the loader delivers what the teachers made of the image) and `under
autograd`, the formulation of the released code: teachers and aggregator run with gradients, and the target is not
detached. Taking the batch to the device is part of each step. Weights are random.
"""

from __future__ import annotations

import argparse
import copy
import os
import platform
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import torch

import kdsr
from kdsr import options
from kdsr.distillation.cached_teachers import CachedTeachers

# isort: split
from basicsr.archs import build_network
from basicsr.models import build_model
from torch.nn import functional as F

ROOT = Path(__file__).parents[1]


def experiment(folder: str, batch: int, lq_size: int) -> dict:
    """Return the options of mtkd_edsr_x4.yml with random weights on disk, as BasicSR's parser would leave them."""
    opt = options.load(str(ROOT / 'options' / 'mtkd_edsr_x4.yml'))
    block = opt['distillation']
    block['health_check'] = False
    for network in (*block['teachers'], block['aggregator']):
        network['path'] = os.path.join(folder, f'{network.get("name", "aggregator")}.pth')
        torch.save({'params': build_network(network['network']).state_dict()}, network['path'])
    opt['num_gpu'] = int(torch.cuda.is_available())
    opt['datasets']['train'].update(gt_size=4 * lq_size, batch_size_per_gpu=batch)
    opt['train']['ema_decay'] = 0
    return {**opt, 'is_train': True, 'dist': False, 'rank': 0, 'world_size': 1}


def under_autograd(model: object) -> None:
    """Take one step in the released formulation."""
    model.optimizer_g.zero_grad()
    images = [member.network(model.lq) for member in model.teacher.members]
    target = model.teacher.aggregator.network(torch.cat(images, 1))
    output = model.net_g(model.lq)
    (0.1 * F.l1_loss(output, model.gt) + F.l1_loss(output, target)).backward()
    model.optimizer_g.step()


def timed(step: object) -> float:
    """Return the seconds of one call, device included."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    clock = time.perf_counter if torch.cuda.is_available() else time.process_time
    start = clock()
    step()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return clock() - start


def main() -> None:
    """Measure and write the result."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--batch', type=int, default=2)
    parser.add_argument('--lq-size', type=int, default=32)
    parser.add_argument('--rounds', type=int, default=5)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        opt = experiment(folder, args.batch, args.lq_size)
        plain = build_model({**copy.deepcopy(opt), 'model_type': 'SRModel'})
        distilled, cached, released = (build_model(copy.deepcopy(opt)) for _ in range(3))
    for parameter in released.teacher.parameters():
        parameter.requires_grad_(True)
    cached.teacher = CachedTeachers(cached.teacher.names)  # the check of a real cache happens before training
    lq = torch.rand(args.batch, 3, args.lq_size, args.lq_size)
    data = {'lq': lq, 'gt': F.interpolate(lq, scale_factor=4)}
    with_teacher = {**data, 'teacher': data['gt'].mul(255).byte()}
    steps = {
        'plain': lambda: (plain.feed_data(data), plain.optimize_parameters(1)),
        'kdsr, live': lambda: (distilled.feed_data(data), distilled.optimize_parameters(1)),
        'kdsr, cached': lambda: (cached.feed_data(with_teacher), cached.optimize_parameters(1)),
        'under autograd': lambda: (released.feed_data(data), under_autograd(released)),
    }
    rounds = [{name: timed(step) for name, step in steps.items()} for _ in range(args.rounds + 1)][1:]
    write(args, rounds)


def write(args: argparse.Namespace, rounds: list[dict[str, float]]) -> None:
    """Print the table and keep it beside what it was measured on."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else 'cpu'
    commit = subprocess.run(['git', 'rev-parse', '--short', 'HEAD'], cwd=ROOT, capture_output=True, text=True).stdout
    threads = f', {torch.get_num_threads()} thread(s)' if device == 'cpu' else ''
    lines = [
        '# One training step of MTKD, stage 2',
        '',
        f'EDSR-baseline x4 student; SwinIR, RCAN, EDSR teachers and DCTSwin at full size; LR {args.lq_size}, batch '
        f'{args.batch}, {args.rounds} rounds, fp32. {device} ({platform.processor() or platform.machine()}{threads}), '
        f'torch {torch.__version__}, kdsr {kdsr.__version__} at {commit.strip()}, {time.strftime("%Y-%m-%d")}.',
        '',
        '| step | seconds (min / median / max) | x plain | under autograd / this |',
        '|---|---|---|---|',
    ]
    for name in rounds[0]:
        seconds = [r[name] for r in rounds]
        to_plain = statistics.median(r[name] / r['plain'] for r in rounds)
        gained = statistics.median(r['under autograd'] / r[name] for r in rounds)
        spread = f'{min(seconds):.3f} / {statistics.median(seconds):.3f} / {max(seconds):.3f}'
        lines.append(f'| {name} | {spread} | {to_plain:.2f} | {gained:.2f} |')
    text = '\n'.join(lines) + '\n'
    print(text)
    path = ROOT / 'benchmarks' / 'results' / f'mtkd_step_{device.replace(" ", "_").lower()}.md'
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding='utf-8')


if __name__ == '__main__':
    main()
