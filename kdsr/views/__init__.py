"""Importing this package registers every `*_view.py` module in it, as BasicSR's own packages do with theirs."""

from kdsr.plugins import import_modules

import_modules(__name__, suffix='_view')
