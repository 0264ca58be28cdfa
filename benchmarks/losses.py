"""What every loss costs, forward and backward, beside the same loss written plainly from its equation.

    OMP_NUM_THREADS=1 python benchmarks/losses.py            # writes benchmarks/results/losses_cpu.md, about 6 minutes

The plain formulations stand in `plain_losses.py`. Value and gradient of both are compared first, once at small and
once at full size. Times are CPU time, the kernel's included; formulations take turns, and ratios are medians of the
ratios within a turn. Peak memory is what a process of its own adds to its inputs (VmHWM minus VmRSS, Linux). A second
table sets the losses beside the training step of a student. `--quick` does everything at small sizes, `--only` a part.
"""

from __future__ import annotations

import argparse
import ctypes
import multiprocessing
import os
import platform
import resource
import statistics
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

os.environ['CUDA_VISIBLE_DEVICES'] = ''  # a process that has used a GPU cannot be forked

import torch

import kdsr

# isort: split
import plain_losses
from basicsr.archs import build_network
from basicsr.losses import build_loss
from torch import Tensor
from torch.nn import functional as F

from kdsr.archs.window_dct import WindowDCT
from kdsr.distillation.distillation_loss import DistillationLoss
from kdsr.distillation.feature_tap import FeatureTap
from kdsr.distillation.outputs import Batch, NetworkOutput

ROOT = Path(__file__).parents[1]
POINTS = {'early': 'body.0', 'middle': 'body.1', 'late': 'conv_after_body'}
FORK = multiprocessing.get_context('fork')
Formulation = Callable[[], Tensor]


@dataclass(frozen=True)
class Sizes:
    """How large the inputs are, and how often everything is repeated."""

    batch: int = 16
    image: int = 256
    feature: int = 48
    step_batch: int = 4
    blocks: int = 16
    rounds: int = 3
    seconds: float = 3


QUICK = Sizes(batch=3, image=16, feature=8, step_batch=2, blocks=2, rounds=1, seconds=0)


@dataclass(frozen=True, eq=False)
class Row:
    """A loss with its options and its plain formulation.

    `channels` are those of its features, none for a loss on images. With `narrow` the loss with narrow regressors,
    another loss, is measured beside the two.
    """

    name: str
    plain: Callable[..., Tensor]
    options: dict
    channels: tuple[int, int] | None = None
    narrow: bool = False

    def build(self, sizes: Sizes) -> tuple[list[Tensor], dict[str, Formulation]]:
        """Return the tensors that get a gradient, and the formulations by name."""
        torch.manual_seed(0)
        side = sizes.image if self.channels is None else 4 * sizes.feature
        gt = torch.rand(sizes.batch, 3, side, side)
        outputs = []
        for channels in self.channels or (0, 0):
            shape = (sizes.batch, channels, sizes.feature, sizes.feature)
            features = {name: torch.randn(shape) for name in POINTS} if channels else {}
            outputs.append(NetworkOutput((gt + 0.1 * torch.randn_like(gt)).clamp_(0, 1), features))
        student, teacher = outputs
        leaves = [x.requires_grad_() for x in (student.sr, *student.features.values())]
        batch = Batch(F.avg_pool2d(gt, 4), gt)
        losses = self.losses(student, teacher)
        leaves += [parameter for loss in losses.values() for parameter in loss.parameters()]
        runs = {'plain': partial(self.plain, losses['kdsr'], student, teacher, batch)}
        runs.update({name: partial(loss, student, teacher, batch) for name, loss in losses.items()})
        if self.channels is None:
            runs['L1'] = partial(plain_losses.l1, None, student, teacher, batch)
        return leaves, runs

    def losses(self, student: NetworkOutput, teacher: NetworkOutput) -> dict[str, DistillationLoss]:
        """Return kdsr's loss, and that with narrow regressors."""
        losses = {'kdsr': build_loss(self.options)}
        if self.narrow:
            losses['narrow'] = build_loss({**self.options, 'narrow': True})
        for loss in losses.values():
            loss.build_helpers(student, teacher)
        return losses


@dataclass(frozen=True, eq=False)
class WindowRow:
    """The DCT of DCTSwin's windows; not a loss, but the target of its layers."""

    name: str
    embed_dim: int
    map_size: int

    def build(self, sizes: Sizes) -> tuple[list[Tensor], dict[str, Formulation]]:
        """As :class:`Row`; a weighted sum of the coefficients, one cheap pass, gives a gradient."""
        torch.manual_seed(0)
        tokens = torch.randn(sizes.batch * (self.map_size // 8) ** 2, 64, self.embed_dim, requires_grad=True)
        weight, transform = torch.randn(tokens.numel()) / tokens.numel(), WindowDCT(8, 'none')

        def plain() -> Tensor:
            maps = tokens.mT.unflatten(2, (8, 8))
            return torch.dot(plain_losses.fft_dct(plain_losses.fft_dct(maps).mT).mT.flatten(2).mT.flatten(), weight)

        return [tokens], {'plain': plain, 'kdsr': lambda: torch.dot(transform(tokens).flatten(), weight)}


ROWS = [
    Row('ResponseLoss', plain_losses.l1, {'type': 'ResponseLoss'}),
    Row('WaveletLoss haar, level 1', plain_losses.haar, {'type': 'WaveletLoss'}),
    Row('WaveletLoss haar, level 4', plain_losses.haar, {'type': 'WaveletLoss', 'level': 4}),
    Row('FFTLoss', plain_losses.fft, {'type': 'FFTLoss'}),
    Row('DCTLoss', plain_losses.dct, {'type': 'DCTLoss', 'norm': 'none'}),
    Row('CSDLoss identity', plain_losses.csd, {'type': 'CSDLoss', 'extractor': 'identity'}),
    WindowRow('WindowDCT 8x8, 24 channels, 64x64', 24, 64),
    WindowRow('WindowDCT 8x8, 96 channels, 32x32', 96, 32),
    Row('FitNetLoss', plain_losses.fitnet, {'type': 'FitNetLoss'}, (64, 256)),
    Row('AttentionTransferLoss', plain_losses.attention, {'type': 'AttentionTransferLoss'}, (64, 256)),
    Row('FAKDLoss', plain_losses.affinity, {'type': 'FAKDLoss'}, (64, 256)),
    Row('LSFDLoss', plain_losses.lsfd, {'type': 'LSFDLoss'}, (64, 64)),
    Row('LSFDLoss 1x1', plain_losses.lsfd, {'type': 'LSFDLoss', 'kernel_size': 1}, (64, 256), narrow=True),
    Row('FACDLoss without regressor', plain_losses.facd, {'type': 'FACDLoss', 'regressor': 'none'}, (64, 64)),
    Row('FACDLoss', plain_losses.facd, {'type': 'FACDLoss'}, (64, 256), narrow=True),
]


def both_ways(leaves: list[Tensor], run: Formulation) -> Tensor:
    """Run a formulation forward and backward and return its value."""
    for leaf in leaves:
        leaf.grad = None
    value = run()
    value.backward()
    return value.detach()


def value_and_gradient(leaves: list[Tensor], run: Formulation) -> tuple[Tensor, Tensor]:
    """Return also the gradients, in one vector."""
    return both_ways(leaves, run), torch.cat([x.grad.flatten() for x in leaves if x.grad is not None])


def check_equal(row: Row | WindowRow, leaves: list[Tensor], runs: dict[str, Formulation]) -> None:
    """Stop unless the two formulations agree; a gradient by signs may differ where rounding decides the sign."""
    (plain, expected), (value, actual) = (value_and_gradient(leaves, runs[name]) for name in ('plain', 'kdsr'))
    torch.testing.assert_close(value, plain, rtol=1e-4, atol=1e-7, msg=lambda m: f'{row.name}: {m}')
    apart = ((actual - expected).norm() / expected.norm()).item()
    if not apart < 3e-3:
        raise AssertionError(f'{row.name}: the gradients are {apart:.1e} apart.')


def cpu_seconds(run: Callable[[], object]) -> tuple[float, float]:
    """Return the CPU time of a call: all of it, and the part outside the kernel."""
    before = resource.getrusage(resource.RUSAGE_SELF)
    run()
    after = resource.getrusage(resource.RUSAGE_SELF)
    user = after.ru_utime - before.ru_utime
    return user + after.ru_stime - before.ru_stime, user


def times(runs: dict[str, Callable[[], object]], rounds: int, seconds: float) -> dict[str, list]:
    """Let the calls take turns: `rounds` times, more if it takes less than `seconds`."""
    turns: list[list] = []
    start = time.process_time()
    while len(turns) < rounds or (len(turns) < 20 and time.process_time() - start < seconds):
        turns.append([cpu_seconds(run) for run in runs.values()])
    return dict(zip(runs, zip(*turns)))


def ratio(above: list, below: list, part: int = 0) -> float:
    """Return the median of the ratios within a turn; part 1 is without the kernel's time."""
    return statistics.median(a[part] / max(b[part], 1e-9) for a, b in zip(above, below))


def spread(turns: list) -> str:
    """Return least, median and largest seconds."""
    seconds = [turn[0] for turn in turns]
    return ' / '.join(f'{x:.4f}' for x in (min(seconds), statistics.median(seconds), max(seconds)))


def peak_megabytes(row: Row | WindowRow, name: str, sizes: Sizes) -> float:
    """Return what one formulation holds at most beyond its inputs, measured in a process of its own."""

    def memory(kind: str) -> int:
        lines = Path('/proc/self/status').read_text(encoding='ascii').splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(kind))

    def measure() -> None:
        small, warm = row.build(QUICK)
        both_ways(small, warm[name])
        leaves, runs = row.build(sizes)
        ctypes.CDLL(None).malloc_trim(0)  # what is free already must not hide what is taken from now on
        Path('/proc/self/clear_refs').write_text('5', encoding='ascii')  # nor must the peak of the making of inputs
        before = memory('VmRSS')
        both_ways(leaves, runs[name])
        sender.send((memory('VmHWM') - before) * 1024 / 1e6)

    receiver, sender = FORK.Pipe(duplex=False)
    process = FORK.Process(target=measure)
    process.start()
    sender.close()
    result = receiver.recv()  # an EOFError: the process was killed, most likely for its memory
    process.join()
    return result


def alone(rows: list[Row | WindowRow], sizes: Sizes) -> list[str]:
    """Return the table of the losses on their own."""
    lines = [
        '| loss | plain, s (min / median / max) | kdsr, s (min / median / max) | plain / kdsr | outside the kernel '
        '| kdsr / L1 | plain, peak MB | kdsr, peak MB |',
        '|---|---|---|---|---|---|---|---|',
    ]
    formulations = {row: [name for name in row.build(QUICK)[1] if name != 'L1'] for row in rows}
    peaks = {(row, name): peak_megabytes(row, name, sizes) for row in rows for name in formulations[row]}
    for row in rows:
        leaves, runs = row.build(sizes)
        check_equal(row, leaves, runs)
        calls = {name: partial(both_ways, leaves, run) for name, run in runs.items()}
        turns = times(calls, sizes.rounds, sizes.seconds)
        for name in formulations[row][1:]:
            plain, ours = turns['plain'], turns[name]
            floor = f'{ratio(ours, turns["L1"]):.2f}' if 'L1' in turns else ''
            lines.append(
                f'| {title(row, name)} | {spread(plain)} | {spread(ours)} | {ratio(plain, ours):.2f} '
                f'| {ratio(plain, ours, 1):.2f} | {floor} | {peaks[row, "plain"]:.0f} | {peaks[row, name]:.0f} |'
            )
            print(lines[-1], flush=True)
    return lines


def title(row: Row | WindowRow, formulation: str) -> str:
    """Return the first cell of a line."""
    return row.name + ', narrow' * (formulation == 'narrow')


def in_a_step(rows: list[Row | WindowRow], sizes: Sizes) -> list[str]:
    """Return the table of whole training steps of EDSR-baseline x4, the teacher's output at hand."""
    torch.manual_seed(0)
    n, side = sizes.step_batch, sizes.feature
    gt = torch.rand(n, 3, 4 * side, 4 * side)
    batch = Batch(F.avg_pool2d(gt, 4), gt)
    options = {'type': 'EDSR', 'num_in_ch': 3, 'num_out_ch': 3, 'num_feat': 64, 'num_block': sizes.blocks}
    network = build_network({**options, 'upscale': 4})
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-9)
    tap = FeatureTap(network, POINTS)
    tap.calibrate(lambda: network(batch.lq))
    teacher = NetworkOutput((gt + 0.1 * torch.randn_like(gt)).clamp_(0, 1))

    def plain_step() -> None:
        optimizer.zero_grad()
        F.l1_loss(network(batch.lq), gt).backward()
        optimizer.step()

    def step(loss: Callable[..., Tensor], target: NetworkOutput) -> None:
        optimizer.zero_grad()
        with tap as features:
            output = network(batch.lq)
        (F.l1_loss(output, gt) + loss(NetworkOutput(output, features), target, batch)).backward()
        optimizer.step()

    plain_step()  # a first step allocates, and does not count
    lines = ['| step with | plain formulation, x the step | kdsr, x the step |', '|---|---|---|']
    for row in [row for row in rows if isinstance(row, Row) and row.channels != (64, 64)]:
        channels = (row.channels or (64, 256))[1]
        target = NetworkOutput(teacher.sr, {name: torch.randn(n, channels, side, side) for name in POINTS})
        student = NetworkOutput(gt, {name: torch.randn(n, 64, side, side) for name in POINTS})
        losses = row.losses(student, target)
        terms = {'plain': partial(row.plain, losses['kdsr']), **losses}
        runs = {name: partial(step, term, target) for name, term in terms.items()}
        turns = times({'without': plain_step, **runs}, sizes.rounds, 0)
        times_plain = {name: f'{ratio(turns[name], turns["without"]):.2f}' for name in runs}
        for name in losses:
            lines.append(f'| {title(row, name)} | {times_plain["plain"]} | {times_plain[name]} |')
            print(lines[-1], flush=True)
    return lines


def processor() -> str:
    """Return the name of the processor."""
    info = Path('/proc/cpuinfo').read_text(encoding='utf-8').splitlines()
    names = [line.split(':', 1)[1].strip() for line in info if line.startswith('model name')]
    return names[0] if names else platform.machine()


def heading(args: argparse.Namespace, sizes: Sizes) -> list[str]:
    """Return what was measured, and on what."""
    command = 'OMP_NUM_THREADS=1 python benchmarks/losses.py' + ' --quick' * args.quick
    command += f' --only {" ".join(args.only)}' if any(args.only) else ''
    commit = subprocess.run(['git', 'rev-parse', '--short', 'HEAD'], cwd=ROOT, capture_output=True, text=True).stdout
    return [
        '# Losses beside their plain formulations',
        '',
        f'`{command}` on {processor()}, 1 thread, torch {torch.__version__}, kdsr {kdsr.__version__} at '
        f'{commit.strip()}, {time.strftime("%Y-%m-%d")}. CPU time of forward and backward, the formulations in turn; '
        'ratios are medians of the ratios within a turn. Value and gradient of both are equal (but for "narrow", '
        'another regressor, measured beside the wide one).',
        '',
        f'Images {sizes.batch}x3x{sizes.image}x{sizes.image}; three features {sizes.batch}x64x{sizes.feature}x'
        f"{sizes.feature} of the student's; the teacher's have 256 channels, but 64 for LSFDLoss and FACDLoss without "
        'regressor. "Outside the kernel" leaves out what the system takes to hand out memory. "L1" is the plain L1 of '
        'the two images. Peaks are beyond the inputs.',
    ]


def step_heading(sizes: Sizes) -> list[str]:
    """Return what stands above the second table."""
    return [
        f'Whole training steps of EDSR-baseline x4 ({sizes.blocks} blocks), LR {sizes.feature}x{sizes.feature}, batch '
        f"{sizes.step_batch}: pixel loss, backward and Adam, the teacher's image and features (256 channels) at hand. "
        'The step without distillation is 1.'
    ]


def main() -> None:
    """Check, measure and write the result."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--quick', action='store_true', help='small sizes, one round')
    parser.add_argument('--only', nargs='+', default=[''], help='beginnings of the names of rows')
    parser.add_argument('--out', type=Path, default=ROOT / 'benchmarks' / 'results', help='folder of the result')
    args = parser.parse_args()
    torch.set_num_threads(1)
    sizes = QUICK if args.quick else Sizes()
    for row in ROWS:  # wakes up every kernel, too, before memory is measured
        check_equal(row, *row.build(QUICK))
    rows = [row for row in ROWS if row.name.startswith(tuple(args.only))]
    lines = [*heading(args, sizes), '', *alone(rows, sizes), '', *step_heading(sizes), '', *in_a_step(rows, sizes)]
    args.out.mkdir(exist_ok=True, parents=True)
    (args.out / 'losses_cpu.md').write_text('\n'.join(lines) + '\n', encoding='utf-8')


if __name__ == '__main__':
    main()
