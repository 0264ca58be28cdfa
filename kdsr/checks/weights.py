"""Do the weights of an experiment belong to its networks?"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

from kdsr.archs.convert import read_official
from kdsr.checks.skeletons import build_skeleton, is_buildable
from kdsr.compat.loading import pick_weights, read_checkpoint
from kdsr.distillation.checkpoint import describe_misfit
from kdsr.errors import UserError
from kdsr.experiment import Experiment, Network
from kdsr.options import Problem
from kdsr.wording import with_article


def find_weight_problems(
    experiment: Experiment, auto_resume: bool = False, strict: bool = True, thorough: bool = False
) -> Iterator[Problem]:
    """Yield weights that cannot be read, or are not those of their network.

    Missing files are not reported here.

    Args:
        experiment: A training or a test.
        auto_resume: The run resumes from the newest state, so it needs no initial weights.
        strict: Every tensor of the student's first weights must fit (`path.strict_load_g`).
        thorough: Compare every tensor, of teachers and aggregator too. A start does so when it loads them; without it,
            only the student's first weights are looked at.
    """
    started = auto_resume or experiment.resumes
    for network in experiment.networks:
        needed = (thorough and experiment.builds(network)) if network.frozen else not started
        if not needed or network.weights is None or not os.path.isfile(os.path.expanduser(network.weights)):
            continue
        every = thorough and (network.frozen or strict)
        try:
            problem = _find_misfit(network, network.weights, every)
        except UserError as error:
            problem = str(error)
        if problem is not None:
            yield Problem(network.weights_path, problem)


def _find_misfit(network: Network, file: str, every: bool) -> str | None:
    """Return why the weights of a file are not a network's; None also where it cannot be built here.

    Args:
        network: From the options.
        file: Of its weights.
        every: Every tensor must fit, not only one.
    """
    skeleton = build_skeleton(network.opt) if is_buildable(network.opt) else None
    if skeleton is None:
        return None
    weights = _pick(network, file)
    if not any(name in weights for name in skeleton.state_dict()):
        text = f'no tensor of {file!r} fits {network.opt["type"]}: the file is of another network.'
    elif every:
        text = describe_misfit(skeleton, weights, repr(file), network.name) or ''
    else:
        text = ''
    return f'{text}{_name_official(weights, file)}' if text else None


def _pick(network: Network, file: str) -> dict[str, Tensor]:
    """Return the weights that a start would load."""
    content: Mapping[str, Any] = read_checkpoint(file)
    if network.frozen:
        return pick_weights(content, file, network.param_key)
    key = next((key for key in (network.param_key, 'params') if key is not None and key in content), None)
    return pick_weights(content, file, key)


def _name_official(weights: dict[str, Tensor], file: str) -> str:
    """Say how to convert weights in the names of other projects; '' where they are none that kdsr knows."""
    try:
        network, _ = read_official(weights, file)
    except (ValueError, TypeError, RuntimeError, AssertionError, ArithmeticError, LookupError):
        return ''
    kind = with_article(network['type'])
    return f' It is {kind} in the names of its authors: run `kdsr convert {file} --out NEW.pth`, and name the new file.'
