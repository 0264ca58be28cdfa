"""Every repair that BasicSR 1.4.2 needs on today's libraries: one function each, with its reason.

`apply` runs them all, once, when `kdsr` is imported. A repair leaves alone what already works.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import importlib
import importlib.util
import os
import pickle
import re
import sys
import tempfile
import types
import warnings
from collections.abc import Iterator
from typing import Any

from kdsr import options, plugins
from kdsr.errors import UserError, did_you_mean

_kept_alive: list[object] = []  # torch.library registrations vanish with their Library object


def repair_torchvision_operators() -> list[str]:
    """Let `import torchvision` succeed when its compiled operators cannot be loaded.

    A CUDA build of torchvision beside a CPU build of torch cannot load its extension, and then dies while it describes
    operators that were never defined ("operator torchvision::nms does not exist"). BasicSR needs none of them.

    Returns:
        The operators that had to be declared; empty where torchvision is healthy.
    """
    import torch

    declared: list[str] = []
    while True:
        try:
            importlib.import_module('torchvision')
            return declared
        except RuntimeError as error:
            missing = re.search(r'operator (torchvision::\w+) does not exist', str(error))
            if missing is None or missing[1] in declared:
                raise
            library = torch.library.Library('torchvision', 'FRAGMENT')
            library.define(f'{missing[1].split("::")[1]}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor')
            _kept_alive.append(library)
            declared.append(missing[1])
            for name in [n for n in sys.modules if n.split('.')[0] == 'torchvision']:
                del sys.modules[name]


def repair_functional_tensor() -> bool:
    """Bring back `torchvision.transforms.functional_tensor`, which torchvision 0.17 removed and BasicSR imports.

    Returns:
        Whether the module had to be supplied.
    """
    name = 'torchvision.transforms.functional_tensor'
    if name in sys.modules or importlib.util.find_spec(name) is not None:
        return False
    from torchvision.transforms.functional import rgb_to_grayscale

    module = types.ModuleType(name, 'Supplied by kdsr.compat for BasicSR.')
    module.rgb_to_grayscale = rgb_to_grayscale  # type: ignore[attr-defined]
    sys.modules[name] = module
    return True


def repair_ndimage_filters() -> bool:
    """Bring back `scipy.ndimage.filters`, which SciPy 2.0 removes and BasicSR's NIQE imports.

    Returns:
        Whether the module had to be supplied.
    """
    name = 'scipy.ndimage.filters'
    if name in sys.modules or importlib.util.find_spec(name) is not None:
        return False
    sys.modules[name] = importlib.import_module('scipy.ndimage')
    return True


def repair_meshgrid_warning() -> None:
    """Silence the warning that every BasicSR SwinIR gives when it is built; its `indexing` is the one it means."""
    warnings.filterwarnings('ignore', message='torch.meshgrid', category=UserWarning)


def repair_registry() -> None:
    """Say which names are close when a registry lacks one; BasicSR prints "not found" even when all is well."""
    import basicsr
    from basicsr.utils.registry import Registry

    def get(self: Any, name: str, suffix: str = 'basicsr') -> Any:
        for candidate in (name, f'{name}_{suffix}'):
            if candidate in self:
                return self._obj_map[candidate]
        hint = did_you_mean(name, self.keys()) or ' Is the package that brings it imported?'
        where = os.path.dirname(basicsr.__file__)
        raise UserError(f'no {self._name} is called {name!r} (BasicSR in {where}).{hint}')

    Registry.get = get


def repair_yaml() -> None:
    """Read option files with a safe loader: BasicSR's runs `!!python/...` tags, and leaves `1e-4` a string."""
    from basicsr.utils import options as basicsr_options

    def ordered_yaml() -> tuple[type, type]:
        return options.SafeLoader, options.SafeDumper

    basicsr_options.ordered_yaml = ordered_yaml


def repair_parse_options() -> None:
    """Resolve `base:`, defaults and `--force_yml` before BasicSR reads the file; check it; accept `--local-rank`.

    BasicSR hands `--force_yml` to `exec` and `eval` and keeps `5e-4` a string; PyTorch 2 launchers say `--local-rank`;
    keys without a default end in a bare `KeyError`.
    """
    import basicsr.test
    import basicsr.train
    from basicsr.utils import options as basicsr_options

    original = basicsr_options.parse_options

    @functools.wraps(original)
    def parse_options(root_path: str, is_train: bool = True) -> tuple[dict[str, Any], argparse.Namespace]:
        argv = sys.argv
        try:
            sys.argv = _resolved_arguments(argv)
            opt, args = original(root_path, is_train)
        finally:
            sys.argv = argv
        _refuse_missing_device(opt)
        plugins.import_named(opt.get('import_modules') or ())
        if 'distillation' in opt:
            options.check(opt)
        options.check_files(opt)
        return opt, args

    for module in (basicsr_options, basicsr.train, basicsr.test):
        module.parse_options = parse_options


def _resolved_arguments(argv: list[str]) -> list[str]:
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument('-opt')
    parser.add_argument('--force_yml', nargs='+', default=[])
    known, rest = parser.parse_known_args(argv[1:])
    rest = [re.sub(r'^--local-rank', '--local_rank', word) for word in rest]
    if known.opt is None:  # BasicSR prints the usage
        return [argv[0], *rest]
    resolved = options.load(known.opt, known.force_yml)
    path = known.opt
    if resolved != options.read_yaml(known.opt):  # BasicSR keeps a copy of the file it reads: let it be the whole truth
        folder = tempfile.TemporaryDirectory(prefix='kdsr_options_')
        _kept_alive.append(folder)
        path = os.path.join(folder.name, os.path.basename(known.opt))
        with open(path, 'w', encoding='utf-8') as file:
            file.write(f'# {known.opt} with its base, defaults and --force_yml resolved\n{options.dump(resolved)}')
    return [argv[0], '-opt', path, *rest]


def _refuse_missing_device(opt: dict[str, Any]) -> None:
    import torch

    if opt['num_gpu'] != 0 and not torch.cuda.is_available():
        raise UserError(
            f'`num_gpu: {opt["num_gpu"]}`, but PyTorch sees no GPU here. Write `num_gpu: auto` (0 without one), '
            'or add `--force_yml num_gpu=0`.'
        )


def repair_load_resume_state() -> None:
    """Resume on a CPU, from the run's own folder, and say so when there is nothing to resume.

    BasicSR calls `torch.cuda.current_device()`, looks for states below the current folder whatever the experiment's
    root, unpickles anything, and silently starts at 0.
    """
    import basicsr.train
    import torch
    from basicsr.utils import check_resume

    def load_resume_state(opt: dict[str, Any]) -> dict[str, Any] | None:
        folder, path = opt['path']['training_states'], opt['path'].get('resume_state')
        if opt['auto_resume']:
            path = next(filter(_is_whole, _states(folder)), None)
            told = f'resumes from {path}' if path else f'no state in {folder}: starts at 0'
            print(f'--auto_resume: {told}.', flush=True)  # noqa: T201 - the logger does not exist yet
        if path is None:
            return None
        if not os.path.isfile(path):
            raise UserError(f'`path.resume_state: {path}` does not exist.')
        opt['path']['resume_state'] = path
        try:
            state = torch.load(path, map_location='cpu', weights_only=True)
        except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
            raise UserError(f'{path!r} is damaged, or no training state; nothing in it was run ({error}).') from None
        check_resume(opt, state['iter'])
        return state

    basicsr.train.load_resume_state = load_resume_state


def _states(folder: str) -> list[str]:
    """Return the training states in `folder`, the newest first."""
    names = os.listdir(folder) if os.path.isdir(folder) else []
    iterations = sorted((int(n[: -len('.state')]) for n in names if re.fullmatch(r'\d+\.state', n)), reverse=True)
    return [os.path.join(folder, f'{i}.state') for i in iterations]


def _is_whole(path: str) -> bool:
    import torch

    try:
        torch.load(path, map_location='cpu', weights_only=True)
    except Exception as error:  # a truncated file ends in one of many errors
        print(f'--auto_resume: skips {path}, which cannot be read ({type(error).__name__}).', flush=True)  # noqa: T201
        return False
    return True


def repair_init_dist() -> None:
    """Start distributed runs on a CPU (gloo), and bind a process to its local GPU.

    BasicSR divides by the number of GPUs, and picks the GPU by global rank, which is wrong on nodes that are not full.
    """
    import basicsr.utils.dist_util
    import basicsr.utils.options
    import torch

    original = basicsr.utils.dist_util.init_dist

    @functools.wraps(original)
    def init_dist(launcher: str, backend: str = 'nccl', **kwargs: Any) -> None:
        if torch.cuda.device_count() > 0:
            original(launcher, backend, **kwargs)
            torch.cuda.set_device(int(os.environ['LOCAL_RANK']))
            return
        with _one_pretended_gpu():
            original(launcher, 'gloo', **kwargs)

    basicsr.utils.dist_util.init_dist = init_dist
    basicsr.utils.options.init_dist = init_dist


@contextlib.contextmanager
def _one_pretended_gpu() -> Iterator[None]:
    import torch

    count, select = torch.cuda.device_count, torch.cuda.set_device
    torch.cuda.device_count, torch.cuda.set_device = lambda: 1, lambda device: None
    try:
        yield
    finally:
        torch.cuda.device_count, torch.cuda.set_device = count, select


def repair_model_to_device() -> None:
    """Wrap a network in DistributedDataParallel on a CPU too; BasicSR always passes a CUDA device."""
    from basicsr.models.base_model import BaseModel
    from torch.nn.parallel import DistributedDataParallel

    original = BaseModel.model_to_device

    @functools.wraps(original)
    def model_to_device(self: Any, net: Any) -> Any:
        if not self.opt['dist'] or self.device.type != 'cpu':
            return original(self, net)
        return DistributedDataParallel(net, find_unused_parameters=self.opt.get('find_unused_parameters', False))

    BaseModel.model_to_device = model_to_device


def repair_dataloader() -> None:
    """Keep the loader's processes alive between epochs of a distributed run.

    BasicSR's launcher spawns them, so each epoch imports torch anew (94 s instead of 14 s for 40 iterations). An
    explicit `persistent_workers` in the YAML is obeyed, except where there are no workers to keep.
    """
    import basicsr.train

    original = basicsr.train.build_dataloader

    @functools.wraps(original)
    def build_dataloader(dataset: Any, dataset_opt: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        workers = dataset_opt.get('num_worker_per_gpu', 0) if dataset_opt['phase'] == 'train' else 0
        wanted = dataset_opt.get('persistent_workers', kwargs.get('dist', False))
        return original(dataset, {**dataset_opt, 'persistent_workers': bool(wanted and workers)}, *args, **kwargs)

    basicsr.train.build_dataloader = build_dataloader


def repair_last_iteration() -> None:
    """Log the validation after the last iteration under that iteration; BasicSR's counter has run one past it."""
    from basicsr.models.base_model import BaseModel

    original = BaseModel.validation

    @functools.wraps(original)
    def validation(self: Any, dataloader: Any, current_iter: Any, tb_logger: Any, save_img: bool = False) -> None:
        if self.is_train:
            current_iter = min(current_iter, int(self.opt['train']['total_iter']))
        original(self, dataloader, current_iter, tb_logger, save_img)

    BaseModel.validation = validation


_applied: list[str] = []


def apply() -> None:
    """Run every repair. Importing `kdsr` does this; a second call changes nothing."""
    if _applied:
        return
    for repair in (
        repair_torchvision_operators,
        repair_functional_tensor,
        repair_ndimage_filters,
        repair_meshgrid_warning,
        repair_registry,
        repair_yaml,
        repair_parse_options,
        repair_load_resume_state,
        repair_init_dist,
        repair_model_to_device,
        repair_dataloader,
        repair_last_iteration,
    ):
        repair()
        _applied.append(repair.__name__)
