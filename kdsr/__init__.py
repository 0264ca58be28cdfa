"""kdsr: knowledge distillation for image super-resolution, as a plugin for BasicSR.

``import kdsr`` is all it takes: BasicSR is repaired where today's libraries broke it (`kdsr.compat`), its training
survives what ends it (`kdsr.lifecycle`), and kdsr's networks, losses, datasets and models stand in its registries.
"""

from kdsr import compat

__version__ = '0.1.0'

compat.apply()

# after compat: these import BasicSR
from kdsr import lifecycle  # noqa: E402

lifecycle.apply()

from kdsr import archs, data, losses, models  # noqa: E402, F401
from kdsr.checks.experiment import refuse_mistakes  # noqa: E402

compat.option_files.before_a_run.append(refuse_mistakes)
