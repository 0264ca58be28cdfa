"""The options that kdsr adds to a BasicSR YAML file: reading them, and checking them before anything is built."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from kdsr.errors import UserError, did_you_mean


@dataclass(frozen=True)
class Option:
    """One row of the option table.

    Attributes:
        types: What the value may be.
        doc: One sentence for people.
        required: Whether it must be given.
        choices: The only values allowed; empty for any.
    """

    types: tuple[type, ...]
    doc: str
    required: bool = False
    choices: tuple[Any, ...] = ()


WITHOUT_TEACHERS = ('SRModel', 'SwinIRModel', 'SRGANModel', 'ESRGANModel', 'RealESRNetModel', 'RealESRGANModel')

NETWORK = Option((dict,), "`type` and the network's own arguments, as in BasicSR's `network_g`.", required=True)
WEIGHTS = Option((str,), 'Checkpoint file. It must match the network to 100 %.', required=True)
PARAM_KEY = Option((str,), 'Key of the weights in the file; `params_ema`, then `params` when left out.')

TABLE: dict[str, dict[str, Option]] = {
    'distillation': {
        'health_check': Option((bool,), 'Refuse teachers that are worse than bicubic upsampling; true when left out.'),
        'teachers': Option((list,), 'The frozen teachers. Their order is part of the experiment.', required=True),
        'aggregator': Option((dict,), "A frozen network that fuses the teachers' images into one (MTKD, stage 2)."),
        'features': Option((dict,), 'Feature name to the module paths tapped in student and teacher, early to late.'),
        'losses': Option((dict,), 'Name in the log (`l_*`) to a loss of the registry and its arguments; `~` for none.'),
    },
    'val': {
        'quadrants': Option(
            (bool, list),
            'Run the student on four quarters of the image, as in the tables of SAN; or for which datasets.',
        ),
    },
    'distillation.teachers[]': {
        'name': Option((str,), 'Short name; unique, stored in the checkpoints of stage 1.', required=True),
        'network': NETWORK,
        'path': Option((str,), f'{WEIGHTS.doc} Left out where `network` names the file itself (`type: Spandrel`).'),
        'param_key': PARAM_KEY,
        'input': Option((str,), 'What the teacher is shown; `gt` for privileged information.', choices=('lq', 'gt')),
    },
    'distillation.aggregator': {'network': NETWORK, 'path': WEIGHTS, 'param_key': PARAM_KEY},
    'distillation.features.*': {
        'student': Option((str,), 'Module path in the student; `path:input` taps what goes into it.', required=True),
        'teacher': Option((str,), 'Module path in the teacher.', required=True),
        'from': Option((str,), 'Name of the teacher; needed when there are several.'),
    },
}

DEFAULTS: dict[str, Any] = {
    'num_gpu': 'auto',
    'path': {},
    'logger': {'print_freq': 100, 'save_checkpoint_freq': 5000, 'use_tb_logger': False},
}
VAL_DEFAULTS = {'val_freq': 5000, 'save_img': False}
TEST_DEFAULTS = {'save_img': False, 'suffix': None}
TRAIN_SET_DEFAULTS = {'use_hflip': False, 'use_rot': False, 'num_worker_per_gpu': 0}


class SafeLoader(yaml.SafeLoader):
    """PyYAML's safe loader that also reads `1e-4` as a number; mappings keep their order."""


class SafeDumper(yaml.SafeDumper):
    """PyYAML's safe dumper for :class:`SafeLoader`: the text '1e-4' is written in quotes."""


_SCIENTIFIC = re.compile(r'^[-+]?[0-9][0-9_]*(\.[0-9_]*)?[eE][-+]?[0-9]+$')
for _kind in (SafeLoader, SafeDumper):
    _kind.add_implicit_resolver('tag:yaml.org,2002:float', _SCIENTIFIC, list('-+0123456789'))


def parse_value(text: str) -> Any:
    """Read one value as YAML does: ``1e-4``, ``true``, ``~``, ``[1, 2]``; ``None`` is BasicSR's word for ``~``."""
    if text in ('None', 'none'):
        return None
    try:
        return yaml.load(text, Loader=SafeLoader)
    except yaml.YAMLError as error:
        raise UserError(f'cannot read the value {text!r}: {error}') from None


def merge(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return `base` with `changes` laid over it, mapping by mapping; lists and plain values are replaced.

    A mapping whose `type` changes is replaced whole: the arguments of another network or loss would not fit.
    """
    merged = dict(base)
    for key, value in changes.items():
        old = merged.get(key)
        same_kind = (
            isinstance(old, Mapping) and isinstance(value, Mapping) and value.get('type') in (None, old.get('type'))
        )
        merged[key] = merge(old, value) if same_kind else value  # type: ignore[arg-type]
    return merged


def read_yaml(path: str) -> dict[str, Any]:
    """Read one YAML file, without `base:`.

    Raises:
        UserError: the file is missing, is not YAML, asks for Python objects, or holds no mapping.
    """
    if not os.path.isfile(path):
        raise UserError(f'option file {path!r} does not exist (looked in {os.getcwd()!r}).')
    with open(path, encoding='utf-8') as file:
        try:
            opt = yaml.load(file, Loader=SafeLoader)
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise UserError(f'{path} is no YAML file: {error}') from None
    if not isinstance(opt, dict):
        raise UserError(f'{path}: an option file is a mapping (`name:`, `model_type:`, ...), this one is not.')
    return _plain(opt)  # copies: what anchors share in the file must not change together


def load(path: str, overrides: Iterable[str] = ()) -> dict[str, Any]:
    """Read an option file with what it is based on, overrides, and defaults for keys that BasicSR forgets.

    Args:
        path: YAML file. Its `base:`, if any, names the file that it varies, relative to itself.
        overrides: ``key:key=value`` as after BasicSR's `--force_yml`.

    Raises:
        UserError: a file or an override is wrong; the message says which.
    """
    opt = _with_defaults(_load_with_base(os.path.abspath(path), ()))
    for override in overrides:
        _override(opt, override)
    return opt


def load_experiment(path: str, overrides: Iterable[str] = ()) -> dict[str, Any]:
    """Read an option file that is to be run: :func:`load`, and the keys without which nothing runs must be there."""
    opt = load(path, overrides)
    needed = ['name', 'model_type', 'datasets', 'network_g']
    if opt.get('distillation') is not None:  # BasicSR also restores without enlarging
        needed.append('scale')
    missing = [key for key in needed if not opt.get(key)]
    train_set = opt.get('datasets', {}).get('train')
    if train_set is not None and 'gt_size' not in train_set and train_set.get('type') == 'PairedImageDataset':
        missing.append('datasets.train.gt_size')
    if missing:
        raise UserError(f'{path}: missing: {", ".join(missing)}.')
    chosen, names = opt.get('val', {}).get('quadrants'), [d.get('name') for d in opt['datasets'].values()]
    for name in chosen if isinstance(chosen, list) else ():
        if name not in names:
            raise UserError(
                f'{path}: val.quadrants: there is no dataset {name!r}.{did_you_mean(name, map(str, names))}'
            )
    if chosen and opt['model_type'] in WITHOUT_TEACHERS:
        raise UserError(
            f'{path}: val.quadrants needs `model_type: DistillationModel`, which also tests any lone network.'
        )
    return {**opt, 'name': str(opt['name'])}


def _with_defaults(opt: dict[str, Any]) -> dict[str, Any]:
    """Fill in what BasicSR reads without a default; a block that is switched off (`~`) is left out."""
    filled = merge(_plain(DEFAULTS), {k: v for k, v in opt.items() if v is not None or k not in DEFAULTS})
    datasets = {k: v for k, v in (filled.get('datasets') or {}).items() if v is not None}
    for phase, dataset in datasets.items():
        if phase == 'train' and isinstance(dataset, dict):
            datasets[phase] = merge(TRAIN_SET_DEFAULTS, dataset)
    if 'datasets' in filled:
        filled['datasets'] = datasets
    tests = any(str(phase).startswith('test') for phase in datasets)
    if tests or filled.get('val') is not None:
        filled['val'] = merge(TEST_DEFAULTS if tests else VAL_DEFAULTS, filled.get('val') or {})
    return {k: v for k, v in filled.items() if v is not None or k not in ('distillation', 'val')}


def _load_with_base(path: str, seen: tuple[str, ...]) -> dict[str, Any]:
    if path in seen:
        raise UserError(f'`base:` goes round in a circle: {" -> ".join((*seen, path))}')
    opt = read_yaml(path)
    base = opt.pop('base', None)
    if base is None:
        return opt
    base_path = os.path.normpath(os.path.join(os.path.dirname(path), str(base)))
    if not os.path.isfile(base_path):
        raise UserError(f'{path}: `base: {base}` does not exist (it is looked for beside the file, as {base_path!r}).')
    return merge(_load_with_base(base_path, (*seen, path)), opt)


def _override(opt: dict[str, Any], override: str) -> None:
    keys, equals, value = override.partition('=')
    if not equals:
        raise UserError(f'--force_yml {override!r}: write key:key=value, for example train:ema_decay=0.999')
    *parents, last = (k.strip() for k in keys.split(':'))
    node: Any = opt
    for key in parents:
        index: Any = int(key) if isinstance(node, list) and key.isdigit() else key
        try:
            node = node[index]
        except (KeyError, IndexError, TypeError):
            known = [str(k) for k in node] if isinstance(node, dict) else []
            raise UserError(f'--force_yml {override!r}: there is no {key!r}.{did_you_mean(key, known)}') from None
    if isinstance(node, list) and last.isdigit() and int(last) < len(node):
        node[int(last)] = parse_value(value.strip())
    elif isinstance(node, dict):
        node[last] = parse_value(value.strip())
    else:
        raise UserError(f'--force_yml {override!r}: {parents[-1] if parents else "it"!r} holds no {last!r}.')


def check(opt: Mapping[str, Any]) -> None:
    """Check the `distillation:` block.

    Raises:
        UserError: it lists every problem with its key and, where one is near, the likely word.
    """
    problems = list(_problems(opt))
    if problems:
        listed = '\n'.join(f'  - {p}' for p in problems)
        raise UserError(f'the `distillation:` block has mistakes:\n{listed}')


def _problems(opt: Mapping[str, Any]) -> Iterable[str]:
    block = opt.get('distillation')
    if opt.get('model_type') in WITHOUT_TEACHERS:
        yield (
            f'`model_type: {opt["model_type"]}` does not use the block, and would train without teachers. Did you '
            'mean `model_type: DistillationModel`? For the baseline, delete the block (`distillation: ~` in a variant).'
        )
    if not isinstance(block, dict):
        yield f'`distillation:` is missing: {opt.get("model_type")} needs at least its `teachers:`.'
        return
    yield from _check_keys('distillation', 'distillation', block)
    teachers = block['teachers'] if isinstance(block.get('teachers'), list) else []
    for i, teacher in enumerate(teachers):
        yield from _check_keys(f'distillation.teachers[{i}]', 'distillation.teachers[]', teacher)
        if isinstance(teacher, dict) and not teacher.get('path') and 'path' not in (teacher.get('network') or {}):
            yield f'distillation.teachers[{i}].path: missing. {WEIGHTS.doc}'
    names = [t.get('name') for t in teachers if isinstance(t, dict)]
    for name in sorted({str(n) for n in names if names.count(n) > 1}):
        yield f'distillation.teachers: the name {name!r} is used twice.'
    if isinstance(block.get('teachers'), list) and not teachers:
        yield 'distillation.teachers: the list is empty.'
    if block.get('aggregator') is not None:
        yield from _check_keys('distillation.aggregator', 'distillation.aggregator', block['aggregator'])
    for key in ('losses', 'features', 'aggregator') if opt.get('model_type') == 'AggregationModel' else ():
        if block.get(key):
            yield f'distillation.{key}: AggregationModel (stage 1) does not use it; it belongs to stage 2.'
    yield from _check_features(block.get('features'), names)
    yield from _check_losses(block.get('losses'))


def _check_features(features: Any, teachers: list[Any]) -> Iterable[str]:
    for name, pair in (features or {}).items() if isinstance(features, dict) else ():
        where = f'distillation.features.{name}'
        if not re.fullmatch(r'[A-Za-z_][\w.-]*', str(name)):
            yield f'{where}: a feature name is a word: letters, digits, _, - and dots.'
        yield from _check_keys(where, 'distillation.features.*', pair)
        chosen = pair.get('from') if isinstance(pair, dict) else None
        if chosen is None and len(teachers) > 1:
            yield f'{where}: with several teachers say which one: `from: {teachers[0]}`.'
        if chosen is not None and chosen not in teachers:
            yield f'{where}.from: there is no teacher {chosen!r}.{did_you_mean(chosen, map(str, teachers))}'


def _check_losses(losses: Any) -> Iterable[str]:
    for name, loss in (losses or {}).items() if isinstance(losses, dict) else ():
        where = f'distillation.losses.{name}'
        if loss is None:  # a variant switches off a loss of its base
            continue
        if not str(name).startswith('l_') or name in ('l_pix', 'l_percep', 'l_style'):
            yield f"{where}: the name is the log's; start it with 'l_' and leave BasicSR's l_pix, l_percep, l_style."
        if not isinstance(loss, dict) or 'type' not in loss:
            yield f'{where}: needs a `type:`, the name of a loss.'


def _check_keys(where: str, table: str, block: Any) -> Iterable[str]:
    known = TABLE[table]
    if not isinstance(block, dict):
        yield f'{where}: must be a mapping, is {block!r}.'
        return
    for key in block:
        if key not in known:
            yield f'{where}: unknown key {key!r}.{did_you_mean(key, known) or f" Known: {chr(44).join(known)}."}'
    for key, option in known.items():
        value = block.get(key)
        if value is None:
            if option.required:
                yield f'{where}.{key}: missing. {option.doc}'
        elif not isinstance(value, option.types):
            yield f'{where}.{key}: must be {" or ".join(t.__name__ for t in option.types)}, is {value!r}.'
        elif option.choices and value not in option.choices:
            yield f'{where}.{key}: must be one of {", ".join(option.choices)}, is {value!r}.'


def check_files(opt: Mapping[str, Any]) -> None:
    """Check that the data and weights that an experiment names are there, before anything is made.

    Raises:
        UserError: it lists everything that is missing.
    """
    problems = [*_missing_data(opt.get('datasets') or {}), *_missing_weights(opt)]
    if problems:
        listed = '\n'.join(f'  - {p}' for p in problems)
        raise UserError(
            f'files are missing (seen from {os.getcwd()!r}):\n{listed}\nHow to get them: datasets/README.md'
        )


def _missing_data(datasets: Mapping[str, Any]) -> Iterable[str]:
    for phase, dataset in datasets.items():
        backend = (dataset.get('io_backend') or {}).get('type')
        for key, path in dataset.items():
            if not key.startswith('dataroot') or not isinstance(path, str) or backend not in ('disk', 'lmdb'):
                continue
            path = os.path.expanduser(path)
            if not os.path.exists(path):
                begun = os.path.exists(f'{path}.partial')
                cure = ' `kdsr prepare` has begun it: run the same command again to finish it.' if begun else ''
                yield f'datasets.{phase}.{key}: {path}{cure}'
            elif backend == 'lmdb' and not os.path.isfile(os.path.join(path, 'meta_info.txt')):
                yield f'datasets.{phase}.{key}: {path}/meta_info.txt (the LMDB is not finished; make it again)'


def _missing_weights(opt: Mapping[str, Any]) -> Iterable[str]:
    resumes = opt.get('auto_resume') or (opt.get('path') or {}).get('resume_state')
    for key, path in (opt.get('path') or {}).items():
        if key.startswith('pretrain_network') and isinstance(path, str) and not resumes and not os.path.isfile(path):
            yield f'path.{key}: {path}'
    block = opt.get('distillation')
    needed = opt.get('is_train', True) or opt.get('model_type') == 'AggregationModel'  # a finished student stands alone
    if not isinstance(block, dict) or not needed:
        return
    named = {f'distillation.teachers[{i}]': t for i, t in enumerate(block.get('teachers') or [])}
    named['distillation.aggregator'] = block.get('aggregator')
    for where, network in named.items():
        path = network.get('path') if isinstance(network, dict) else None
        if isinstance(path, str) and not os.path.isfile(os.path.expanduser(path)):
            own = path.startswith('experiments/') and '/models/net_g_' in path
            yield f'{where}.path: {path}{" (first train the run that writes it)" if own else ""}'


def dump(opt: Mapping[str, Any]) -> str:
    """Write options as YAML, keys in their order."""
    return yaml.dump(
        _plain(opt), Dumper=SafeDumper, sort_keys=False, default_flow_style=None, allow_unicode=True, width=120
    )


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {k: _plain(v) for k, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, (list, tuple)) else value


def document() -> str:
    """Return the option table as Markdown; `make docs` writes it to docs/options.md."""
    lines = [
        '# Options',
        '',
        'Every key that kdsr adds to a BasicSR option file. Made by `make docs` from `kdsr/options.py`.',
        '',
        '`base: FILE` at the top names the option file that this one varies, relative to it. Mappings are merged key',
        'by key; lists and plain values are replaced; a mapping with another `type:` is replaced whole.',
        '',
        '`import_modules: [hat.archs]` imports other BasicSR-based packages, whose networks can then be named.',
    ]
    for block, rows in TABLE.items():
        lines += ['', f'## `{block}`', '', '| key | value | |', '|---|---|---|']
        for key, option in rows.items():
            kind = ' or '.join(option.choices) or ' or '.join(_KINDS[t] for t in option.types)
            required = ', required' if option.required else ''
            lines.append(f'| `{key}` | {kind}{required} | {option.doc} |')
    return '\n'.join(lines) + '\n'


_KINDS = {dict: 'mapping', list: 'list', str: 'text', bool: 'true or false', int: 'number', float: 'number'}
