"""Train one experiment with BasicSR's pipeline, as `kdsr train` does: ``python kdsr/train.py -opt FILE.yml``."""

import os
import sys

sys.path[0] = os.path.abspath(os.path.join(__file__, os.pardir, os.pardir))  # the checkout, not this folder

from kdsr.cli import main  # noqa: E402 - processes of the data loader import this file too, and prepare kdsr by it

if __name__ == '__main__':
    main(['train', *sys.argv[1:]])
