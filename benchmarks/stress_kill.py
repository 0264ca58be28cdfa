"""Kill real training runs at random moments, resume them, and compare with a run that nobody disturbed.

    OMP_NUM_THREADS=1 python benchmarks/stress_kill.py          # writes benchmarks/results/stress_kill_cpu.md
    OMP_NUM_THREADS=1 python benchmarks/stress_kill.py --gan    # writes benchmarks/results/stress_kill_gan_cpu.md

Every run is a process of its own (forked from this one, which spares it the imports) that goes through BasicSR's
pipeline as kdsr/train.py does. It gets SIGKILL, SIGTERM or SIGINT after a random time, one to three times, and is
resumed with --auto_resume each time. What it leaves in the end must have the bits of the undisturbed run: weights,
averaged weights, discriminator, helpers, `net_g_best.pth`, and all that the last training state holds. Anything else,
and any start that fails, ends the script with status 1.
"""

from __future__ import annotations

import argparse
import collections
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path

import kdsr
from kdsr import options

# isort: split
import cv2
import numpy as np
import torch
from basicsr.archs import build_network
from basicsr.train import train_pipeline
from basicsr.utils.logger import initialized_logger
from side_by_side import keep, machine

assert kdsr.__version__  # kdsr comes first: it repairs BasicSR's import
TOTAL = 16
EDSR = {'type': 'EDSR', 'num_in_ch': 3, 'num_out_ch': 3, 'num_feat': 8, 'num_block': 2, 'upscale': 2}
RCAN = {**EDSR, 'type': 'RCAN', 'num_group': 2, 'num_block': 1, 'squeeze_factor': 4}
SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT)  # the hardest twice as often
PATIENCE = 300  # seconds after which a process counts as stuck


def prepare(folder: Path) -> None:
    """Write tiny images and a teacher's weights."""
    rng = np.random.default_rng(0)
    for i in range(4):
        gt = cv2.resize(rng.integers(0, 256, (12, 12, 3), np.uint8), (48, 48))
        for kind, image in (('gt', gt), ('lq', cv2.resize(gt, (24, 24), interpolation=cv2.INTER_AREA))):
            (folder / kind).mkdir(exist_ok=True)
            cv2.imwrite(str(folder / kind / f'{i}.png'), image)
    (folder / 'names.txt').write_text('\n'.join(f'{i}.png' for i in range(4)))
    torch.manual_seed(0)
    torch.save({'params': build_network(dict(RCAN)).state_dict()}, folder / 'teacher.pth')


def kinds(folder: Path) -> dict[str, dict]:
    """Return the options of the runs that are killed."""
    images = {'name': 'tiny', 'type': 'PairedImageDataset', 'io_backend': {'type': 'disk'}}
    images.update(dataroot_gt=str(folder / 'gt'), dataroot_lq=str(folder / 'lq'))
    train_set = {**images, 'gt_size': 16, 'use_hflip': True, 'use_rot': True, 'batch_size_per_gpu': 2}
    train_set['dataset_enlarge_ratio'] = 5  # ten iterations an epoch
    plain = {
        'name': 'run', 'model_type': 'StudentModel', 'scale': 2, 'num_gpu': 0, 'manual_seed': 0, 'network_g': EDSR,
        'datasets': {'train': {**train_set, 'num_worker_per_gpu': 1}, 'val': images},
        'train': {
            'ema_decay': 0.9, 'optim_g': {'type': 'Adam', 'lr': 1e-3}, 'total_iter': TOTAL, 'warmup_iter': 3,
            'scheduler': {'type': 'MultiStepLR', 'milestones': [5, 12], 'gamma': 0.5},
            'pixel_opt': {'type': 'L1Loss', 'reduction': 'mean'},
        },
        'val': {'val_freq': 4, 'metrics': {'psnr': {'type': 'calculate_psnr', 'crop_border': 2}}},
        'logger': {'print_freq': 1, 'save_checkpoint_freq': 2, 'keep_last': 3},
    }  # fmt: skip
    distilled = {
        **plain, 'model_type': 'DistillationModel', 'datasets': {'train': train_set, 'val': images},
        'distillation': {
            'health_check': False,
            'teachers': [{'name': 'rcan', 'network': RCAN, 'path': str(folder / 'teacher.pth')}],
            'features': {'f': {'student': 'body.0', 'teacher': 'body.0'}},
            'losses': {'l_fit': {'type': 'FitNetLoss', 'loss_weight': 0.1}, 'l_dwt': {'type': 'WaveletLoss'}},
            'views': {'in': {'type': 'ZoomIn', 'count': 2}},
        },
    }  # fmt: skip
    return {'plain, one loader process': plain, 'features, wavelets, a view': distilled}


def gan_kinds(folder: Path) -> dict[str, dict]:
    """Return the options of distilled runs with a discriminator; the second degrades its images in the step."""
    _, distilled = kinds(folder).values()
    gan = {'type': 'GANLoss', 'gan_type': 'vanilla', 'real_label_val': 1.0, 'fake_label_val': 0.0, 'loss_weight': 0.1}
    block = {**distilled['distillation'], 'losses': {'l_fit': {'type': 'FitNetLoss', 'loss_weight': 0.1}}}
    block['losses']['l_kd'] = {'type': 'ResponseLoss'}
    esrgan = {
        **distilled, 'model_type': 'ESRGANModel', 'distillation': block,
        'network_d': {'type': 'UNetDiscriminatorSN', 'num_in_ch': 3, 'num_feat': 4, 'skip_connection': True},
        'train': {
            **distilled['train'], 'optim_d': {'type': 'Adam', 'lr': 1e-3}, 'gan_opt': gan, 'net_d_iters': 1,
            'net_d_init_iters': 0,
        },
        'logger': {'print_freq': 1, 'save_checkpoint_freq': 2},
    }  # fmt: skip
    lists = ['iso', 'aniso', 'generalized_iso', 'generalized_aniso', 'plateau_iso', 'plateau_aniso']
    blur = {'kernel_list': lists, 'kernel_prob': [0.45, 0.25, 0.12, 0.03, 0.12, 0.03], 'sinc_prob': 0.1}
    blur.update(blur_kernel_size=21, blur_sigma=[0.2, 3], betag_range=[0.5, 4], betap_range=[1, 2])
    train_set = {
        'name': 'tiny', 'type': 'RealESRGANDataset', 'dataroot_gt': str(folder / 'gt'), 'io_backend': {'type': 'disk'},
        'meta_info': str(folder / 'names.txt'), **blur, **{f'{key}2': value for key, value in blur.items()},
        'final_sinc_prob': 0.8, 'gt_size': 32, 'use_hflip': True, 'use_rot': False, 'batch_size_per_gpu': 2,
        'dataset_enlarge_ratio': 5,
    }  # fmt: skip
    once = {
        'resize_prob': [0.2, 0.7, 0.1], 'resize_range': [0.15, 1.5], 'gaussian_noise_prob': 0.5,
        'noise_range': [1, 30], 'poisson_scale_range': [0.05, 3], 'gray_noise_prob': 0.4, 'jpeg_range': [30, 95],
    }  # fmt: skip
    realesrgan = {
        **esrgan, 'model_type': 'RealESRGANModel', **once, **{f'{key}2': value for key, value in once.items()},
        'second_blur_prob': 0.8, 'gt_size': 32, 'queue_size': 8, 'l1_gt_usm': True, 'percep_gt_usm': True,
        'gan_gt_usm': False, 'datasets': {'train': train_set, 'val': esrgan['datasets']['val']},
    }  # fmt: skip
    return {'ESRGANModel, distilled': esrgan, 'RealESRGANModel, distilled, with its pool of pairs': realesrgan}


def start(folder: Path, opt: dict) -> int:
    """Start a run, or resume it, in a process of its own; return its number."""
    file = folder / 'run.yml'
    file.write_text(options.dump(opt))
    child = os.fork()
    if child:
        return child
    output = os.open(folder / 'output.txt', os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(output, 1)
    os.dup2(output, 2)
    initialized_logger.clear()  # the log goes to the run's own file
    sys.argv = ['train.py', '-opt', str(file), '--auto_resume']
    status = 0
    try:
        os.chdir(folder)
        train_pipeline(str(folder))
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else 1
    except BaseException:
        traceback.print_exc()
        status = 99
    os._exit(status)


def wait(child: int, seconds: float) -> int | None:
    """Return how a process ended, as `subprocess` tells it, or None when it still runs after that time."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    return None


def finish(folder: Path, opt: dict) -> float:
    """Run to the end undisturbed; return the seconds it took."""
    began = time.monotonic()
    child = start(folder, opt)
    status = wait(child, PATIENCE)
    if status is None:
        os.kill(child, signal.SIGKILL)
    if status != 0:
        raise SystemExit(f'a run did not come to its end ({status}):\n{(folder / "output.txt").read_text()[-4000:]}')
    return time.monotonic() - began


def left(folder: Path) -> dict[str, object]:
    """Return what a finished run leaves that must be the same."""
    run = folder / 'experiments' / 'run'
    names = [f'models/net_g_{TOTAL}.pth', 'models/net_g_latest.pth', 'models/net_g_best.pth']
    more = [f'models/net_distill_{TOTAL}.pth', f'models/net_d_{TOTAL}.pth']
    names += [name for name in more if (run / name).exists()]
    return {name: torch.load(run / name, weights_only=False) for name in [*names, f'training_states/{TOTAL}.state']}


def same(a: object, b: object) -> bool:
    """Compare nested values; tensors bit by bit."""
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and torch.equal(a, b)
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


def disturb(folder: Path, opt: dict, seconds: float, times: int, tally: collections.Counter) -> tuple[int, float]:
    """Kill a run and resume it, several times over.

    Returns:
        How often it was killed before it came to its end, and how long a run takes as the machine is now.
    """
    kills = 0
    for _ in range(times):
        child, number, began = start(folder, opt), random.choice(SIGNALS), time.monotonic()
        status = wait(child, random.uniform(0.0, 1.05 * seconds))
        if status is None:
            os.kill(child, number)
            status = wait(child, PATIENCE)
            kills += 1
            states = [int(p.stem) for p in (folder / 'experiments/run/training_states').glob('*.state')]
            tally[signal.Signals(number).name, 'no state yet' if not states else 'resumable'] += 1
        if status == 0:  # it was done before the signal came, or while it came
            seconds = seconds if kills else time.monotonic() - began
            break
        if status not in (-number, 128 + number, 1):
            output = (folder / 'output.txt').read_text()[-4000:]
            raise SystemExit(f'after {signal.Signals(number).name} a run ended with {status}:\n{output}')
    return kills, seconds


def main() -> None:
    """Kill, resume, compare, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--kills', type=int, default=60, help='at least so many, over all kinds of runs')
    parser.add_argument('--minutes', type=float, default=8.0, help='start no new run after this time')
    parser.add_argument('--gan', action='store_true', help='kill distilled runs with a discriminator')
    parser.add_argument('--seed', type=int, default=0, help='of the moments and the signals')
    args = parser.parse_args()
    random.seed(args.seed)
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    lines, began, total = [], time.monotonic(), 0
    with tempfile.TemporaryDirectory(prefix='kdsr_stress_') as temporary:
        root = Path(temporary)
        prepare(root)
        for i, (name, opt) in enumerate((gan_kinds if args.gan else kinds)(root).items()):
            shutil.rmtree(root / 'experiments', ignore_errors=True)
            seconds, wanted = finish(root, opt), args.kills * (i + 1) / 2
            print(f'{name}: {seconds:.1f} s undisturbed', flush=True)
            expected, runs, tally = left(root), 0, collections.Counter()
            while total < wanted and time.monotonic() - began < 60 * args.minutes * (i + 1) / 2:
                shutil.rmtree(root / 'experiments')
                kills, seconds = disturb(root, opt, seconds, random.randint(1, 3), tally)
                total += kills
                finish(root, opt)
                differing = [file for file, content in left(root).items() if not same(content, expected[file])]
                if differing:
                    raise SystemExit(f'{name}: {", ".join(differing)} differ from the undisturbed run')
                runs += 1
                print(f'{name}: {runs} runs, {total} kills in all', flush=True)
            cells = [', '.join(f'{count} {kind}' for (number, kind), count in sorted(tally.items()) if number == s.name)
                    for s in dict.fromkeys(SIGNALS)]  # fmt: skip
            lines.append(f'| {name} | {runs} | {" | ".join(cell or "0" for cell in cells)} | none |')
    heads = ' | '.join(s.name for s in dict.fromkeys(SIGNALS))
    gan = ' --gan' if args.gan else ''
    about = (
        f'{total} kills at random moments of runs of {TOTAL} iterations, a state every second; resumed '
        f'(`--auto_resume`) and compared bit by bit with the undisturbed; {(time.monotonic() - began) / 60:.1f} min. '
        f'{machine()} Written by `OMP_NUM_THREADS=1 python benchmarks/stress_kill.py --kills {args.kills}{gan}`.'
    )
    head = [f'| run | compared | {heads} | differences |', '|---|---|---|---|---|---|']
    keep('stress_kill_gan' if args.gan else 'stress_kill', ['# Killed and resumed', '', about, '', *head, *lines])


if __name__ == '__main__':
    main()
