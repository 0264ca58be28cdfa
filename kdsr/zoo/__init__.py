"""Small networks that come with kdsr: their files, and names that stand for them where a model is asked for.

That is in `kdsr upscale`, `export` and `benchmark`; option files name their weights by path.
"""

from __future__ import annotations

import os
from pathlib import Path

FOLDER = Path(__file__).parent


def names() -> list[str]:
    """Return the names of the networks."""
    return sorted(path.stem for path in FOLDER.glob('*.safetensors'))


def located(model: str) -> str:
    """Return the file of a network of the zoo for its name; anything else, and any file that is there, as it is."""
    inside = FOLDER / f'{model}.safetensors'
    return str(inside) if not os.path.isfile(model) and model == inside.stem and inside.is_file() else model
