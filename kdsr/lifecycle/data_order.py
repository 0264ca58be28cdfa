"""What the order of the training samples depends on: a resumed run must draw the samples of the killed one."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterable
from typing import Any

from kdsr.errors import UserError


def describe_order(loader: Any, opt: dict[str, Any]) -> dict[str, Any]:
    """Return what the order of the samples and their crops depend on, as plain values for the training state."""
    train_set = opt['datasets']['train']
    return {
        'manual_seed': opt['manual_seed'],
        'processes': opt['world_size'],
        'batch_size_per_gpu': loader.batch_size,
        'dataset_enlarge_ratio': train_set.get('dataset_enlarge_ratio', 1),
        'gt_size': train_set.get('gt_size'),
        'training images': len(loader.dataset),
        'names of the images': _fingerprint(_list_names(loader.dataset)),
    }


def check_order(now: dict[str, Any], then: dict[str, Any], opt: dict[str, Any]) -> None:
    """Refuse to resume with other samples, unless `path.resume_with_other_data` allows it.

    Args:
        now: What :func:`describe_order` returns for this run.
        then: What it returned when the state was saved.
        opt: The options of the run.

    Raises:
        UserError: the two differ. The message lists how.
    """
    changed = [f'{name}: {then[name]}, now {value}' for name, value in now.items() if then.get(name, value) != value]
    if not changed:
        return
    state = opt['path']['resume_state']
    if not opt['path'].get('resume_with_other_data'):
        listed = '\n'.join(f'  - {line}' for line in changed)
        raise UserError(
            f'{state} was saved by a run that draws other samples:\n{listed}\n'
            'Undo the change to resume the run exactly. To resume it with other samples, add '
            '`--force_yml path:resume_with_other_data=true`.'
        )
    print(f'{state}: resumed with other data ({"; ".join(changed)}).', flush=True)  # noqa: T201


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
