"""Train one experiment with BasicSR's pipeline: ``python kdsr/train.py -opt options/mtkd_swinir_x4.yml``."""

import os
import sys

sys.path[0] = os.path.abspath(os.path.join(__file__, os.pardir, os.pardir))  # the checkout, not this folder

import kdsr  # noqa: E402, F401 - repairs BasicSR and registers everything; worker processes need it too

# isort: split
from basicsr.train import train_pipeline  # noqa: E402

from kdsr.errors import told_plainly  # noqa: E402

if __name__ == '__main__':
    with told_plainly():
        train_pipeline(os.getcwd())
