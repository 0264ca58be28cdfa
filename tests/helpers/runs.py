"""Tiny runs that are killed or stopped in a forked process, and what they leave."""

import os
import signal
import traceback

import torch
from basicsr.models.base_model import BaseModel

from kdsr.data.teacher_cache import make_cache
from tests.helpers.real_world import model_options, real_world_set

TOTAL, KILLED_AT = 6, 4  # of four iterations an epoch, saved every second


def options(workspace, **changes):
    opt = workspace.options(model_type='StudentModel', iterations=TOTAL, **changes)
    opt['datasets']['train'].update(dataset_enlarge_ratio=2, gt_size=16)
    opt['datasets']['val'] = workspace.images(count=1, size=16, name='tiny')
    opt['val']['val_freq'] = 3
    opt['train']['scheduler'] = {'type': 'MultiStepLR', 'milestones': [3, 5], 'gamma': 0.5}
    opt['train']['warmup_iter'] = 2
    return opt


def plain(workspace):
    return options(workspace)


def basicsrs(workspace):
    return {**options(workspace), 'model_type': 'SRModel'}


def half_precision(workspace):
    opt = options(workspace)
    opt['train'].update(amp='fp16', accumulate=2)
    return opt


def features(workspace):
    opt = options(workspace)
    taps = {'f': {'student': 'body.0', 'teacher': 'body.1'}}
    block = {'teachers': [workspace.teacher('RCAN')], 'features': taps, 'losses': {'l_fit': {'type': 'FitNetLoss'}}}
    return {**opt, 'model_type': 'DistillationModel', 'distillation': block}


def many_teachers(workspace):
    opt = options(workspace)
    block = {
        'teachers': [workspace.teacher('RCAN'), workspace.teacher('EDSR')],
        'losses': {'l_dwt': {'type': 'WaveletLoss'}},
        'views': {'in': {'type': 'ZoomIn', 'count': 2}, 'out': {'type': 'ZoomOut'}},
    }
    return {**opt, 'model_type': 'DistillationModel', 'distillation': block}


def cached(workspace):
    opt = many_teachers(workspace)
    opt['distillation'] = {**opt['distillation'], 'health_check': False, 'views': None, 'cache': 'cache.raw'}
    make_cache(opt, progress=False)
    return opt


def real_world(workspace):
    """A GAN training that makes its low-quality images in each step, with a teacher."""
    opt = model_options(options(workspace), 'RealESRGANModel')
    folder = workspace.root / 'photos' / 'gt'
    names = workspace.root / 'names.txt'
    names.write_text(''.join(f'{path.name}\n' for path in sorted(folder.iterdir())), encoding='utf-8')
    opt['datasets']['train'] = real_world_set(str(folder), str(names))
    opt['datasets']['val'] = workspace.images(count=1, size=64, name='larger')  # the sharpening needs 26 pixels
    block = {'teachers': [workspace.teacher('RCAN')], 'losses': {'l_kd': {'type': 'ResponseLoss'}}}
    return {**opt, 'distillation': {**block, 'health_check': False}}


def in_a_child(work):
    """Run `work` in a forked process; return its status as os.waitpid gives it."""
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1]
    try:
        work()
    except SystemExit as error:
        os._exit(error.code if isinstance(error.code, int) else 1)
    except BaseException:
        traceback.print_exc()
        os._exit(99)
    os._exit(0)


def at_iteration(iteration, act, method='update_learning_rate', owner=BaseModel):
    """Let `act` happen when the iteration begins (None: at any call of the method), in this process alone."""
    original = getattr(owner, method)

    def hooked(self, *args, **kwargs):
        if iteration is None or iteration in args:
            act()
        return original(self, *args, **kwargs)

    setattr(owner, method, hooked)


def killed(workspace, opt, *arguments, iteration=KILLED_AT, method='update_learning_rate', number=signal.SIGKILL):
    """Train in a child process that gets a signal when the iteration begins."""

    def work():
        at_iteration(iteration, lambda: os.kill(os.getpid(), number), method)
        workspace.train(opt, *arguments)

    return in_a_child(work)


def content(folder, name):
    return torch.load(folder / name, weights_only=False)


def same(a, b):
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


def check_same_run(one, other, total=TOTAL):
    """Compare two finished runs: weights, their averages, helpers, and all that a state holds."""
    names = sorted(p.relative_to(one) for kind in ('models', 'training_states') for p in (one / kind).iterdir())
    wanted = [n for n in names if str(total) in n.name or 'latest' in n.name]
    assert len(wanted) >= 3
    for name in wanted:
        assert same(content(one, name), content(other, name)), name
