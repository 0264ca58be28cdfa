"""Small trained networks that come with kdsr.

`kdsr upscale`, `export` and `benchmark` take their names in place of a file. Option files name their weights by path.
"""

from __future__ import annotations

import os
from pathlib import Path

FOLDER = Path(__file__).parent
# Scale to what enlarges where no model is named: the network with the largest mean gain over bicubic on clean,
# JPEG-compressed and noisy images of Set5 and Set14 (benchmarks/results/zoo_on_photos_*).
DEFAULTS = {2: 'rfdn_small_photo_x2', 3: 'rfdn_small_photo_x3', 4: 'rfdn_small_photo_x4'}


def list_names() -> list[str]:
    """Return the names of the networks, sorted."""
    return sorted(path.stem for path in FOLDER.glob('*.safetensors'))


def find_file(model: str) -> str:
    """Return the file of a network of the zoo.

    Args:
        model: Its name. Any other text, and the path of any file that exists, is returned unchanged.
    """
    inside = FOLDER / f'{model}.safetensors'
    return str(inside) if not os.path.isfile(model) and model == inside.stem and inside.is_file() else model
