"""How BasicSR reads its option file and command line."""

from __future__ import annotations

import argparse
import functools
import os
import re
import sys
import tempfile
from typing import Any

from kdsr import options, plugins
from kdsr.errors import UserError

settings = {'cpu': False, 'single': False}  # of the option file that was parsed last
_kept_alive: list[object] = []  # folders of resolved option files, removed when the process ends


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
        _fit_to_devices(opt)
        plugins.import_named(opt.get('import_modules') or ())
        options.check_model(opt)
        if is_train and opt.get('distillation') is not None:
            options.check(opt)
        options.check_files(opt)
        return options.with_cache(opt) if is_train else opt, args

    for module in (basicsr_options, basicsr.train, basicsr.test):
        module.parse_options = parse_options


def _resolved_arguments(argv: list[str]) -> list[str]:
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument('-opt')
    parser.add_argument('--launcher', default='none')
    parser.add_argument('--force_yml', nargs='+', default=[])
    known, rest = parser.parse_known_args(argv[1:])
    rest = [re.sub(r'^--local-rank', '--local_rank', word) for word in rest]
    rest += ['--launcher', known.launcher]
    if known.opt is None:  # BasicSR prints the usage
        return [argv[0], *rest]
    resolved = options.load_experiment(known.opt, known.force_yml)
    settings['cpu'] = resolved['num_gpu'] == 0
    settings['single'] = resolved['num_gpu'] == 'auto' and known.launcher == 'none'
    path = known.opt
    if resolved != options.read_yaml(known.opt):  # BasicSR keeps a copy of the file it reads: let it be the whole truth
        folder = tempfile.TemporaryDirectory(prefix='kdsr_options_')
        _kept_alive.append(folder)
        path = os.path.join(folder.name, os.path.basename(known.opt))
        with open(path, 'w', encoding='utf-8') as file:
            file.write(f'# {known.opt} with its base, defaults and --force_yml resolved\n{options.dump(resolved)}')
    return [argv[0], '-opt', path, *rest]


def _fit_to_devices(opt: dict[str, Any]) -> None:
    """Refuse a GPU that is not there, and use one where `auto` would multiply the batch by the number of GPUs."""
    import torch

    if opt['num_gpu'] != 0 and not torch.cuda.is_available():
        raise UserError(
            f'`num_gpu: {opt["num_gpu"]}`, but PyTorch sees no GPU here. Write `num_gpu: auto` (0 without one), '
            'or add `--force_yml num_gpu=0`.'
        )
    if opt['num_gpu'] > 1 and settings['single']:
        print(f'`num_gpu: auto`: one of {opt["num_gpu"]} GPUs is used; torchrun uses them all.', flush=True)  # noqa: T201
        opt['num_gpu'] = 1
    train_set = opt['datasets'].get('train', {})
    if opt['num_gpu'] == 0 and train_set.get('prefetch_mode') == 'cuda':
        print('`prefetch_mode: cuda` is left out: there is no GPU in this run.', flush=True)  # noqa: T201
        train_set['prefetch_mode'] = None
