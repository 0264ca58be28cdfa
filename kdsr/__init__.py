"""kdsr: knowledge distillation for image super-resolution, as a plugin for BasicSR.

``import kdsr`` is all it takes: BasicSR is repaired where today's libraries broke it (`kdsr.compat`), and kdsr's
networks, losses, datasets and models stand in BasicSR's registries.
"""

from kdsr import compat

__version__ = '0.1.0'

compat.apply()

# after compat: these import BasicSR
from kdsr import archs, data, losses, models  # noqa: E402, F401
