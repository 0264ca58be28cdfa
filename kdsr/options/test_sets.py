"""The test sets of an option file that are on the disk."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from kdsr.options.reading import OptionFile
from kdsr.options.rows import block_of


def leave_out_missing_sets(file: OptionFile) -> tuple[OptionFile, dict[str, str]]:
    """Leave out the test sets of a file whose folders are not there.

    If no test set is there, the file stays as it is: the checks then list what is missing.

    Args:
        file: The options of a test.

    Returns:
        The file, and the name of each set that was left out to its missing folder.
    """
    sets = block_of(file.opt, 'datasets')
    missing = {key: _find_missing_folder(dataset) for key, dataset in sets.items() if str(key).startswith('test')}
    left_out = {key: folder for key, folder in missing.items() if folder}
    if len(left_out) == len(missing):
        return file, {}
    kept = {key: dataset for key, dataset in sets.items() if key not in left_out}
    named = {str(sets[key].get('name') or key): folder for key, folder in left_out.items()}
    return replace(file, opt={**file.opt, 'datasets': kept}), named


def _find_missing_folder(dataset: Any) -> str:
    """Return the first folder of a set of image files that is not there; an empty text where all are."""
    if not isinstance(dataset, Mapping) or block_of(dataset, 'io_backend').get('type') != 'disk':
        return ''
    folders = [str(dataset[key]) for key in ('dataroot_gt', 'dataroot_lq') if isinstance(dataset.get(key), str)]
    return next((folder for folder in folders if not os.path.exists(os.path.expanduser(folder))), '')
