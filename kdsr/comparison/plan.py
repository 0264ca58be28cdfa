"""The file of `kdsr compare`: which runs are compared, their seeds, and the options of each run.

docs/compare.md describes the format.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from kdsr import options, plugins
from kdsr.checks.experiment import find_problems
from kdsr.comparison.planned_runs import Comparison, PlannedRun, describe_validation
from kdsr.errors import UserError, did_you_mean
from kdsr.experiment import read_experiment
from kdsr.foreign import find_fault
from kdsr.foreign.kinds import RUN_OPTIONS
from kdsr.options import Places
from kdsr.options.differences import list_option_differences

KEYS = {
    'name': str, 'about': str, 'seeds': list, 'baseline': str, 'import_modules': list, 'common': dict, 'runs': dict,
}  # fmt: skip
RUN_KEYS = ('base', 'needs', 'title', 'note', 'seeds')
KINDS = {str: 'a text', list: 'a list', dict: 'a mapping'}
NEEDED = ('name', 'seeds', 'baseline', 'runs')
OPTION_KEYS = (
    'model_type', 'scale', 'num_gpu', 'datasets', 'network_g', 'network_d', 'path', 'train', 'val', 'logger',
    'dist_params', 'find_unused_parameters', 'distillation', 'import_modules', *options.TABLE['top level'],
)  # fmt: skip
SET_BY_US = {'name': 'the comparison names its runs itself', 'manual_seed': 'write `seeds:` instead'}
_WORD = r'[A-Za-z0-9][\w.+-]*'


def read_comparison(path: str) -> Comparison:
    """Read a comparison file and build the options of all its runs. Nothing is written.

    Args:
        path: YAML file. A `base:` in it is looked for beside the file, then in the current folder.

    Raises:
        UserError: the file has a mistake; the message names it and its place.
    """
    top, places, repeated = options.read_with_places(path)
    if repeated:  # YAML silently takes the later of two equal keys: the first run of a repeated label would be lost
        raise UserError('\n'.join(map(str, repeated)))
    _check_top(path, top)
    plugins.import_named(top.get('import_modules'))
    blocks = {label: _merge_run(path, top, label) for label in top['runs']}
    _check_needs(path, blocks)
    runs = [run for label in blocks for run in _build_runs(path, top, places, blocks, label)]
    comparison = Comparison(
        file=path,
        name=top['name'],
        about=str(top.get('about') or ''),
        seeds=tuple(top['seeds']),
        baseline=top['baseline'],
        runs=tuple(runs),
    )
    _check_protocols(comparison, {need for block in blocks.values() for need in _list_needs(block)})
    return comparison


def _check_top(path: str, top: Mapping[str, Any]) -> None:
    for key, value in top.items():
        if key not in KEYS:
            raise UserError(f'{path}: unknown key {key!r}.{did_you_mean(key, KEYS)} Known: {", ".join(KEYS)}.')
        if value is not None and not isinstance(value, KEYS[key]):
            raise UserError(f'{path}: `{key}` must be {KINDS[KEYS[key]]}, is {value!r}.')
    missing = [key for key in NEEDED if not top.get(key)]
    if missing:
        raise UserError(f'{path}: missing: {", ".join(missing)}.')
    for word in (top['name'], *top['runs']):
        if not isinstance(word, str) or not re.fullmatch(_WORD, word) or 'debug' in word:
            raise UserError(
                f'{path}: {word!r} becomes a part of folder names: use only letters, digits, _ . + - and put the name '
                'for the report into `title:`. (BasicSR shortens runs with `debug` in their name.)'
            )
    _check_case(path, list(top['runs']))
    _check_seeds(f'{path}: `seeds`', top['seeds'])
    if top['baseline'] not in top['runs']:
        hint = did_you_mean(top['baseline'], top['runs']) or f' Labels: {", ".join(top["runs"])}.'
        raise UserError(f'{path}: `baseline: {top["baseline"]}` is not a label in `runs`.{hint}')


def _check_case(path: str, labels: list[str]) -> None:
    """Refuse labels that Windows and macOS take for one folder."""
    first: dict[str, str] = {}
    for label in labels:
        if first.setdefault(label.casefold(), label) != label:
            raise UserError(
                f'{path}: the runs {first[label.casefold()]!r} and {label!r} differ in nothing but small and capital '
                'letters. Windows and macOS would write both to one folder: rename one.'
            )


def _check_seeds(where: str, seeds: Any) -> None:
    good = isinstance(seeds, list) and seeds and all(type(s) is int and s >= 0 for s in seeds)
    if not good or len(set(seeds)) < len(seeds):
        raise UserError(f'{where} must be a list of different whole numbers, is {seeds!r}.')


def _merge_run(path: str, top: Mapping[str, Any], label: str) -> dict[str, Any]:
    """Merge `common` and the block of a run, and check their keys."""
    common, block = top.get('common') or {}, top['runs'][label]
    if not isinstance(block, dict):
        raise UserError(f'{path}: runs.{label} must be a mapping, for example {{base: options/....yml}}.')
    for where, keys in (('common', common), (f'runs.{label}', block)):
        for key in keys:
            if key in SET_BY_US:
                raise UserError(f'{path}: {where}.{key}: {SET_BY_US[key]}.')
    if 'seeds' in block:
        _check_seeds(f'{path}: runs.{label}.seeds', block['seeds'])
    return options.merge(common, block)


def _list_needs(block: Mapping[str, Any]) -> list[str]:
    needs = block.get('needs') or []
    return [str(n) for n in needs] if isinstance(needs, list) else [str(needs)]


def _check_needs(path: str, blocks: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuse `needs:` that name no run, or that form a circle."""

    def visit(label: str, seen: tuple[str, ...]) -> None:
        if label in seen:
            raise UserError(f'{path}: `needs:` forms a circle: {" -> ".join((*seen, label))}')
        for need in _list_needs(blocks[label]):
            if need not in blocks:
                hint = did_you_mean(need, blocks) or f' Labels: {", ".join(blocks)}.'
                raise UserError(f'{path}: runs.{label}.needs: there is no run {need!r}.{hint}')
            visit(need, (*seen, label))

    for label in blocks:
        visit(label, ())


def _build_runs(
    path: str, top: Mapping[str, Any], places: Places, blocks: Mapping[str, Any], label: str
) -> Iterator[PlannedRun]:
    block = blocks[label]
    where = f'{path}: runs.{label}'
    base_file = options.read(_find_base(path, where, block['base'])) if block.get('base') else None
    base = options.clean(base_file) if base_file else {}
    own_places = {
        place[len(start) :]: line
        for start in (('common',), ('runs', label))
        for place, line in places.items()
        if place[: len(start)] == start
    }
    changes = {key: value for key, value in block.items() if key not in RUN_KEYS}
    for key in changes:
        if key not in (*OPTION_KEYS, *base):
            raise UserError(f'{where}: unknown key {key!r}.{did_you_mean(key, (*RUN_KEYS, *OPTION_KEYS, *base))}')
    merged = {k: v for k, v in options.merge(base, changes).items() if k != 'name'}
    fault = find_fault(merged, RUN_OPTIONS)
    if fault is not None:
        raise UserError(f'{where}: {fault}.')
    checked = False
    for seed in block.get('seeds') or top['seeds']:
        name = f'{top["name"]}_{label}_seed{seed}'
        needed = {need: _find_experiment(where, top, blocks, need, seed) for need in _list_needs(block)}
        opt = options.complete({'name': name, **_fill_in(where, merged, needed, blocks), 'manual_seed': seed}, where)
        if not checked:  # the other seeds differ in nothing that could be wrong
            _check_options(
                where, options.OptionFile(path, opt, {**(base_file.places if base_file else {}), **own_places})
            )
        checked = True
        yield PlannedRun(
            label=label,
            seed=seed,
            name=name,
            title=str(block.get('title') or label),
            note=str(block.get('note') or ''),
            opt=opt,
            needs=tuple(needed.values()),
        )


def _find_base(path: str, where: str, base: Any) -> str:
    files = [os.path.normpath(os.path.join(folder, str(base))) for folder in (os.path.dirname(path), '')]
    for file in files:
        if os.path.isfile(file):
            return file
    looked = ' and '.join(map(repr, dict.fromkeys(files)))
    raise UserError(f'{where}.base: {base!r} does not exist (looked for {looked} in {os.getcwd()!r}).')


def _find_experiment(where: str, top: Mapping[str, Any], blocks: Mapping[str, Any], need: str, seed: int) -> str:
    """Return the experiment of a needed run: the one with the same seed, or the only one."""
    seeds = blocks[need].get('seeds') or top['seeds']
    if seed not in seeds and len(seeds) > 1:
        raise UserError(f'{where}: seed {seed} needs the same seed of {need!r}, which has only {seeds}.')
    return f'{top["name"]}_{need}_seed{seed if seed in seeds else seeds[0]}'


def _fill_in(where: str, value: Any, needed: Mapping[str, str], labels: Sequence[str] | Mapping[str, Any]) -> Any:
    """Replace `{label}` in all texts by the experiment folder of that needed run."""
    if isinstance(value, Mapping):
        return {key: _fill_in(where, item, needed, labels) for key, item in value.items()}
    if isinstance(value, list):
        return [_fill_in(where, item, needed, labels) for item in value]
    if not isinstance(value, str):
        return value

    def folder(match: re.Match[str]) -> str:
        label = match[1]
        if label in needed:
            return f'experiments/{needed[label]}'
        if label in labels:
            raise UserError(f'{where}: {value!r} uses a result of run {label!r}: add `needs: {label}`.')
        raise UserError(f'{where}: {value!r}: there is no run {label!r}.{did_you_mean(label, labels)}')

    return re.sub(rf'\{{({_WORD})\}}', folder, value)


def _check_options(where: str, file: options.OptionFile) -> None:
    """Refuse options that cannot be trained or that give no numbers."""
    experiment = read_experiment(file.opt)
    if not experiment.training.iterations:
        raise UserError(f'{where}: `train.total_iter` is missing: every run of a comparison needs a budget.')
    if not experiment.datasets.get('train'):
        raise UserError(f'{where}: `datasets.train` is missing.')
    phases = [phase for phase in experiment.datasets if phase.split('_')[0] == 'val']
    if not phases:
        raise UserError(f'{where}: there is no validation set: add `datasets: {{val_1: ...}}` (to `common:`).')
    if not experiment.validation.metrics:
        raise UserError(f'{where}: there is no metric: add `val: {{metrics: {{psnr: ...}}}}` (to `common:`).')
    sets = experiment.validation_sets
    if 'None' in sets or len(sets) < len(phases):
        raise UserError(f'{where}: every validation set needs its own `name:`.')
    errors = [problem for problem in find_problems(file, is_train=True, files=False) if problem.kind == options.ERROR]
    if errors:
        raise UserError(f'{where}:\n{options.list_problems(errors)}')


def _check_protocols(comparison: Comparison, stages: set[str]) -> None:
    """Refuse a run with another validation than the baseline, unless it is a stage that another run needs."""
    shown = comparison.shown
    baseline = describe_validation(comparison.baseline_run.experiment)
    for label in comparison.labels:
        if label not in shown and label not in stages:
            changed = list_option_differences(baseline, describe_validation(comparison.of(label)[0].experiment))
            raise UserError(
                f'{comparison.file}: runs.{label} has another validation than the baseline, so that their numbers '
                f'cannot be compared:\n{_format_bullets(changed)}\nPut the validation into `common:`.'
            )


def _format_bullets(lines: Sequence[str]) -> str:
    return '\n'.join(f'  - {line}' for line in lines)
