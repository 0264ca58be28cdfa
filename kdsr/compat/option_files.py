"""How BasicSR reads its option file and command line."""

from __future__ import annotations

import argparse
import functools
import os
import sys
import tempfile
from collections.abc import Callable
from typing import Any

from kdsr import options
from kdsr.errors import UserError
from kdsr.options.run_arguments import add_run_arguments, run_arguments

settings = {'cpu': False, 'single': False}  # of the option file that was parsed last
before_a_run: list[Callable[[options.OptionFile, bool, bool], None]] = []  # checks; rooms above this one add theirs
_kept_alive: list[object] = []  # folders of resolved option files, removed when the process ends


def repair_yaml() -> None:
    """Read option files with a safe loader: BasicSR's runs `!!python/...` tags, and leaves `1e-4` a string."""
    from basicsr.utils import options as basicsr_options

    def ordered_yaml() -> tuple[type, type]:
        return options.SafeLoader, options.SafeDumper

    basicsr_options.ordered_yaml = ordered_yaml


def repair_execution() -> None:
    """Take `exec` and `eval` from BasicSR's option parser, which hands them the words after `--force_yml`.

    kdsr resolves these words itself; this closes every other way to that code, such as a name that was imported before.
    """
    from basicsr.utils import options as basicsr_options

    def refused(text: str, *rest: object) -> Any:
        raise UserError(f'{text!r} is not executed: options are values. `--force_yml` needs the parser of kdsr.')

    basicsr_options.exec = refused
    basicsr_options.eval = refused


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
        words = _parser().parse_args(argv[1:])
        file = options.read(words.opt, words.force_yml)
        for check in before_a_run:
            check(file, is_train, words.auto_resume)
        try:
            sys.argv = [argv[0], *_resolved_arguments(file, words)]
            opt, args = original(root_path, is_train)
        finally:
            sys.argv = argv
        _fit_to_devices(opt)
        return options.with_cache(opt) if is_train else opt, args

    for module in (basicsr_options, basicsr.train, basicsr.test):
        module.parse_options = parse_options


def _parser() -> argparse.ArgumentParser:
    """Return a parser of BasicSR's words, and no others: what it does not know must not reach BasicSR."""
    parser = argparse.ArgumentParser()
    parser.add_argument('-opt', required=True, metavar='FILE', help='option file')
    add_run_arguments(parser)
    return parser


def _resolved_arguments(file: options.OptionFile, words: argparse.Namespace) -> list[str]:
    """Return the words for BasicSR's own parser: those it needs, and a file that is the whole truth."""
    resolved = options.complete(options.clean(file), file.path)
    settings['cpu'] = resolved['num_gpu'] == 0
    settings['single'] = resolved['num_gpu'] == 'auto' and words.launcher == 'none'
    path = file.path
    if resolved != options.read_yaml(path):  # BasicSR keeps a copy of the file it reads
        folder = tempfile.TemporaryDirectory(prefix='kdsr_options_')
        _kept_alive.append(folder)
        path = os.path.join(folder.name, os.path.basename(file.path))
        with open(path, 'w', encoding='utf-8') as text:
            text.write(f'# {file.path} with its base, defaults and --force_yml resolved\n{options.dump(resolved)}')
    return run_arguments(argparse.Namespace(**{**vars(words), 'force_yml': []}), path)


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
