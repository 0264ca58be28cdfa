"""What FSRCNN's transposed convolution costs, and what computing it as a convolution saves, in either memory format.

    OMP_NUM_THREADS=1 python benchmarks/fsrcnn.py               # writes benchmarks/results/fsrcnn_<device>.md

Four formulations with the same weights are timed in turn, in one process, and compared round by round: torch's
transposed convolution or the equal convolution and pixel shuffle of `kdsr.archs.transposed_conv`, in torch's usual
memory format or with channels last. `kdsr` on a CPU is the last one. A training step is forward, L1 and backward. On a
CPU the time is the process's own CPU time, so that other work on the machine disturbs it less. Weights are random.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import subprocess
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

import kdsr

# isort: split
from torch import Tensor, nn
from torch.nn import functional as F

from kdsr.archs.fsrcnn_arch import FSRCNN
from kdsr.archs.transposed_conv import subpixel_kernel

ROOT = Path(__file__).parents[1]
DEVICE = torch.device('cuda' if torch.cuda.is_available() else 'cpu')
STUDENTS = {'FSRCNN': 12, 'FSRCNN-L': 56}
FORMULATIONS = {
    'transposed': (False, torch.contiguous_format),
    'transposed, channels last': (False, torch.channels_last),
    'convolution': (True, torch.contiguous_format),
    'convolution, channels last': (True, torch.channels_last),
}


def enlarge(last_layer: nn.ConvTranspose2d, x: Tensor, as_convolution: bool) -> Tensor:
    """Return the last layer's output, in one of the two formulations, on any device."""
    scale = last_layer.stride[0]
    if not as_convolution:
        return F.conv_transpose2d(x, last_layer.weight, last_layer.bias, scale, 4, scale - 1)
    before, after = 4 // scale, (4 + scale - 1) // scale
    kernel, bias = subpixel_kernel(last_layer.weight, scale), last_layer.bias.repeat_interleave(scale**2)
    y = F.conv2d(x, kernel, bias, padding=after)[..., after - before :, after - before :]
    return F.pixel_shuffle(y, scale)


def run(network: FSRCNN, x: Tensor, formulation: str) -> Tensor:
    """Return the network's output."""
    as_convolution, layout = FORMULATIONS[formulation]
    x = network.shrinking(network.feature_extraction(x.to(memory_format=layout)))
    return enlarge(network.last_layer, network.expanding(network.mapping(x)), as_convolution)


def train(network: FSRCNN, x: Tensor, gt: Tensor, formulation: str) -> None:
    """Compute the gradients of one training step."""
    network.zero_grad()
    F.l1_loss(run(network, x, formulation), gt).backward()


@torch.no_grad()
def infer(network: FSRCNN, x: Tensor, gt: Tensor, formulation: str) -> None:
    """Enlarge a batch."""
    run(network, x, formulation)


def timed(step: Callable[[], None]) -> float:
    """Return the milliseconds of one call: of the CPU's time, or on the device's clock."""
    if DEVICE.type == 'cpu':
        start = time.process_time()
        step()
        return 1000 * (time.process_time() - start)
    torch.cuda.synchronize()
    start = time.perf_counter()
    step()
    torch.cuda.synchronize()
    return 1000 * (time.perf_counter() - start)


def rows(student: str, scale: int, args: argparse.Namespace) -> list[str]:
    """Return the table's lines for one student and scale."""
    network = FSRCNN(scale, num_shrink=STUDENTS[student]).to(DEVICE)
    size = args.gt_size // scale
    x = torch.rand(args.batch, 1, size, size, device=DEVICE)
    gt = torch.rand(args.batch, 1, scale * size, scale * size, device=DEVICE)
    lines = []
    for name, work in (('training step', train), ('inference', infer)):
        steps = {f: partial(work, network, x, gt, f) for f in FORMULATIONS}
        timings = [{f: timed(step) for f, step in steps.items()} for _ in range(args.rounds + 1)][1:]
        cells = []
        for f in FORMULATIONS:
            gain = statistics.median(t['transposed'] / t[f] for t in timings)
            cells.append(f'{statistics.median(t[f] for t in timings):.1f} ({gain:.2f}x)')
        lines.append(f'| {student} x{scale} | {name} | {" | ".join(cells)} |')
    return lines


def main() -> None:
    """Measure, print the table and keep it beside what it was measured on."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--batch', type=int, default=16)
    parser.add_argument('--gt-size', type=int, default=96)
    parser.add_argument('--rounds', type=int, default=15)
    args = parser.parse_args()
    device = torch.cuda.get_device_name() if DEVICE.type == 'cuda' else 'cpu'
    commit = subprocess.run(['git', 'rev-parse', '--short', 'HEAD'], cwd=ROOT, capture_output=True, text=True).stdout
    threads = f', {torch.get_num_threads()} thread(s)' if device == 'cpu' else ''
    lines = [
        '# The transposed convolution of FSRCNN',
        '',
        f'Median milliseconds, and how many times as fast as the first column; HR {args.gt_size}, batch {args.batch}, '
        f'{args.rounds} rounds, fp32. {device} ({platform.processor() or platform.machine()}{threads}), torch '
        f'{torch.__version__}, kdsr {kdsr.__version__} at {commit.strip()}, {time.strftime("%Y-%m-%d")}.',
        '',
        f'| network | | {" | ".join(FORMULATIONS)} |',
        f'|---|---{"|---" * len(FORMULATIONS)}|',
    ]
    lines += [line for student in STUDENTS for scale in (2, 3, 4) for line in rows(student, scale, args)]
    text = '\n'.join(lines) + '\n'
    print(text)
    path = ROOT / 'benchmarks' / 'results' / f'fsrcnn_{device.replace(" ", "_").lower()}.md'
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding='utf-8')


if __name__ == '__main__':
    main()
