"""Are losses, networks and a run of two processes on a GPU what they are on a CPU? `benchmarks/gpu.py` asks.

python benchmarks/gpu_parity.py            # prints the tables; on a CPU it compares the CPU with itself
"""

from __future__ import annotations

import copy
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

ROOT = Path(__file__).parents[1]
sys.path.insert(1, str(ROOT))  # for the tables of the tests: every loss with its options, every network

import kdsr  # noqa: E402

# isort: split
from basicsr.archs import build_network  # noqa: E402
from basicsr.utils import set_random_seed  # noqa: E402

from kdsr.distillation.outputs import Batch  # noqa: E402
from tests import conftest  # noqa: E402
from tests.helpers import losses, networks  # noqa: E402

assert kdsr.__version__  # kdsr comes first: it repairs BasicSR's import
FAR = 1e-3  # relative; fp32 without TF32 keeps about 1e-6, long sums and divisions by small norms less
TRAINING = """
import sys
from kdsr.cli import main
if __name__ == '__main__':
    main(['train', *sys.argv[1:]])
"""


def relative_difference(ours: Tensor, theirs: Tensor) -> float:
    """Return the norm of the difference over the norm of the second tensor, both on the CPU in double precision."""
    a, b = (x.detach().cpu().double().flatten() for x in (ours, theirs))
    return float((a - b).norm() / b.norm().clamp_min(1e-12))


def loss_differences(device: torch.device) -> Iterator[tuple[str, float, float]]:
    """Yield a loss with its options, the difference of its value, and that of its gradient."""
    for name, cases in losses.CASES.items():
        for case in cases:
            student, teacher, batch = losses.outputs(case)
            values, gradients = [], []
            for place in (device, torch.device('cpu')):
                there = [losses.mapped(x, lambda t, place=place: t.to(place)) for x in (student, teacher)]
                loss = losses.built(name, case, *there).to(place)
                loss.load_state_dict(losses.built(name, case, student, teacher).state_dict())  # one start everywhere
                seen = losses.with_gradient(there[0])
                value = loss(seen, there[1], Batch(batch.lq.to(place), batch.gt.to(place)))
                value.backward()
                values.append(value)
                given = [x.grad.flatten().cpu() for x in losses.tensors(seen) if x.grad is not None]
                gradients.append(torch.cat(given))
            said = ', '.join(f'{key}={option}' for key, option in case.options.items())
            yield f'{name}({said})', relative_difference(*values), relative_difference(*gradients)


def network_differences(device: torch.device) -> Iterator[tuple[str, float, float]]:
    """Yield a network, the difference of its image, and that of the gradient of its weights."""
    table = {**{n: {**o, 'upscale': 2} for n, o in networks.TINY.items()}, 'EDSR': conftest.network_opt('EDSR')}
    table |= {name: conftest.network_opt(name) for name in ('RCAN', 'SwinIR', 'SwinIRLight')}
    for name, options in table.items():
        set_random_seed(0)
        network = build_network(copy.deepcopy(options)).eval()
        channels = 6 if name == 'DCTSwin' else 1 if name in networks.LUMINANCE else 3
        image = torch.rand(2, channels, 48, 32)
        answers = [_answer(network, image, place) for place in (device, torch.device('cpu'))]
        yield name, relative_difference(*(a for a, _ in answers)), relative_difference(*(g for _, g in answers))


def _answer(network: nn.Module, image: Tensor, device: torch.device) -> tuple[Tensor, Tensor]:
    network = copy.deepcopy(network).to(device)
    answer = network(image.to(device))
    answer.square().mean().backward()
    gradients = [p.grad.flatten() for p in network.parameters() if p.grad is not None]
    return answer, torch.cat(gradients)


def rows(differences: Callable[[torch.device], Iterator[tuple[str, float, float]]], device: torch.device) -> list[str]:
    """Return the rows of a table, those that differ too much marked."""
    return [
        f'| {name} | {value:.1e} | {gradient:.1e} |{" **far**" if max(value, gradient) > FAR else ""} |'
        for name, value, gradient in differences(device)
    ]


def two_processes(folder: Path, iterations: int = 6) -> str:
    """Train on one process and on two with the same global batch; return what came of it in a sentence."""
    workspace = conftest.Workspace(folder)
    opt = workspace.options(model_type='DistillationModel', iterations=iterations, num_gpu='auto')
    opt['datasets']['train'].update(gt_size=48, use_hflip=False, use_rot=False)
    opt['distillation'] = {'teachers': [workspace.teacher('RCAN')], 'losses': {'l_kd': {'type': 'ResponseLoss'}}}
    (folder / 'run.py').write_text(TRAINING, encoding='utf-8')
    weights = []
    for processes in (1, 2):
        opt.update(name=f'of_{processes}')
        opt['datasets']['train']['batch_size_per_gpu'] = 4 // processes
        file = workspace.write(copy.deepcopy(opt), f'{processes}.yml')
        launcher = ['-m', 'torch.distributed.run', f'--nproc_per_node={processes}', '--standalone']
        command = [sys.executable, *launcher, str(folder / 'run.py'), '-opt', file, '--launcher', 'pytorch']
        env = {**os.environ, 'PYTHONPATH': str(ROOT)}
        done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=300, check=False)
        if done.returncode:
            said = next((x for x in done.stderr.splitlines() if re.match(r'kdsr: |\w*Error', x)), done.stderr[-300:])
            return f'{processes} process(es) failed: {said}'
        state = torch.load(folder / 'experiments' / opt['name'] / 'models' / 'net_g_latest.pth', weights_only=True)
        weights.append(torch.cat([tensor.flatten() for tensor in state['params'].values()]))
    return (
        f'After {iterations} steps with the same global batch, weights of two processes and of one differ by '
        f'{relative_difference(*weights):.1e}.'
    )


def lines(device: torch.device, processes: bool) -> list[str]:
    """Return the section of the result.

    Args:
        device: What is compared with the CPU.
        processes: Whether to train with two processes.
    """
    tf32 = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    try:
        tables = [rows(differences, device) for differences in (loss_differences, network_differences)]
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = tf32
    said = 'Two processes: not tried, there is one GPU.'
    if processes:
        with tempfile.TemporaryDirectory() as folder:
            said = two_processes(Path(folder))
    return [
        '## The same as on a CPU',
        '',
        f'Relative differences in fp32 without TF32, tiny sizes; above {FAR} they are marked.',
        '',
        '| loss, network | value, image | gradient | |',
        '|---|---|---|---|',
        *tables[0],
        *tables[1],
        '',
        said,
    ]


if __name__ == '__main__':
    where = torch.device('cuda' if torch.cuda.is_available() else 'cpu')
    print('\n'.join(lines(where, torch.cuda.device_count() != 1)))
