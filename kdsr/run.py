"""Run a script with BasicSR repaired, as `kdsr run` does: ``python -m kdsr.run SCRIPT.py``."""

import os
import sys

sys.path[0] = os.path.abspath(os.path.join(__file__, os.pardir, os.pardir))  # the checkout, not this folder

from kdsr.cli import main  # noqa: E402 - processes of the data loader import this file too, and prepare kdsr by it

if __name__ == '__main__':
    main(['run', *sys.argv[1:]])
