"""Repairs that BasicSR 1.4.2 needs on today's libraries: one function each, with its reason.

`imports` runs before BasicSR is imported. `kdsr.replacements` puts the other functions in BasicSR's place. A repair
changes nothing that already works.
"""
