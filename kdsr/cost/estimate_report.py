"""`kdsr estimate`: tables of memory and time of trainings on common GPUs, and the page docs/estimates.md."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from kdsr.cost.estimate import FITS, GIB, TIGHT, Assumptions, Estimate
from kdsr.cost.gan_step import DEGRADATION, DISCRIMINATOR
from kdsr.cost.gpus import Gpu
from kdsr.cost.operation_counter import count_flop
from kdsr.cost.training_step import LOSSES, STUDENT, TEACHERS
from kdsr.markdown import markdown_table

HEADLINE = 'Estimates, not measurements'
PAGE = """# Estimates: time and memory on GPUs

<!-- Written by `make docs`: change kdsr/cost/estimate_report.py instead. -->

{headline}: nothing on this page was run on these cards. It is the output of `kdsr estimate`
for the papers' runs at x4. For your own trainings:

```sh
kdsr estimate options/baseline_edsr_x4.yml                 # any option file of a training
kdsr estimate options/baseline_edsr_x4.yml --gpu 'RTX 4090' T4
kdsr estimate options/baseline_edsr_x4.yml --force_yml model_type=StudentModel train:amp=bf16
```

The command needs neither weights nor data, except the file of a `Spandrel` network and the VGG19 of `CSDLoss`.

## What is counted

Student, teachers, aggregator, losses and their helpers of an option file are built without weights. They run once,
forward and backward, with its crop and batch, on torch's meta device, which computes shapes only.

* **GFLOP**: of convolutions and matrix products, 2 for a multiply-add. The backward pass of the trained networks is
  counted as it runs; it costs about twice the forward pass. Teachers run forward only, as far as a loss needs; with
  `cache` they do not run. A transposed convolution is counted at each pixel of its input, as it is computed (the
  papers, and so `kdsr complexity`, count the pixels of the output).
* **GANs**: the discriminator runs for the student's loss (forward, and backward to the image), and forward and backward
  on real and fake images for its own step; ESRGAN's loss runs it on more images. `perceptual_opt` runs VGG on both
  images. Real-ESRGAN's models degrade images of 400x400 pixels in the step: one random degradation is run and counted.
* **Memory**: the most bytes of tensors that are alive at a time, with weights, gradients, the moments of the optimiser
  and the moving average. `amp` and `accumulate` change which tensors are alive. Real steps of small EDSR, RCAN and
  SwinIR on a CPU allocated 1.2 to 1.4 times as much, with the workspaces of convolutions
  (`tests/test_cost/test_training_step.py` compares them). Therefore the factor below.
* **Time**: for each kernel the longest of its arithmetic, its memory traffic (each tensor is read or written once) and
  its launch; summed over the kernels, times the iterations.

## What is assumed

{assumed}

* PyTorch's defaults: fp32 convolutions run on tensor cores in TF32 where a card has them, matrix products in fp32.
* One GPU, `batch_size_per_gpu` as in the file, no compilation.
* Validation is not counted. The optimiser and the loading of data count only as part of these milliseconds: a slow disk
  or few processor cores may cost more time than the GPU.

The share of the peak that a card reaches depends on shapes, libraries, cooling and the host. Therefore the ranges are
wide. With small networks a fast card waits for launches and memory: a card with ten times the FLOP/s is not ten times
as fast.

## The papers' runs at x4

{tables}

`tight`: the run fits in the best case only. `too small`: use `train.accumulate: 2` (or 4, ...), which runs the batch in
parts, or `train.amp`, which keeps smaller tensors ([speed.md](speed.md)).

## The cards

Peak values from the vendor's data sheets, without sparsity (`kdsr/cost/gpus.csv`).

{cards}
"""


def format_tables(estimates: Sequence[Estimate], gpus: Sequence[Gpu], assumed: Assumptions) -> str:
    """Return the cost of the runs, and their time on each card, as Markdown.

    Args:
        estimates: One for each run.
        gpus: The cards.
        assumed: What is assumed about them.
    """
    used = [p for p in (DISCRIMINATOR, DEGRADATION) if any(p in run.cost.operations for run in estimates)]
    parts = [STUDENT, TEACHERS, LOSSES, *used]
    head = ['run', 'iterations', 'batch x LR crop', f'GFLOP an iteration: {STUDENT}', *parts[1:], 'memory [GiB]']
    costs = markdown_table(head, [_format_costs(run, parts) for run in estimates], numbers=range(1, len(head)))
    times = markdown_table(
        ['days (d) or hours (h)', *(gpu.name for gpu in gpus)],
        [[e.name, *(_format_time(e, gpu, assumed) for gpu in gpus)] for e in estimates],
    )
    notes = [f'{e.name}: {"; ".join(e.notes)}.' for e in estimates if e.notes]
    return '\n\n'.join([costs, times, *(['\n'.join(notes)] if notes else [])])


def format_report(estimates: Sequence[Estimate], gpus: Sequence[Gpu], assumed: Assumptions) -> str:
    """Return the output of `kdsr estimate`; see :func:`format_tables`."""
    shown = format_tables(estimates, gpus, assumed)
    return f'{HEADLINE}. docs/estimates.md explains how they are made.\n\n{shown}\n\n{_describe_assumptions(assumed)}'


def format_page(estimates: Sequence[Estimate], gpus: Sequence[Gpu], assumed: Assumptions) -> str:
    """Return the page docs/estimates.md; see :func:`format_tables`."""
    return PAGE.format(
        headline=HEADLINE,
        assumed=_describe_assumptions(assumed),
        tables=format_tables(estimates, gpus, assumed),
        cards=_format_cards(gpus),
    )


def _format_costs(run: Estimate, parts: Sequence[str]) -> list[str]:
    giga = [f'{count_flop([run.cost.operations.get(part, Counter())]) / 1e9:,.0f}' for part in parts]
    return [run.name, f'{run.iterations:,}', f'{run.batch} x {run.crop}', *giga, f'{run.cost.memory / GIB:.1f}']


def _format_time(run: Estimate, gpu: Gpu, assumed: Assumptions) -> str:
    verdict = run.fits(gpu, assumed)
    if verdict not in (FITS, TIGHT):
        return verdict
    best, worst = run.days(gpu, assumed)
    unit = 'd' if worst >= 1 else 'h'
    low, high = (_round(value * (1 if unit == 'd' else 24)) for value in (best, worst))
    return f'{low}-{high} {unit}{", tight" if verdict == TIGHT else ""}'


def _round(value: float) -> str:
    return f'{value:.1f}' if value < 10 else f'{value:.0f}'


def _describe_assumptions(assumed: Assumptions) -> str:
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


def _format_cards(gpus: Sequence[Gpu]) -> str:
    head = ['card', 'memory [GiB]', 'bandwidth [GB/s]', 'fp32', 'fp32 convolutions', 'fp16, bf16 [TFLOP/s]', 'source']
    rows = [
        [
            gpu.name,
            str(gpu.memory // GIB),
            f'{gpu.bandwidth / 1e9:g}',
            f'{gpu.single / 1e12:g}',
            f'{gpu.tensor / 1e12:g}',
            f'{gpu.half / 1e12:g}{"" if gpu.bf16 else " (fp16 only)"}',
            gpu.source,
        ]
        for gpu in gpus
    ]
    return markdown_table(head, rows, numbers=range(1, len(head) - 1))
