"""Importing this package registers every `*_loss.py` module in it with BasicSR, as BasicSR's own packages do."""

from kdsr.plugins import import_modules

import_modules(__name__, suffix='_loss')
