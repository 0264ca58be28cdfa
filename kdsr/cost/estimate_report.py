"""`kdsr estimate`: tables of what trainings take on common GPUs, and the page docs/estimates.md."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from kdsr.cost.estimate import FITS, GIB, TIGHT, Assumptions, Estimate
from kdsr.cost.gpus import Gpu
from kdsr.cost.operation_counter import flop_of
from kdsr.cost.training_step import LOSSES, STUDENT, TEACHERS

HEADLINE = 'Estimates, not measurements'
PAGE = """# How long, and on which card

<!-- Written by `make docs`: change kdsr/cost/estimate_report.py instead. -->

{headline}: nothing on this page was run on these cards. It is what

```
kdsr estimate options/mtkd_swinir_x4.yml                   # or any option file of a training
kdsr estimate FILE.yml --gpu 'RTX 4090' T4                 # some cards
kdsr estimate FILE.yml --force_yml train:amp=bf16 datasets:train:batch_size_per_gpu=8
```

says of the papers' runs at x4. Neither weights nor data need be there for it, except the file of a `Spandrel` network
and `CSDLoss`'s VGG19.

## What is counted

Student, teachers, aggregator, losses and their helpers of an option file are built without weights and run once,
forward and backward, at its crop and batch on torch's meta device, where only shapes are computed.

* **GFLOP**: of convolutions and matrix products, 2 for a multiply-add. The backward pass of what is trained is counted
  as it runs, about twice its forward pass. Teachers run forward, no further than a loss needs; with `cache` they do not
  run. A transposed convolution is counted at each pixel of its input, as it is computed (the papers, and so
  `kdsr complexity`, count the output's).
* **Memory**: the most bytes of tensors that are alive at a time, whether kept for the backward pass or not, with
  weights, gradients, the optimiser's moments and the moving average. `amp` and `accumulate` change what is alive.
  Real steps of small EDSR, RCAN and SwinIR on a CPU allocated 1.2 to 1.4 times as much, with the workspaces of
  convolutions (`tests/test_cost/test_training_step.py` compares them); hence the factor below.
* **Time**: of each kernel the longest of its arithmetic, its memory traffic (each tensor read or written once) and its
  launch; summed, times the iterations.

## What is assumed

{assumed}

* Convolutions in fp32 run on tensor cores in TF32 where a card has them, matrix products in fp32: PyTorch's defaults.
* One GPU, `batch_size_per_gpu` as in the file, nothing compiled.
* Validation is not counted, and the optimiser and the loading of data only as part of these milliseconds: a slow disk
  or few processor cores may cost more than the GPU does.

What a card reaches depends on shapes, libraries, cooling and the host; hence the wide ranges. Small networks keep a
fast card waiting for launches and memory: ten times the FLOP is not ten times as fast.

## The papers' runs at x4

{tables}

`tight`: fits in the best case only. `too small`: `train.accumulate: 2` (or 4, ...) runs the batch in parts, and
`train.amp` makes what is kept smaller ([speed.md](speed.md)).

## The cards

Peaks by the vendor's data sheets, without sparsity (`kdsr/cost/gpus.csv`).

{cards}
"""


def tables(estimates: Sequence[Estimate], gpus: Sequence[Gpu], assumed: Assumptions) -> str:
    """Return what the runs cost, and their time on each card, as Markdown."""
    lines = ['| run | iterations | batch x LR crop | GFLOP an iteration: student | teachers | losses | memory [GiB] |']
    lines += ['|---|---:|---:|---:|---:|---:|---:|', *map(_cost_line, estimates)]
    lines += ['', f'| days (d) or hours (h) | {" | ".join(gpu.name for gpu in gpus)} |', f'|---|{"---|" * len(gpus)}']
    lines += [f'| {e.name} | {" | ".join(_cell(e, gpu, assumed) for gpu in gpus)} |' for e in estimates]
    notes = [f'{e.name}: {"; ".join(e.notes)}.' for e in estimates if e.notes]
    return '\n'.join([*lines, *([''] if notes else []), *notes])


def report(estimates: Sequence[Estimate], gpus: Sequence[Gpu], assumed: Assumptions) -> str:
    """Return what `kdsr estimate` prints."""
    shown = tables(estimates, gpus, assumed)
    return f'{HEADLINE}. How they are made: docs/estimates.md.\n\n{shown}\n\n{_assumed(assumed)}'


def page(estimates: Sequence[Estimate], gpus: Sequence[Gpu], assumed: Assumptions) -> str:
    """Return docs/estimates.md."""
    return PAGE.format(
        headline=HEADLINE, assumed=_assumed(assumed), tables=tables(estimates, gpus, assumed), cards=_cards(gpus)
    )


def _cost_line(run: Estimate) -> str:
    giga = [f'{flop_of([run.cost.operations.get(p, Counter())]) / 1e9:,.0f}' for p in (STUDENT, TEACHERS, LOSSES)]
    return (
        f'| {run.name} | {run.iterations:,} | {run.batch} x {run.crop} | {" | ".join(giga)} | '
        f'{run.cost.memory / GIB:.1f} |'
    )


def _cell(run: Estimate, gpu: Gpu, assumed: Assumptions) -> str:
    verdict = run.fits(gpu, assumed)
    if verdict not in (FITS, TIGHT):
        return verdict
    best, worst = run.days(gpu, assumed)
    unit = 'd' if worst >= 1 else 'h'
    low, high = (_rounded(value * (1 if unit == 'd' else 24)) for value in (best, worst))
    return f'{low}-{high} {unit}{", tight" if verdict == TIGHT else ""}'


def _rounded(value: float) -> str:
    return f'{value:.1f}' if value < 10 else f'{value:.0f}'


def _assumed(assumed: Assumptions) -> str:
    low, high = sorted(assumed.utilisation)
    slow, fast = sorted(assumed.bandwidth)
    short, long = (1e6 * value for value in sorted(assumed.launch))
    least, most = (1e3 * value for value in sorted(assumed.iteration))
    near, far = (context / GIB for context in sorted(assumed.context))
    return (
        f'Assumed: {100 * low:.0f} to {100 * high:.0f} % of the peak is reached (`--utilisation`), '
        f'{100 * slow:.0f} to {100 * fast:.0f} % of the memory\nbandwidth; a kernel takes {short:.0f} to '
        f'{long:.0f} microseconds at least, an iteration {least:.0f} to {most:.0f} ms (the host);\na card holds the '
        f'counted memory and {near:g} GiB (best case), or {assumed.memory[1]:g} times it and {far:g} GiB (worst).'
    )


def _cards(gpus: Sequence[Gpu]) -> str:
    lines = ['| card | memory [GiB] | bandwidth [GB/s] | fp32 | fp32 convolutions | fp16, bf16 [TFLOP/s] | source |']
    lines.append('|---|---:|---:|---:|---:|---:|---|')
    for gpu in gpus:
        half = f'{gpu.half / 1e12:g}{"" if gpu.bf16 else " (fp16 only)"}'
        lines.append(
            f'| {gpu.name} | {gpu.memory // GIB} | {gpu.bandwidth / 1e9:g} | {gpu.single / 1e12:g} | '
            f'{gpu.tensor / 1e12:g} | {half} | {gpu.source} |'
        )
    return '\n'.join(lines)
