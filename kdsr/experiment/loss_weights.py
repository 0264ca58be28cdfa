"""The factor on every term of the log, as the option file gives it."""

from __future__ import annotations

import inspect

from basicsr.utils.registry import LOSS_REGISTRY

from kdsr.experiment.experiment import Experiment, Options
from kdsr.options.basicsr_keys import NUMBER

# names in the log of BasicSR's losses: key in `train`, and the argument that is the factor
_IMAGE_TERMS = {
    'l_pix': ('pixel_opt', 'loss_weight'),
    'l_percep': ('perceptual_opt', 'perceptual_weight'),
    'l_style': ('perceptual_opt', 'style_weight'),
    'l_im': ('imitation_opt', 'loss_weight'),
}


def find_loss_weights(experiment: Experiment) -> dict[str, float]:
    """Return the name of each term in the log, and the factor that it is logged with.

    A term of a view is multiplied by the view's factor too.

    Args:
        experiment: A training.

    Example:
        >>> from kdsr.experiment import Experiment
        >>> from kdsr.options import model_class_of
        >>> losses = {'l_fit': {'type': 'FitNetLoss', 'loss_weight': 0.1}, 'l_kd': {'type': 'ResponseLoss'}}
        >>> find_loss_weights(Experiment('run', model_class_of('DistillationModel'), losses=losses))
        {'l_fit': 0.1, 'l_kd': 1.0}
    """
    given = experiment.training.image_losses
    weights = {name: _factor(given[key], argument) for name, (key, argument) in _IMAGE_TERMS.items() if given.get(key)}
    weights.update({name: _factor(opt, 'loss_weight') for name, opt in experiment.losses.items()})
    own = dict(weights)
    for view, opt in experiment.views.items():
        factor = opt.get('loss_weight', 1.0)
        factor = float(factor) if isinstance(factor, NUMBER) else 1.0
        weights.update({f'{name}_{view}': factor * weight for name, weight in own.items()})
    return weights


def _factor(opt: Options, argument: str) -> float:
    """Return an argument of a loss, given or by default; 1 where it has none."""
    value, kind = opt.get(argument), opt.get('type')
    if value is None and isinstance(kind, str) and kind in LOSS_REGISTRY:
        parameter = inspect.signature(LOSS_REGISTRY.get(kind)).parameters.get(argument)
        value = None if parameter is None else parameter.default
    return float(value) if isinstance(value, NUMBER) else 1.0
