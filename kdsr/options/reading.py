"""Read option files: safely, with `base:`, `--force_yml`, and defaults for keys that BasicSR needs."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from kdsr.errors import UserError, did_you_mean
from kdsr.options.metrics import fill_direction
from kdsr.options.names import check_name
from kdsr.options.positions import Places, keep_existing, read_with_places, shorten_path
from kdsr.options.problems import WARNING, KeyPath, Place, Problem, dotted
from kdsr.options.renamed import current_name, rename_old_keys, warn_of_old_name
from kdsr.options.safe_yaml import copy_plainly, parse_value
from kdsr.options.table import PAIRED_SETS

OVERRIDE = '--force_yml'
MOST_BASES = 50

DEFAULTS: dict[str, Any] = {
    'num_gpu': 'auto',
    'path': {},
    'logger': {'print_freq': 100, 'save_checkpoint_freq': 5000, 'use_tb_logger': False},
}
VAL_DEFAULTS = {'val_freq': 5000, 'save_img': False}
TEST_DEFAULTS = {'save_img': False, 'suffix': None}
ZERO_IF_NULL = ('ema_decay', 'warmup_iter')  # BasicSR compares them with numbers, and so fails at null
TRAIN_SET_DEFAULTS = {'use_hflip': False, 'use_rot': False, 'num_worker_per_gpu': 0}


def merge(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Merge `changes` into `base`.

    Mappings are merged key by key; lists and plain values are replaced. A mapping with another `type` is replaced
    completely, because the arguments of another network or loss would not fit.

    Args:
        base: Options.
        changes: Options that win.

    Returns:
        New options; neither argument changes.
    """
    merged = dict(base)
    for key, value in changes.items():
        old = merged.get(key)
        same_kind = (
            isinstance(old, Mapping) and isinstance(value, Mapping) and value.get('type') in (None, old.get('type'))
        )
        merged[key] = merge(old, value) if same_kind else value  # type: ignore[arg-type]
    return merged


@dataclass(frozen=True)
class OptionFile:
    """An option file with its bases, overrides and defaults.

    Attributes:
        path: As the user gave it.
        opt: The options.
        places: Where each key stands: in the file, in one of its bases, or in `--force_yml`.
        problems: Errors (keys that stand there twice, overrides that do not apply) and warnings (old names).
    """

    path: str
    opt: dict[str, Any]
    places: Places
    problems: tuple[Problem, ...] = ()

    def find_place(self, path: KeyPath) -> Place:
        """Return where a key stands; for a missing key, where its mapping stands."""
        for end in range(len(path), 0, -1):
            if path[:end] in self.places:
                return self.places[path[:end]]
        return Place(shorten_path(self.path))

    def add_places(self, problems: Iterable[Problem]) -> list[Problem]:
        """Return problems with their places."""
        return [
            problem if problem.place else replace(problem, place=self._find_latest((problem.path, *problem.rivals)))
            for problem in problems
        ]

    def _find_latest(self, paths: Iterable[KeyPath]) -> Place:
        """Return the place of the key that was written last: `--force_yml`, the file itself, then its bases."""
        own = shorten_path(self.path)
        order = {OVERRIDE: 0, own: 1}
        return min(map(self.find_place, paths), key=lambda place: order.get(place.file, 2))


def read(path: str, overrides: Iterable[str] = ()) -> OptionFile:
    """Read an option file with its bases, overrides and defaults.

    Args:
        path: YAML file. Its `base:`, if any, names the file that it varies, relative to itself.
        overrides: ``key:key=value``, as after BasicSR's `--force_yml`.

    Raises:
        UserError: a file is missing or cannot be read; the message names it.
    """
    opt, places, problems = _read_with_base(os.path.abspath(path), ())
    opt = _fill_defaults(opt)
    for override in overrides:
        try:
            changed = _apply_override(opt, override)
        except UserError as error:
            problems.append(Problem((), str(error), place=Place(OVERRIDE)))
        else:
            places = {p: place for p, place in places.items() if p[: len(changed)] != changed}
            places[changed] = Place(OVERRIDE)
            given = override.partition('=')[0].split(':')[-1].strip()
            if given != str(changed[-1]):
                problems.append(warn_of_old_name((*changed[:-1], given), changed[-1], Place(OVERRIDE)))
            opt = _fill_defaults(opt)  # an override may switch off a block, or give its first key
    return OptionFile(path, opt, places, tuple(problems))


def load(path: str, overrides: Iterable[str] = ()) -> dict[str, Any]:
    """Return the options of :func:`read`.

    Raises:
        UserError: a file or an override is wrong; the message names it.
    """
    return clean(read(path, overrides))


def clean(file: OptionFile) -> dict[str, Any]:
    """Return the options of a file without errors.

    Raises:
        UserError: a key stands there twice, or an override does not apply.
    """
    errors = [str(problem) for problem in file.problems if problem.kind != WARNING]
    if errors:
        raise UserError('\n'.join(errors))
    return file.opt


def load_experiment(path: str, overrides: Iterable[str] = ()) -> dict[str, Any]:
    """Read an option file that is to be run: :func:`load` and :func:`complete`.

    Raises:
        UserError: a file or an override is wrong, or a necessary key is missing.
    """
    return complete(load(path, overrides), path)


def complete(opt: Mapping[str, Any], path: str) -> dict[str, Any]:
    """Return options with all defaults.

    Args:
        opt: Options.
        path: Their file, for the message.

    Raises:
        UserError: a necessary key is missing, or the name cannot be the name of a folder.
    """
    opt = _fill_defaults(copy_plainly(opt))
    missing = [dotted(key) for key in find_missing_keys(opt)]
    if missing:
        raise UserError(f'{path}: missing: {", ".join(missing)}.')
    check_name(opt['name'], f'{path}: name')
    return {**opt, 'name': str(opt['name'])}


def find_missing_keys(opt: Mapping[str, Any]) -> list[KeyPath]:
    """Return the necessary keys that are missing."""
    needed = ['name', 'model_type', 'datasets', 'network_g']
    if opt.get('distillation') is not None:  # BasicSR also restores images without a scale
        needed.append('scale')
    missing: list[KeyPath] = [(key,) for key in needed if not opt.get(key)]
    datasets = opt.get('datasets')
    train_set = datasets.get('train') if isinstance(datasets, Mapping) else None
    if isinstance(train_set, Mapping) and 'gt_size' not in train_set and train_set.get('type') in PAIRED_SETS:
        missing.append(('datasets', 'train', 'gt_size'))
    return missing


def _merge_given(defaults: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Merge given values into the defaults. A null leaves the default as it is: BasicSR fails at `val_freq: ~`."""
    kept = {
        key: _merge_given(defaults[key], value) if isinstance(value, dict) and defaults.get(key) else value
        for key, value in given.items()
        if value is not None or defaults.get(key) is None
    }
    return merge(defaults, kept)


def _fill_defaults(opt: dict[str, Any]) -> dict[str, Any]:
    """Add keys that BasicSR reads without a default; remove blocks that are switched off (`~`).

    A value that should be a mapping and is not stays as it is, so that the checks can report it.
    """
    filled = _merge_given(copy_plainly(DEFAULTS), opt)
    datasets, val = filled.get('datasets') or {}, filled.get('val')
    tests = False
    if isinstance(datasets, dict):
        datasets = {k: v for k, v in datasets.items() if v is not None}
        tests = any(str(phase).startswith('test') for phase in datasets)
        if isinstance(datasets.get('train'), dict):
            datasets['train'] = merge(TRAIN_SET_DEFAULTS, datasets['train'])
    if 'datasets' in filled:
        filled['datasets'] = datasets
    if isinstance(val, dict) or (tests and val is None):
        filled['val'] = _merge_given(TEST_DEFAULTS if tests else VAL_DEFAULTS, val or {})
        if isinstance(filled['val'].get('metrics'), dict):
            metrics = filled['val']['metrics'].items()
            filled['val']['metrics'] = {k: fill_direction(v) for k, v in metrics if v is not None}
    if isinstance(filled.get('train'), dict):
        switched_off = [key for key in ZERO_IF_NULL if key in filled['train'] and filled['train'][key] is None]
        filled['train'] = {key: value for key, value in filled['train'].items() if key not in switched_off}
    return {k: v for k, v in filled.items() if v is not None or k not in ('distillation', 'val')}


def _read_with_base(path: str, seen: tuple[str, ...]) -> tuple[dict[str, Any], Places, list[Problem]]:
    if path in seen:
        circle = ' -> '.join(map(shorten_path, (*seen, path)))
        raise UserError(f'`base:` forms a circle: {circle}')
    if len(seen) > MOST_BASES:
        raise UserError(f'{shorten_path(path)}: more than {MOST_BASES} files are based on each other.')
    opt, places, problems = read_with_places(path)
    base = opt.pop('base', None)
    if base is None:
        opt, places, old_names = rename_old_keys(opt, {}, places)
        return opt, places, [*problems, *old_names]
    base_path = os.path.normpath(os.path.join(os.path.dirname(path), str(base)))
    if not os.path.isfile(base_path):
        raise UserError(
            f'{places["base",]}: `base: {base}` does not exist (its path is relative to the file: {base_path!r}).'
        )
    base_opt, base_places, base_problems = _read_with_base(base_path, (*seen, path))
    opt, places, old_names = rename_old_keys(opt, base_opt, places)
    merged = merge(base_opt, opt)
    return merged, keep_existing({**base_places, **places}, merged), [*base_problems, *problems, *old_names]


def _apply_override(opt: dict[str, Any], override: str) -> KeyPath:
    """Set one value; return the path of its key."""
    keys, equals, value = override.partition('=')
    if not equals:
        raise UserError(f'{override!r}: write key:key=value, for example train:ema_decay=0.999')
    *parents, last = (k.strip() for k in keys.split(':'))
    node: Any = opt
    path: KeyPath = ()
    for key in parents:
        index = _find_index(node, key, path)
        path = (*path, index)
        try:
            node = node[index]
        except (KeyError, IndexError, TypeError):
            known = [str(k) for k in node] if isinstance(node, dict) else []
            raise UserError(f'{override!r}: there is no {key!r}.{did_you_mean(key, known)}') from None
    index = _find_index(node, last, path)
    if isinstance(node, dict) or (isinstance(index, int) and index < len(node)):
        node[index] = parse_value(value.strip(), str(index))
        return (*path, index)
    raise UserError(f'{override!r}: {parents[-1] if parents else "it"!r} has no {last!r}.')


def _find_index(node: Any, key: str, path: KeyPath) -> Any:
    """Return the place in a list, or the current name of a key in a mapping."""
    if isinstance(node, list) and key.isdigit():
        return int(key)
    return current_name(key, path, node.get('type') if isinstance(node, dict) else None)
