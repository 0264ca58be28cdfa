"""What the numbers of a benchmark depend on beside weights and images, and the resources that it may use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kdsr.data.benchmark_sets import locate_lr_cache
from kdsr.networks.candidates import Candidate
from kdsr.options.metrics import fill_direction
from kdsr.pyiqa_facts import PYIQA


@dataclass(frozen=True)
class Protocol:
    """How networks are run and scored. Every field changes the numbers.

    Attributes:
        rgb: Score the three colours instead of the Y channel.
        crop_border: Pixels that are cut from each border before scoring, from 0; None cuts as many as the scale.
        round_gt: Round the luminance of the ground truth, as the output of luminance networks is rounded.
        self_ensemble: Average the output over eight flips and turns of the input.
        quadrants: Run images in four quarters: all of them, or those of the named sets. None follows the option file.
        tile: Side of tiles in low-resolution pixels, from 0; 0 runs whole images.
        metrics: More than PSNR and SSIM: name to the options of a registered metric, as in `val.metrics`. They are
            measured in colour.
    """

    rgb: bool = False
    crop_border: int | None = None
    round_gt: bool = False
    self_ensemble: bool = False
    quadrants: bool | tuple[str, ...] | None = None
    tile: int = 0
    metrics: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def border(self, scale: int) -> int:
        """Return how many pixels are cut from each border at a scale."""
        return scale if self.crop_border is None else self.crop_border

    def in_quadrants(self, candidate: Candidate, set_name: str) -> bool:
        """Return whether a candidate runs the images of a set in four quarters."""
        chosen = candidate.quadrants if self.quadrants is None else self.quadrants
        return chosen if isinstance(chosen, bool) else set_name in chosen


@dataclass(frozen=True)
class Resources:
    """What a benchmark may use. None of it changes the numbers, except the kind of device in the last digits.

    Attributes:
        device: Where networks run: 'cpu', 'cuda', 'cuda:1', ...
        workers: Threads that read, score and write images, from 0; 0 uses the main thread only.
        lr_cache: Folder that keeps the LR images which had to be made.
        pictures: Folder for the super-resolved images; None writes none.
    """

    device: str = 'cpu'
    workers: int = 4
    lr_cache: Path = field(default_factory=locate_lr_cache)
    pictures: Path | None = None


def name_metrics(names: Sequence[str], download: bool = False) -> dict[str, dict[str, Any]]:
    """Return the options of metrics by name: BasicSR's `niqe`, and those of pyiqa.

    Args:
        names: For example niqe, lpips, dists.
        download: Let pyiqa download weights that are missing.

    Example:
        >>> name_metrics(['niqe'])
        {'niqe': {'type': 'calculate_niqe', 'better': 'lower'}}
    """
    ours = {'niqe': {'type': 'calculate_niqe'}}
    return {name: fill_direction(ours.get(name) or _name_pyiqa_metric(name, download)) for name in names}


def _name_pyiqa_metric(name: str, download: bool) -> dict[str, Any]:
    return {'type': PYIQA, 'metric': name, **({'download': True} if download else {})}
