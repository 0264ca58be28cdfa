"""What a run learns from, and in which order: a resumed run must draw the samples of the killed one."""

from __future__ import annotations

import math
import os
import zlib
from collections.abc import Callable, Iterable
from typing import Any

from kdsr.errors import UserError
from kdsr.wording import counted

_SPLIT = ('processes', 'batch_size_per_gpu')

# each returns names and digests of what the options of a run name: images, caches, teachers
content_digests: list[Callable[[dict[str, Any]], dict[str, str]]] = []


def describe_order(loader: Any, opt: dict[str, Any]) -> dict[str, Any]:
    """Return what the samples, their order and their crops depend on, as plain values for the training state.

    The digests of `content_digests` are made by the first process only, which saves the state.
    """
    contents = [digest(opt) for digest in content_digests] if opt.get('rank', 0) == 0 else []
    train_set = opt['datasets']['train']
    return {
        'manual_seed': opt['manual_seed'],
        'processes': opt['world_size'],
        'batch_size_per_gpu': loader.batch_size,
        'dataset_enlarge_ratio': train_set.get('dataset_enlarge_ratio', 1),
        'gt_size': train_set.get('gt_size'),
        'training images': len(loader.dataset),
        'names of the images': _fingerprint(_list_names(loader.dataset)),
        **{name: digest for content in contents for name, digest in content.items()},
    }


def check_order(now: dict[str, Any], then: dict[str, Any], opt: dict[str, Any]) -> None:
    """Refuse to resume with other samples or teachers, unless `path.resume_with_other_data` allows it.

    Another number of processes is fine where each step still gets the same samples (:func:`has_same_steps`).

    Args:
        now: What :func:`describe_order` returns for this run.
        then: What it returned when the state was saved.
        opt: The options of the run.

    Raises:
        UserError: the two differ. The message lists how.
    """
    state, regrouped = opt['path']['resume_state'], has_same_steps(now, then)
    compared = [name for name in now if not (regrouped and name in _SPLIT)]
    changed = [f'{name}: {then[name]}, now {now[name]}' for name in compared if then.get(name, now[name]) != now[name]]
    if regrouped:
        print(_describe_regrouping(state, now, then), flush=True)  # noqa: T201
    if not changed:
        return
    if not opt['path'].get('resume_with_other_data'):
        listed, fitting = '\n'.join(f'  - {line}' for line in changed), _suggest_batch_size(now, then)
        raise UserError(
            f'{state} was saved by a run with other data:\n{listed}\n'
            f'Undo the change to resume the run exactly.{fitting} To resume it with other data, add '
            '`--force_yml path:resume_with_other_data=true`.'
        )
    print(f'{state}: resumed with other data ({"; ".join(changed)}).', flush=True)  # noqa: T201


def has_same_steps(now: dict[str, Any], then: dict[str, Any]) -> bool:
    """Return whether another number of processes shares out the same samples in the same steps.

    Each process takes `batch_size_per_gpu` samples, and BasicSR fills an epoch up to a multiple of the processes.

    Args:
        now: See :func:`check_order`.
        then: Likewise.
    """
    if then.get('processes') in (None, now['processes']) or 'batch_size_per_gpu' not in then:
        return False
    return _samples_a_step(now) == _samples_a_step(then) and _samples_an_epoch(now) == _samples_an_epoch(then)


def _samples_a_step(order: dict[str, Any]) -> int:
    return int(order['processes'] * order['batch_size_per_gpu'])


def _samples_an_epoch(order: dict[str, Any]) -> int:
    wanted = order['training images'] * order['dataset_enlarge_ratio']
    return math.ceil(wanted / order['processes']) * int(order['processes'])


def _describe_regrouping(state: str, now: dict[str, Any], then: dict[str, Any]) -> str:
    processes = f'{counted(then["processes"], "process", "processes")}, resumed by {now["processes"]}'
    return (
        f'{state}: saved by a run of {processes}. Each step gets the same samples, and rounds sums otherwise. What '
        'draws in a step (views, stochastic depth) and what compares the samples of one process (FACD, instance '
        'affinity) differs.'
    )


def _suggest_batch_size(now: dict[str, Any], then: dict[str, Any]) -> str:
    """Return the batch size with which this number of processes gets the samples of the saved run, if there is one."""
    if then.get('processes') in (None, now['processes']) or 'batch_size_per_gpu' not in then:
        return ''
    size, rest = divmod(_samples_a_step(then), now['processes'])
    fitting = {**now, 'batch_size_per_gpu': size}
    if rest or not has_same_steps(fitting, then):
        return ''
    processes = counted(now['processes'], 'process', 'processes')
    return f' With {processes}, `batch_size_per_gpu: {size}` gives each step the same samples.'


def _list_names(samples: Any) -> list[str]:
    """Return the names of the training images in their order, as far as the training set lists them."""
    samples = getattr(samples, 'images', samples)  # of TeacherImagesDataset
    listed: Iterable[Any] = getattr(samples, 'paths', None) or getattr(samples, 'keys', None) or ()
    if callable(listed):
        return []
    paths = [entry.get('gt_path', '') if isinstance(entry, dict) else entry for entry in listed]
    return [os.path.splitext(os.path.basename(str(path)))[0] for path in paths]


def _fingerprint(names: list[str]) -> str:
    return f'{zlib.crc32(chr(10).join(names).encode(errors="surrogateescape")):08x}'
