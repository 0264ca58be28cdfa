"""The distillation losses, for example `kdsr.losses.ResponseLoss`.

Importing this package registers the losses of all `*_loss.py` modules in it with BasicSR.
"""

from basicsr.utils.registry import LOSS_REGISTRY

from kdsr.plugins import import_modules, registered_in

_CLASSES = registered_in(LOSS_REGISTRY, import_modules(__name__, suffix='_loss'))
globals().update(_CLASSES)
__all__ = sorted(_CLASSES)
