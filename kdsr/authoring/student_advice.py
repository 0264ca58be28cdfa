"""What to try before a teacher: advice on the student's own training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import kdsr.archs  # noqa: F401 - registers the networks
from kdsr import options
from kdsr.distillation.building import build_network_at
from kdsr.networks.facts import count_parameters

SMALL = 200_000  # parameters; docs/which_method.md has what was measured
LOW = 1e-3
TRIED = '4e-3 with `warmup_iter: 500`'


def advise_on_learning_rate(opt: Mapping[str, Any]) -> str | None:
    """Return a sentence where the learning rate of a small student is low; None otherwise.

    Args:
        opt: Complete options of the student's training.
    """
    optimiser = options.block_of(opt, 'train', 'optim_g')
    rate = optimiser.get('lr')
    if not isinstance(rate, (int, float)) or rate >= LOW or 'adam' not in str(optimiser.get('type')).lower():
        return None
    parameters = count_parameters(build_network_at('network_g', opt['network_g']))
    if parameters > SMALL:
        return None
    return (
        f'train.optim_g.lr: {rate:g} is low for {parameters:,} parameters. Compare with {TRIED} first: in our study '
        'that gained more than any teacher (docs/which_method.md).'
    )
