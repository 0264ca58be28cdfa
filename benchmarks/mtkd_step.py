"""What three teachers cost in a training step: MTKD's stage 2 against the student alone, at the paper's network sizes.

    OMP_NUM_THREADS=1 python benchmarks/mtkd_step.py            # writes benchmarks/results/mtkd_step_<device>.md

Steps of the same EDSR-baseline x4 take turns in one process and are compared round by round: `plain` (BasicSR's
SRModel), kdsr's DistillationModel with its teachers live and with a target that is read from memory (uint8, as a cache
of the teachers' images gives it), and `under autograd`, the formulation of the released code: teachers and aggregator
run with gradients, and the target is not detached. Weights are random.
"""

from __future__ import annotations

import argparse
import copy
import os
import tempfile

import torch

import kdsr
from kdsr import options

# isort: split
from basicsr.archs import build_network
from basicsr.models import build_model
from side_by_side import (
    ROOT,
    Round,
    Step,
    feed,
    keep,
    low_precision,
    machine,
    parsed,
    spread,
    take_turns,
    times_faster,
)
from torch.nn import functional as F

from kdsr.distillation.outputs import Batch, NetworkOutput

assert kdsr.__version__  # kdsr comes first: it repairs BasicSR's import
RELEASED = 'under autograd'
LOW = low_precision()
LOW_TEACHERS = {'precision': LOW, 'channels_last': True}
LOW_STUDENT = {'amp': LOW, 'channels_last': True}


def experiment(folder: str, batch: int, lq_size: int, networks: dict | None = None) -> dict:
    """Return the options of mtkd_edsr_x4.yml with random weights on disk, as BasicSR's parser would leave them.

    Args:
        folder: For the weights.
        batch: Samples.
        lq_size: Pixels.
        networks: Other networks than the paper's: `student`, `aggregator`, and the teachers' names.
    """
    opt = options.load(str(ROOT / 'options' / 'mtkd_edsr_x4.yml'))
    block = opt['distillation']
    block['health_check'] = False
    opt['network_g'] = (networks or {}).get('student', opt['network_g'])
    for network in (*block['teachers'], block['aggregator']):
        name = network.get('name', 'aggregator')
        network['network'] = (networks or {}).get(name, network['network'])
        network['path'] = os.path.join(folder, f'{name}.pth')
        torch.save({'params': build_network(network['network']).state_dict()}, network['path'])
    opt['datasets']['train'].update(gt_size=4 * lq_size, batch_size_per_gpu=batch)
    opt['train']['ema_decay'] = 0
    return parsed(opt)


def variant(opt: dict, teachers: dict | None = None, **train: object) -> dict:
    """Return a copy of the options with other settings for the teachers (and the aggregator), and for training."""
    opt = copy.deepcopy(opt)
    for network in (*opt['distillation']['teachers'], opt['distillation']['aggregator']):
        network.update(teachers or {})
    opt['train'].update(train)
    return opt


class FromMemory:
    """A teacher whose answer is known: 8-bit images that are read and converted."""

    def __init__(self, images: torch.Tensor) -> None:
        self.images = images.clamp(0, 1).mul(255).round().to(torch.uint8)

    def __call__(self, batch: Batch, needs_image: bool = True) -> NetworkOutput:
        """Return the images in [0, 1]."""
        return NetworkOutput(self.images.float().div_(255))


def under_autograd(model: object) -> None:
    """Take one step in the released formulation."""
    model.optimizer_g.zero_grad()
    images = [member.network(model.lq) for member in model.teacher.members]
    target = model.teacher.aggregator.network(torch.cat(images, 1))
    output = model.net_g(model.lq)
    (0.1 * F.l1_loss(output, model.gt) + F.l1_loss(output, target)).backward()
    model.optimizer_g.step()


def steps_of(batch: int, lq_size: int, networks: dict | None = None) -> dict[str, Step]:
    """Return the steps by name; the names of kdsr's say what differs from its defaults."""
    with tempfile.TemporaryDirectory() as folder:
        opt = experiment(folder, batch, lq_size, networks)
        models = {
            'plain': build_model({**copy.deepcopy(opt), 'model_type': 'SRModel'}),
            'live': build_model(variant(opt)),
            f'live, teachers {LOW} and channels last': build_model(variant(opt, LOW_TEACHERS)),
            'live, student too': build_model(variant(opt, LOW_TEACHERS, **LOW_STUDENT)),
            'target from memory': build_model(variant(opt)),
            f'target from memory, student {LOW} and channels last': build_model(variant(opt, **LOW_STUDENT)),
            RELEASED: build_model(variant(opt)),
        }
    for model in models.values():
        feed(model, batch, lq_size)
    target = models['live'].teacher(Batch(models['live'].lq)).sr
    for name, model in models.items():
        if name.startswith('target'):
            model.teacher = FromMemory(target)
    for parameter in models[RELEASED].teacher.parameters():
        parameter.requires_grad_(True)
    steps = {name: lambda model=model: model.optimize_parameters(2) for name, model in models.items()}
    return {**steps, RELEASED: lambda: under_autograd(models[RELEASED])}


def table(rounds: list[Round]) -> list[str]:
    """Return the rows of the result."""
    lines = ['| step | seconds (min / median / max) | x plain | under autograd / this |', '|---|---|---|---|']
    for name in rounds[0]:
        to_plain, gained = 1 / times_faster(rounds, name, 'plain'), times_faster(rounds, name, RELEASED)
        lines.append(f'| {name} | {spread(rounds, name)} | {to_plain:.2f} | {gained:.2f} |')
    return lines


def main() -> None:
    """Measure and write the result."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--batch', type=int, default=2)
    parser.add_argument('--lq-size', type=int, default=32)
    parser.add_argument('--rounds', type=int, default=5)
    args = parser.parse_args()
    rounds = take_turns(steps_of(args.batch, args.lq_size), args.rounds)
    about = (
        'EDSR-baseline x4 student; SwinIR, RCAN, EDSR teachers and DCTSwin at full size; wavelet loss; LR '
        f'{args.lq_size}, batch {args.batch}, {len(rounds)} rounds in turn, fp32 where not said otherwise. {machine()} '
        'Written by `OMP_NUM_THREADS=1 python benchmarks/mtkd_step.py`.'
    )
    keep('mtkd_step', ['# One training step of MTKD, stage 2', '', about, '', *table(rounds)])


if __name__ == '__main__':
    main()
