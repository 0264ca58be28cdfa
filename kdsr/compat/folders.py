"""Starting a run whose folder exists."""

from __future__ import annotations

import itertools
import os

from basicsr.utils import get_time_str
from basicsr.utils import mkdir_and_rename as basicsr_mkdir_and_rename


def mkdir_and_rename(path: str) -> None:
    """Make a folder; rename an existing one as ``<path>_archived_<time>``, under a name that nothing has yet.

    BasicSR names it by the second, so the third start within a second fails: "Directory not empty".
    """
    if os.path.exists(path):
        first = f'{path}_archived_{get_time_str()}'
        names = itertools.chain([first], (f'{first}_{number}' for number in itertools.count(2)))
        archive = next(name for name in names if not os.path.exists(name))
        print(f'Path already exists. Rename it to {archive}', flush=True)  # noqa: T201 - as BasicSR does
        os.rename(path, archive)
    basicsr_mkdir_and_rename(path)
