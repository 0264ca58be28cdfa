"""Do the weights that an experiment starts from belong to its network?"""

from __future__ import annotations

import os
from collections.abc import Iterator

from kdsr.checks.skeletons import is_buildable, skeleton_of
from kdsr.compat.loading import pick_weights, read_checkpoint
from kdsr.errors import UserError
from kdsr.experiment import Experiment, Network
from kdsr.options import Problem


def find_weight_problems(experiment: Experiment, auto_resume: bool = False) -> Iterator[Problem]:
    """Yield start weights (`path.pretrain_network_g`) that cannot be read, or none of whose tensors fits the network.

    Missing files are not reported here.

    Args:
        experiment: A training or a test.
        auto_resume: The run resumes from the newest state, so it needs no initial weights.
    """
    if auto_resume or experiment.resumes:
        return
    for network in experiment.networks:
        if network.weights is None or network.frozen or not os.path.isfile(os.path.expanduser(network.weights)):
            continue
        try:
            fits = _has_fitting_tensor(network, network.weights)
        except UserError as error:
            yield Problem(network.weights_path, str(error))
            continue
        if not fits:
            text = f'no tensor of {network.weights!r} fits {network.opt["type"]}: the file is of another network.'
            yield Problem(network.weights_path, text)


def _has_fitting_tensor(network: Network, file: str) -> bool:
    """Return whether a tensor of the file has a name of the network; also where the network cannot be built here."""
    skeleton = skeleton_of(network.opt) if is_buildable(network.opt) else None
    if skeleton is None:
        return True
    content = read_checkpoint(file)
    key = next((key for key in (network.param_key, 'params') if key is not None and key in content), None)
    weights = pick_weights(content, file, key)
    return any(name in weights for name in skeleton.state_dict())
