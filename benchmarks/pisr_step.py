"""What PISR's teacher costs in a training step of its student, live and with what its encoder makes read from a cache.

    OMP_NUM_THREADS=1 python benchmarks/pisr_step.py            # writes benchmarks/results/pisr_step_<device>.md

Steps of the same FSRCNN take turns in one process and are compared round by round: alone, and with VID on the features
of a teacher's decoder; the teacher is shown the ground truth, or its decoder the codes (`distillation.cache`). Weights
are random; the codes are in memory.
"""

from __future__ import annotations

import argparse
import os
import tempfile

import torch

import kdsr
from kdsr import options

# isort: split
from basicsr.archs import build_network
from basicsr.models import build_model
from side_by_side import ROOT, Round, Step, keep, machine, parsed, spread, take_turns, times_faster

from kdsr.distillation.outputs import Batch
from kdsr.distillation.teacher import build_teachers
from kdsr.hourglass import decoder_of, encoder_of

assert kdsr.__version__  # kdsr comes first: it repairs BasicSR's import


def experiment(folder: str, scale: int, batch: int, gt_size: int) -> dict:
    """Return the options of pisr_fsrcnn_x<scale>.yml with random weights on disk, as BasicSR's parser leaves them."""
    opt = options.load(str(ROOT / 'options' / f'pisr_fsrcnn_x{scale}.yml'))
    teacher = opt['distillation']['teachers'][0]
    teacher['path'] = os.path.join(folder, 'teacher.pth')
    torch.save({'params': build_network(teacher['network']).state_dict()}, teacher['path'])
    opt['distillation']['health_check'] = False
    opt['datasets']['train'].update(gt_size=gt_size, batch_size_per_gpu=batch)
    return parsed(opt)


def steps_of(scale: int, batch: int, gt_size: int) -> dict[str, Step]:
    """Return the steps by name."""
    with tempfile.TemporaryDirectory() as folder:
        opt = experiment(folder, scale, batch, gt_size)
        alone = {key: value for key, value in opt.items() if key != 'distillation'}
        models = {
            'student alone': build_model({**alone, 'model_type': 'StudentModel'}),
            'PISR': build_model(opt),
            'PISR, codes from a cache': build_model(opt),
        }
        cached_opt = {**opt, 'distillation': {**opt['distillation'], 'cache': 'any.raw'}}
        models['PISR, codes from a cache'].teacher = build_teachers(cached_opt, decoder_of)
    generator = torch.Generator().manual_seed(0)
    gt = torch.rand(batch, 1, gt_size, gt_size, generator=generator)
    data = {'lq': torch.nn.functional.avg_pool2d(gt, scale), 'gt': gt}
    for model in models.values():
        model.feed_data(data)
    cached = models['PISR, codes from a cache']
    cached.teacher.to(cached.device)
    cached.code = encoder_of(models['PISR'].teacher)(Batch(cached.lq, cached.gt)).image
    return {name: lambda model=model: model.optimize_parameters(2) for name, model in models.items()}


def table(rounds: list[Round]) -> list[str]:
    """Return the rows of the result."""
    lines = ['| step | seconds (min / median / max) | x the student alone |', '|---|---|---|']
    alone = next(iter(rounds[0]))
    lines += [f'| {n} | {spread(rounds, n)} | {1 / times_faster(rounds, n, alone):.2f} |' for n in rounds[0]]
    return lines


def main() -> None:
    """Measure and write the result."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--batch', type=int, default=4)
    parser.add_argument('--gt-size', type=int, default=96)
    parser.add_argument('--rounds', type=int, default=15)
    args = parser.parse_args()
    lines = ['# One training step of PISR, stage 2', '']
    for scale in (2, 4):
        rounds = take_turns(steps_of(scale, args.batch, args.gt_size), args.rounds)
        lines += [f'FSRCNN x{scale}, VID-L, HR {args.gt_size}, batch {args.batch}:', '', *table(rounds), '']
    lines.append(f'{machine()} {args.rounds} rounds in turn. `OMP_NUM_THREADS=1 python benchmarks/pisr_step.py`.')
    keep('pisr_step', lines)


if __name__ == '__main__':
    main()
