"""What BasicSR's models cannot do on a CPU: `.cuda()` calls, and memory layouts that only GPUs give."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

import torch
from basicsr.models import realesrgan_model, realesrnet_model, video_base_model, video_recurrent_model
from basicsr.utils import img_process_util
from torch import Tensor, nn

basicsr_filter2d = img_process_util.filter2D


@contextlib.contextmanager
def _cuda_means_here(device: torch.device) -> Iterator[None]:
    """Let `.cuda()` and `device='cuda'` of a new tensor mean the device of the run, where that is no GPU."""
    if device.type == 'cuda':
        yield
        return
    kept = torch.Tensor.cuda, nn.Module.cuda, torch.zeros
    zeros = torch.zeros

    def zeros_here(*args: Any, **kwargs: Any) -> torch.Tensor:
        return zeros(*args, **{**kwargs, **({'device': device} if kwargs.get('device') == 'cuda' else {})})

    torch.Tensor.cuda = lambda self, *args, **kwargs: self.to(device)  # type: ignore[method-assign]
    nn.Module.cuda = lambda self, *args, **kwargs: self.to(device)  # type: ignore[method-assign]
    torch.zeros = zeros_here
    try:
        yield
    finally:
        torch.Tensor.cuda, nn.Module.cuda, torch.zeros = kept  # type: ignore[method-assign]


def _on_own_device(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a method of a model that leaves its tensors on the model's device."""

    @functools.wraps(function, assigned=('__name__', '__doc__'))
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        device = getattr(self, 'device', None)
        if device is None:  # the constructor, before it knows the device
            device = torch.device('cuda' if args[0]['num_gpu'] != 0 else 'cpu')
        with _cuda_means_here(device):
            return function(self, *args, **kwargs)

    return method


init_realesrnet = _on_own_device(realesrnet_model.RealESRNetModel.__init__)
init_realesrgan = _on_own_device(realesrgan_model.RealESRGANModel.__init__)
fill_pool_of_realesrnet = _on_own_device(realesrnet_model.RealESRNetModel._dequeue_and_enqueue)
fill_pool_of_realesrgan = _on_own_device(realesrgan_model.RealESRGANModel._dequeue_and_enqueue)
validate_video = _on_own_device(video_base_model.VideoBaseModel.dist_validation)
_basicsr_validate = _on_own_device(video_recurrent_model.VideoRecurrentModel.dist_validation)


def validate_recurrent_video(self: Any, *args: Any, **kwargs: Any) -> None:
    """Validate with copies of the frames: BasicSR takes the batch axis off its input after it has fed it.

    On a GPU the model has a copy; on a CPU it is the same tensor.
    """
    feed_data = self.feed_data
    self.feed_data = lambda data: feed_data({k: v.clone() if isinstance(v, Tensor) else v for k, v in data.items()})
    try:
        _basicsr_validate(self, *args, **kwargs)
    finally:
        del self.feed_data


def filter2d(img: Tensor, kernel: Tensor) -> Tensor:
    """Filter images with a kernel, or each with its own, as BasicSR does; it cannot view channels-last images.

    Interpolation and JPEG give such images on a CPU.

    Args:
        img: (N, C, H, W).
        kernel: (1, k, k) or (N, k, k).
    """
    filtered: Tensor = basicsr_filter2d(img.contiguous(), kernel)
    return filtered
