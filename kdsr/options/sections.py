"""Find mistakes outside the `distillation:` block that the file alone shows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from kdsr.errors import did_you_mean
from kdsr.options.basicsr_keys import DATASETS, NUMBER, OBSOLETE, SCHEDULERS, SECTIONS
from kdsr.options.metrics import find_metric_problems
from kdsr.options.model_classes import MODEL_CLASSES, model_class_of
from kdsr.options.names import find_name_fault
from kdsr.options.problems import WARNING, KeyPath, Problem
from kdsr.options.rows import block_of, check_rows, refuse_key
from kdsr.options.table import PAIRED_SETS, TABLE, Option

TOP = 'top level'
NEEDED_IN_TRAINING = {
    'total_iter': 'missing: the number of iterations.',
    'optim_g': 'missing: for example {type: Adam, lr: 1e-4}.',
    'scheduler': 'missing: for example {type: MultiStepLR, milestones: [200000]}.',
}
WITHOUT_EFFECT_ON_MODELS = ('base', 'import_modules')
UNREAD = 'nothing reads this key (old files of BasicSR and other projects contain it); delete it.'
CROPPING_METRICS = ('calculate_psnr', 'calculate_ssim', 'calculate_psnr_pt', 'calculate_ssim_pt')


def rows_of(section: str) -> dict[str, Option]:
    """Return all keys of a section: BasicSR's and kdsr's."""
    return {**SECTIONS.get(section, {}), **TABLE.get(section, {})}


def check_sections(opt: Mapping[str, Any], is_train: bool) -> Iterator[Problem]:
    """Check every key that BasicSR and kdsr read, except for the `distillation:` block.

    Args:
        opt: All options, with defaults.
        is_train: For a training, not a test.

    Yields:
        The problems.
    """
    yield from _check_names(opt)
    yield from _check_top(opt)
    for section in ('path', 'train', 'val', 'logger', 'dist_params'):
        if opt.get(section) is not None:
            yield from check_rows((section,), opt[section], rows_of(section), partial(_judge_key, opt, section))
    wandb = block_of(opt, 'logger').get('wandb')
    if wandb is not None:
        yield from check_rows(('logger', 'wandb'), wandb, rows_of('logger.wandb'), _judge_wandb_key)
    yield from _check_datasets(opt, is_train)
    yield from _check_quadrants(opt)
    yield from _check_crop_borders(opt)
    yield from find_metric_problems(opt)
    if is_train:
        yield from _check_training(opt)
    else:
        yield from _check_tested(opt)


def find_ignored_keys(opt: Mapping[str, Any]) -> Iterator[Problem]:
    """Find keys of kdsr that a model class of BasicSR would ignore; with a `distillation:` block it reads `train`."""
    if model_class_of(opt.get('model_type')).package != 'BasicSR':
        return
    read = ('train',) if opt.get('distillation') else ()
    for section in (name for name in TABLE if not name.startswith('distillation') and name not in read):
        for key in TABLE[section]:
            path: KeyPath = (key,) if section == TOP else (section, key)
            if key not in WITHOUT_EFFECT_ON_MODELS and block_of(opt, *path[:-1]).get(key):
                text = f'`model_type: {opt["model_type"]}` is a class of BasicSR and would ignore this key.'
                yield Problem(path, f'{text} Did you mean `model_type: StudentModel`?')


def check_own_values(opt: Mapping[str, Any]) -> Iterator[Problem]:
    """Check the values of the keys that kdsr adds outside the `distillation:` block."""
    for section in (name for name in TABLE if not name.startswith('distillation')):
        path: KeyPath = () if section == TOP else (section,)
        block = block_of(opt, *path)
        yield from check_rows(path, block, TABLE[section], lambda key: None)


def _check_names(opt: Mapping[str, Any]) -> Iterator[Problem]:
    """Check the names that become parts of paths: of the experiment, of its image sets, of the images that it saves."""
    sets = block_of(opt, 'datasets')
    paths: list[KeyPath] = [('name',), ('val', 'suffix'), *(('datasets', phase, 'name') for phase in sets)]
    for path in paths:
        name = block_of(opt, *path[:-1]).get(path[-1])
        fault = None if name is None else find_name_fault(name)
        if fault is not None:
            yield Problem(path, fault)


def _check_top(opt: Mapping[str, Any]) -> Iterator[Problem]:
    rows = {key: option for key, option in rows_of(TOP).items() if key != 'distillation'}
    yield from check_rows((), opt, rows, partial(_judge_key, opt, TOP))
    if isinstance(opt.get('num_gpu'), str) and opt['num_gpu'] != 'auto':
        yield Problem(('num_gpu',), f'must be a whole number or `auto`, is {opt["num_gpu"]!r}.')
    paired = any(d.get('type') in PAIRED_SETS for d in block_of(opt, 'datasets').values() if isinstance(d, Mapping))
    if opt.get('scale') is None and (paired or opt.get('distillation') is not None):
        yield Problem(('scale',), 'missing: the upscaling factor.')
    model = model_class_of(opt.get('model_type'))
    if model.reads_window and 'window_size' not in block_of(opt, 'network_g'):
        yield Problem(('network_g',), f'{model.name} needs `window_size` here: add it, or use StudentModel.')


def _judge_key(opt: Mapping[str, Any], section: str, key: Any) -> Problem | None:
    """Return the problem of a key that is not in the table of its section, if any."""
    model, path = model_class_of(opt.get('model_type')), (key,) if section == TOP else (section, key)
    name = '.'.join(map(str, path))
    if name == 'distillation' or name in model.own_keys or _belongs_to_network(opt, section, str(key)):
        return None
    readers = [row.name for row in MODEL_CLASSES.values() if name in row.own_keys]
    if readers and model.known:
        if block_of(opt, *path[:-1]).get(key) is None:  # a variant switches off what its base has
            return None
        return Problem(path, f'{model.name} does not read this key; {", ".join(readers)} would.', WARNING)
    if not model.known and section in (TOP, 'path', 'train', 'val'):
        return None  # a model class of another package may read any key
    if key in OBSOLETE or (section == TOP and str(key).startswith('x-')):
        return Problem(path, UNREAD, WARNING)
    if section == TOP and str(key).startswith('network_'):
        text = 'unknown key. Teachers belong under `distillation: {teachers: [...]}`'
        return Problem(path, f'{text}; `kdsr distil FILE` translates files of other distillation code.')
    homes = [home for home in (TOP, 'train', 'val', 'path', 'logger') if home != section and key in rows_of(home)]
    elsewhere = f'unknown key here; it belongs {_describe_home(homes[0])}.' if homes else None
    return refuse_key(path[:-1], key, rows_of(section), elsewhere)


def _describe_home(section: str) -> str:
    return 'to the top level' if section == TOP else f'into `{section}:`'


def _belongs_to_network(opt: Mapping[str, Any], section: str, key: str) -> bool:
    """Return whether a key of `path` belongs to a network of the options."""
    networks = [str(name) for name in opt if str(name).startswith('network_')]
    if section != 'path':
        return False
    labels = {name[len('network_') :] for name in networks}
    return any(key in (f'pretrain_network_{n}', f'strict_load_{n}', f'param_key_{n}') for n in labels)


def _check_datasets(opt: Mapping[str, Any], is_train: bool) -> Iterator[Problem]:
    for phase, dataset in block_of(opt, 'datasets').items():
        where, first = ('datasets', phase), str(phase).split('_')[0]
        allowed = ('train', 'val') if is_train else ('train', 'val', 'test')
        if first not in allowed or (first == 'train' and phase != 'train'):
            hint = did_you_mean(phase, ('train', 'val', 'test'))
            yield Problem(
                where,
                f'the datasets of a training are `train`, `val`, `val_1`, ..., those of a test `test_1`, ....{hint}',
            )
            continue
        if not isinstance(dataset, Mapping):
            yield Problem(where, f'must be a mapping, is {dataset!r}.')
            continue
        yield from _check_dataset(where, dataset, first == 'train')


def _check_dataset(where: KeyPath, dataset: Mapping[str, Any], trains: bool) -> Iterator[Problem]:
    kind = dataset.get('type')
    rows = DATASETS.get(str(kind))
    if rows is None:  # of another package, or unknown: the check of the registry reports it
        return
    yield from check_rows(where, dataset, rows, lambda key: _judge_dataset_key(where, key, rows))
    backend = dataset.get('io_backend')
    if isinstance(backend, Mapping):
        yield from check_rows((*where, 'io_backend'), backend, SECTIONS['io_backend'])
    if trains and dataset.get('dataset_enlarge_ratio') == 0:
        yield Problem((*where, 'dataset_enlarge_ratio'), 'must be above 0, is 0: an epoch would have no images.')
    gt_size = dataset.get('gt_size')
    if trains and gt_size is None and kind in PAIRED_SETS:
        yield Problem((*where, 'gt_size'), f'missing. {rows["gt_size"].doc}')
    if trains and dataset.get('batch_size_per_gpu') is None:
        yield Problem((*where, 'batch_size_per_gpu'), f'missing. {rows["batch_size_per_gpu"].doc}')
    if trains and dataset.get('prefetch_mode') == 'cuda' and dataset.get('pin_memory') is not True:
        yield Problem((*where, 'prefetch_mode'), '`cuda` needs `pin_memory: true`.')
    template = dataset.get('filename_tmpl')
    if isinstance(template, str) and not _has_place_for_name(template):
        text = f"{template!r} must hold one {{}} for the name; write for example '{{}}x4'."
        yield Problem((*where, 'filename_tmpl'), text)
    backend_type = backend.get('type') if isinstance(backend, Mapping) else None
    for key in ('dataroot_gt', 'dataroot_lq') if backend_type == 'lmdb' and kind in PAIRED_SETS[:1] else ():
        root = dataset.get(key)
        if isinstance(root, str) and not root.endswith('.lmdb'):
            yield Problem((*where, key), f'{root!r}: with `io_backend: {{type: lmdb}}` the folder must end in .lmdb.')


def _has_place_for_name(template: str) -> bool:
    """Return whether BasicSR can put one name into a `filename_tmpl`: `{}x4`, `{0}x4`, `{:s}x4`."""
    try:
        return template.format('a') != template.format('b')
    except (IndexError, KeyError, ValueError, AttributeError):
        return False


def _judge_wandb_key(key: Any) -> Problem | None:
    where = ('logger', 'wandb')
    return (
        Problem((*where, key), UNREAD, WARNING) if key in OBSOLETE else refuse_key(where, key, rows_of('logger.wandb'))
    )


def _judge_dataset_key(where: KeyPath, key: Any, rows: Mapping[str, Option]) -> Problem | None:
    if key in OBSOLETE:
        return Problem((*where, key), UNREAD, WARNING)
    reader = next((name for name, other in DATASETS.items() if key in other), None)
    return refuse_key(where, key, rows, f'this dataset does not read the key; {reader} would.' if reader else None)


def _check_quadrants(opt: Mapping[str, Any]) -> Iterator[Problem]:
    chosen = block_of(opt, 'val').get('quadrants')
    names = [d.get('name') for d in block_of(opt, 'datasets').values() if isinstance(d, Mapping)]
    for i, name in enumerate(chosen if isinstance(chosen, list) else ()):
        if name not in names:
            hint = did_you_mean(name, map(str, names))
            yield Problem(('val', 'quadrants', i), f'there is no dataset {name!r}.{hint}')


def _check_crop_borders(opt: Mapping[str, Any]) -> Iterator[Problem]:
    scale = opt.get('scale')
    for name, metric in block_of(opt, 'val', 'metrics').items():
        border = metric.get('crop_border') if isinstance(metric, Mapping) else None
        if type(border) is not int or border == scale or metric.get('type') not in CROPPING_METRICS:
            continue
        text = f'{border}, but `scale` is {scale}: papers crop as many pixels as the scale, so these numbers differ.'
        if type(scale) is int and scale > 1 and not model_class_of(opt.get('model_type')).video:
            yield Problem(('val', 'metrics', name, 'crop_border'), text, WARNING)


def _check_training(opt: Mapping[str, Any]) -> Iterator[Problem]:
    train = opt.get('train')
    if not isinstance(train, Mapping):
        yield Problem(('train',), 'missing: losses, optimiser and schedule of the training.')
        return
    judged = model_class_of(opt.get('model_type')).known
    for key, text in NEEDED_IN_TRAINING.items():
        if judged and train.get(key) is None:
            yield Problem(('train', key), text)
    if 'train' not in block_of(opt, 'datasets'):
        yield Problem(('datasets',), 'missing: the training set, `train:`.')
    for key in ('optim_g', 'optim_d') if judged else ():
        if isinstance(train.get(key), Mapping):
            of_torch = train[key].get('type') not in (None, 'Adam')  # the check of the registries reads their arguments
            rest = (lambda key: None) if of_torch else None
            yield from check_rows(('train', key), train[key], SECTIONS['train.optim'], rest)
            yield from _check_betas(('train', key, 'betas'), train[key].get('betas'))
    yield from _check_discriminator(opt)
    if judged and isinstance(train.get('scheduler'), Mapping):
        yield from _check_scheduler(train['scheduler'], train.get('total_iter'))
    total, warmup = train.get('total_iter'), train.get('warmup_iter')
    if isinstance(total, NUMBER) and isinstance(warmup, NUMBER) and warmup >= total:
        yield Problem(
            ('train', 'warmup_iter'), f'the warm-up does not end before the training (`total_iter: {total}`).', WARNING
        )


def _check_discriminator(opt: Mapping[str, Any]) -> Iterator[Problem]:
    discriminator, crop = block_of(opt, 'network_d'), block_of(opt, 'datasets', 'train').get('gt_size')
    size = discriminator.get('input_size', 128)
    if discriminator.get('type') == 'VGGStyleDiscriminator' and isinstance(crop, int) and crop != size:
        text = f'VGGStyleDiscriminator takes crops of {size} pixels, but `datasets.train.gt_size` is {crop}'
        yield Problem(('network_d', 'input_size'), f'{text}: make them equal (128 or 256).')


def _check_tested(opt: Mapping[str, Any]) -> Iterator[Problem]:
    """A test without weights would score random numbers; networks that bring their weights name a file themselves."""
    weights = block_of(opt, 'path').get('pretrain_network_g')
    if weights is None and 'path' not in block_of(opt, 'network_g') and model_class_of(opt.get('model_type')).known:
        text = 'missing: the network would be tested with random weights. Name the file of its weights.'
        yield Problem(('path', 'pretrain_network_g'), text)


def _check_betas(path: KeyPath, betas: Any) -> Iterator[Problem]:
    if isinstance(betas, list) and (len(betas) != 2 or not all(isinstance(b, NUMBER) and 0 <= b < 1 for b in betas)):
        yield Problem(path, f'must be two numbers from 0 to below 1, for example [0.9, 0.999], is {betas!r}.')


def _check_scheduler(scheduler: Mapping[str, Any], total: Any) -> Iterator[Problem]:
    path, kind = ('train', 'scheduler'), scheduler.get('type')
    if not isinstance(kind, str) or kind not in SCHEDULERS:
        hint = did_you_mean(kind, SCHEDULERS) or f' BasicSR 1.4.2 has {", ".join(SCHEDULERS)}.'
        yield Problem((*path, 'type'), f'there is no scheduler {kind!r}.{hint}' if kind else f'missing.{hint}')
        return
    rows = SECTIONS[f'train.scheduler {SCHEDULERS[kind]}']
    yield from check_rows(path, scheduler, rows)
    lists = {key: scheduler.get(key) for key, row in rows.items() if row.types == (list,)}
    good = {}
    for key, values in lists.items():
        least = 1 if key == 'periods' else 0
        if isinstance(values, list) and not all(isinstance(v, NUMBER) and v >= least for v in values):
            yield Problem((*path, key), f'must be a list of numbers of at least {least}, is {values!r}.')
        elif isinstance(values, list):
            good[key] = values
    starts = 'periods' if 'periods' in rows else 'restarts'
    counts = [len(good.get(key, [1])) for key in (starts, 'restart_weights')]
    if counts[0] != counts[1] and (starts in good or starts == 'restarts'):
        yield Problem(
            (*path, 'restart_weights'),
            f'`{starts}` has {counts[0]} entries and `restart_weights` {counts[1]} (default: 1); '
            'both need the same number.',
        )
    if not isinstance(total, NUMBER):
        return
    if 'periods' in good and sum(good['periods']) < total - 1:
        yield Problem(
            (*path, 'periods'),
            f'the sum is {sum(good["periods"])}, less than `total_iter: {total}`: BasicSR stops with an error after '
            'the last period. Lengthen or add periods.',
        )
    late = [m for m in good.get('milestones', ()) if m > total]
    if late:
        yield Problem((*path, 'milestones'), f'{late[0]} is never reached (`total_iter: {total}`).', WARNING)
