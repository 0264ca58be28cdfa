"""What a training step of a student costs: BasicSR's in fp32 against kdsr's in low precision.

    OMP_NUM_THREADS=1 python benchmarks/student_step.py         # writes benchmarks/results/student_step_<device>.md

The same network, batch, loss (L1), Adam and moving average, as the networks' own option files have them; the steps
take turns in one process and are compared round by round. `--compile` adds torch.compile, which compiles for minutes.
"""

from __future__ import annotations

import argparse
import copy

import kdsr
from kdsr import options

# isort: split
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

assert kdsr.__version__  # kdsr comes first: it repairs BasicSR's import
BASE = 'BasicSR, fp32'
STUDENTS = {
    'EDSR-baseline': 'baseline_edsr_x4',
    'RCAN, 60 blocks': 'baseline_rcan_x4',
    'SwinIR-light': 'baseline_swinir_x4',
    'RFDN': 'rfdn_x4',
}
LOW = low_precision()
BEST = f'kdsr, {LOW}, channels last, fused Adam'
VARIANTS = {
    'kdsr, fp32': {},
    f'kdsr, {LOW}': {'amp': LOW},
    f'kdsr, {LOW}, channels last': {'amp': LOW, 'channels_last': True},
    BEST: {'amp': LOW, 'channels_last': True, 'fused': True},
}
COMPILED = {f'{BEST}, compiled': {**VARIANTS[BEST], 'compile': True}}


def options_of(name: str) -> dict:
    """Return the options of a shipped file, for a run that starts from random weights and reads no data."""
    opt = options.load(str(ROOT / 'options' / f'{name}.yml'))
    opt.pop('distillation', None)
    opt['path']['pretrain_network_g'] = None
    opt['train'].setdefault('ema_decay', 0.999)
    return opt


def models_of(opt: dict, variants: dict[str, dict], batch: int, lq_size: int) -> dict[str, object]:
    """Return the models of one student by name, BasicSR's first, each with a batch."""
    opt = parsed(copy.deepcopy(opt))
    opt['datasets']['train'].update(batch_size_per_gpu=batch, gt_size=lq_size * opt['scale'])
    models = {BASE: build_model({**copy.deepcopy(opt), 'model_type': 'SRModel'})}
    for name, settings in variants.items():
        own = {**copy.deepcopy(opt), 'model_type': 'StudentModel'}
        train = dict(settings)
        own['train']['optim_g']['fused'] = train.pop('fused', False)
        own['train'].update(train)
        models[name] = build_model(own)
    for model in models.values():
        feed(model, batch, lq_size, opt['scale'])
    return models


def steps_of(models: dict[str, object]) -> dict[str, Step]:
    """Return what each model does in a training step."""
    return {name: lambda model=model: model.optimize_parameters(2) for name, model in models.items()}


def rows(student: str, rounds: list[Round]) -> list[str]:
    """Return the lines of one student."""
    return [
        f'| {student} | {name} | {spread(rounds, name)} | {times_faster(rounds, name, BASE):.2f} |'
        for name in rounds[0]
    ]


def main() -> None:
    """Measure and write the result."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--batch', type=int, default=4)
    parser.add_argument('--lq-size', type=int, default=48)
    parser.add_argument('--rounds', type=int, default=7)
    parser.add_argument('--compile', action='store_true')
    args = parser.parse_args()
    variants = {**VARIANTS, **(COMPILED if args.compile else {})}
    lines = []
    for student, file in STUDENTS.items():
        models = models_of(options_of(file), variants, args.batch, args.lq_size)
        lines += rows(student, take_turns(steps_of(models), args.rounds))
    about = (
        f'x4, LR {args.lq_size}, batch {args.batch}, {args.rounds} rounds in turn: forward, L1, backward, Adam, moving '
        f'average. {machine()} Written by `OMP_NUM_THREADS=1 python benchmarks/student_step.py`.'
    )
    head = ['| student | step | seconds (min / median / max) | times faster |', '|---|---|---|---|']
    keep('student_step', ['# One training step of a student', '', about, '', *head, *lines])


if __name__ == '__main__':
    main()
