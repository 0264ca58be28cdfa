"""What a run wrote into its log."""

import re


def log_of(folder):
    return next(folder.glob('train_*.log')).read_text()


def logged(folder, name):
    """All values of a loss in the log."""
    values = [float(value) for value in re.findall(rf'{name}: ([\d.e+-]+)', log_of(folder))]
    assert values
    return values
