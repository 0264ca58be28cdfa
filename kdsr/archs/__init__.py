"""Importing this package registers every `*_arch.py` module in it with BasicSR, as BasicSR's own packages do."""

from kdsr.plugins import import_modules

import_modules(__name__, suffix='_arch')
