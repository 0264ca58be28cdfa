"""The experiment that an option file describes, built once; the rules that its parts must keep."""

from kdsr.experiment.experiment import Experiment, Feature, InitFrom, Training, Validation
from kdsr.experiment.network import Network, argument_of, window_of
from kdsr.experiment.reading import check_networks, read_experiment

__all__ = [
    'Experiment',
    'Feature',
    'InitFrom',
    'Network',
    'Training',
    'Validation',
    'argument_of',
    'check_networks',
    'read_experiment',
    'window_of',
]
