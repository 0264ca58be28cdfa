"""Trained networks outside training: exported to other formats, and enlarging anyone's images."""

from kdsr.deployment.upscaler import Upscaler

__all__ = ['Upscaler']
