"""What pyiqa says about its metrics, read without importing it: the import takes seconds and needs PyTorch."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

PYIQA = 'calculate_pyiqa'
_CONFIGURATIONS = 'default_model_configs.py'  # defines DEFAULT_CONFIGS and imports nothing else of pyiqa
_OF_WHOLE_SETS = ('fid', 'inception_score')  # they compare two folders, not two images


@dataclass(frozen=True)
class PyiqaFact:
    """One metric of pyiqa.

    Attributes:
        lower_is_better: Which values are better.
        needs_gt: It compares with a ground truth (pyiqa's mode FR); otherwise it judges the image alone (NR).
        of_sets: It judges whole sets of images, so a single image has no value.
    """

    lower_is_better: bool
    needs_gt: bool
    of_sets: bool


def read_pyiqa_facts() -> Mapping[str, PyiqaFact] | None:
    """Return the metrics of the installed pyiqa by name; None where it is not installed.

    Example:
        >>> facts = read_pyiqa_facts()
        >>> facts is None or facts['lpips'].lower_is_better
        True
    """
    try:
        spec = importlib.util.find_spec('pyiqa')
    except ValueError:  # its entry in sys.modules is None, or has no spec
        spec = None
    folders = [] if spec is None else list(spec.submodule_search_locations or ())
    return _read_facts(Path(folders[0])) if folders else None


@lru_cache(maxsize=4)
def _read_facts(folder: Path) -> Mapping[str, PyiqaFact]:
    spec = importlib.util.spec_from_file_location('_kdsr_pyiqa_configurations', folder / _CONFIGURATIONS)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return {
        name: PyiqaFact(
            lower_is_better=bool(given.get('lower_better', False)),
            needs_gt=given.get('metric_mode') == 'FR',
            of_sets=any(word in name for word in _OF_WHOLE_SETS),
        )
        for name, given in module.DEFAULT_CONFIGS.items()
    }
