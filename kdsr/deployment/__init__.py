"""Trained networks outside training: exported to other formats, and enlarging anyone's images."""

from typing import Any

__all__ = ['Upscaler']


def __getattr__(name: str) -> Any:
    """Import :class:`~kdsr.deployment.upscaler.Upscaler`, and PyTorch with it, when it is first used."""
    if name == 'Upscaler':
        from kdsr.deployment.upscaler import Upscaler

        return Upscaler
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
