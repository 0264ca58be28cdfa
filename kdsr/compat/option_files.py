"""How BasicSR reads its option file and command line."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Callable
from typing import Any

import torch
from basicsr.utils.options import parse_options as basicsr_parse_options

from kdsr import options
from kdsr.errors import UserError
from kdsr.options.run_arguments import add_run_arguments, run_arguments

settings: dict[str, Any] = {
    'cpu': False,
    'single': False,
    'seeded': False,
    'verbose': False,
    'file': '',
}  # of the file that was parsed last
before_a_run: list[Callable[[options.OptionFile, bool, bool], None]] = []  # checks that the rooms above add
_kept_alive: list[object] = []  # folders of resolved option files, removed when the process ends


def ordered_yaml() -> tuple[type, type]:
    """Return a safe loader and dumper: BasicSR's loader runs `!!python/...` tags, and leaves `1e-4` a string."""
    return options.SafeLoader, options.SafeDumper


def refuse_execution(text: str, *rest: object) -> Any:
    """Stand in for `exec` and `eval` in BasicSR's option parser, which hands them the words after `--force_yml`.

    kdsr resolves these words itself. This closes every other way to that code, such as a name that was imported before.

    Raises:
        UserError: always.
    """
    raise UserError(f'{text!r} is not executed: options are values. `--force_yml` needs the parser of kdsr.')


def parse_options(root_path: str, is_train: bool = True) -> tuple[dict[str, Any], argparse.Namespace]:
    """Resolve `base:`, defaults and `--force_yml`, check the file, and let BasicSR read the result.

    BasicSR hands `--force_yml` to `exec` and `eval` and keeps `5e-4` a string. PyTorch 2 launchers say `--local-rank`.
    Keys without a default end in a bare `KeyError`.

    Args:
        root_path: The folder of `experiments` and `results`.
        is_train: Train, not test.

    Returns:
        BasicSR's options, and its arguments.

    Raises:
        UserError: the file is wrong, or asks for a GPU where there is none.
    """
    argv = sys.argv
    words = _create_parser().parse_args(argv[1:])
    overrides = [*words.force_yml, *(['logger:verbose=true'] if words.verbose else [])]
    file = options.read(words.opt, overrides)
    if file.opt.get('name') is not None:  # before anything is imported, built or written
        options.check_name(file.opt['name'], f'{file.find_place(("name",))}: name')
    if not is_train:
        file = _leave_out_missing_sets(file)
    for check in before_a_run:
        check(file, is_train, words.auto_resume)
    try:
        sys.argv = [argv[0], *_resolve_arguments(file, words)]
        opt, args = basicsr_parse_options(root_path, is_train)
    finally:
        sys.argv = argv
    _fit_to_devices(opt)
    return options.with_cache(opt) if is_train else opt, args


def _leave_out_missing_sets(file: options.OptionFile) -> options.OptionFile:
    """Leave out the test sets that are not on the disk, and print which."""
    file, left_out = options.leave_out_missing_sets(file)
    if left_out and int(os.environ.get('RANK', 0)) == 0:  # of several processes, the first prints
        sets = ', '.join(f'{name} (no {folder})' for name, folder in left_out.items())
        print(f'Test sets that are left out, because they are not on the disk: {sets}.', flush=True)  # noqa: T201
    return file


def _create_parser() -> argparse.ArgumentParser:
    """Create a parser of BasicSR's words and no others: an unknown word must not reach BasicSR."""
    parser = argparse.ArgumentParser()
    parser.add_argument('-opt', required=True, metavar='FILE', help='option file')
    add_run_arguments(parser)
    return parser


def _resolve_arguments(file: options.OptionFile, words: argparse.Namespace) -> list[str]:
    """Return the words for BasicSR's own parser: those it needs, and a file in which everything is resolved."""
    resolved = options.complete(options.clean(file), file.path)
    settings['cpu'] = resolved['num_gpu'] == 0
    settings['seeded'] = resolved.get('manual_seed') is not None
    settings['single'] = resolved['num_gpu'] == 'auto' and words.launcher == 'none'
    settings['verbose'], settings['file'] = bool(resolved['logger'].get('verbose')), file.path
    path = file.path
    if resolved != options.read_yaml(path):  # BasicSR keeps a copy of the file it reads
        folder = tempfile.TemporaryDirectory(prefix='kdsr_options_')
        _kept_alive.append(folder)
        path = os.path.join(folder.name, os.path.basename(file.path))
        with open(path, 'w', encoding='utf-8') as text:
            text.write(f'# {file.path} with its base, defaults and --force_yml resolved\n{options.dump(resolved)}')
    return run_arguments(argparse.Namespace(**{**vars(words), 'force_yml': [], 'verbose': False}), path)


def _fit_to_devices(opt: dict[str, Any]) -> None:
    """Refuse a GPU that does not exist, and use one GPU where `auto` would multiply the batch by their number.

    Raises:
        UserError: the options ask for a GPU, and PyTorch sees none.
    """
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
