"""The networks, for example `kdsr.archs.RFDN`.

Importing this package registers the networks of all `*_arch.py` modules in it with BasicSR.
"""

from basicsr.utils.registry import ARCH_REGISTRY

from kdsr.plugins import import_modules, registered_in

_CLASSES = registered_in(ARCH_REGISTRY, import_modules(__name__, suffix='_arch'))
globals().update(_CLASSES)
__all__ = sorted(_CLASSES)
