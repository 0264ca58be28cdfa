"""How a model takes in images, and runs its network on whole ones."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from basicsr.utils.color_util import rgb2ycbcr_pt
from torch import Tensor, nn

from kdsr.distillation.outputs import Batch
from kdsr.distillation.padding import run_padded
from kdsr.distillation.quadrants import run_in_quadrants
from kdsr.models.saving import SavedModel
from kdsr.models.validation import validate


class ValidatedModel(SavedModel):
    """A model whose validation takes images of any size, in colour or luminance, float or uint8.

    Attributes:
        chroma_source: The RGB image, where `lq` is its luminance.
        in_quadrants: Run the network on four quarters of an image.
    """

    chroma_source: Tensor | None = None
    in_quadrants = False

    def feed_data(self, data: dict[str, Any]) -> None:
        """Take a batch of float images in [0, 1], or of uint8 images."""
        if hasattr(self, 'gt'):  # of another batch; this one may have none
            del self.gt
        super().feed_data({key: data[key] for key in ('lq', 'gt') if key in data})
        self.take_cached(data)
        self.chroma_source = None
        for name in ('lq', 'gt') if 'gt' in data else ('lq',):
            image = getattr(self, name)
            if image.dtype == torch.uint8:
                image = image.float().div_(255)
            if self.experiment.luminance and image.shape[1] == 3:
                if name == 'lq':
                    self.chroma_source = image
                image = rgb2ycbcr_pt(image, y_only=True)
            setattr(self, name, image)

    def complete(self, batch: Batch) -> Batch:
        """Return a batch with all that the network's input is made of."""
        return batch

    def test(self) -> None:
        """Run the network on an image of any size, padded to its window; with `val.quadrants` in four parts (SAN)."""
        network: nn.Module = getattr(self, 'net_g_ema', self.net_g)
        network.eval()
        with torch.no_grad():
            padded = partial(run_padded, network, multiple=self.window())
            image = self.network_input(self.batch())
            self.output = run_in_quadrants(padded, image) if self.in_quadrants else padded(image)
        if network is self.net_g:
            network.train(self.is_train)

    def nondist_validation(self, dataloader: Any, current_iter: int, tb_logger: Any, save_img: bool) -> None:
        """Validate on one set, see `kdsr.models.validation`; `val.quadrants` may name the sets that it is for."""
        self.in_quadrants = self.experiment.validation.in_quadrants(dataloader.dataset.opt['name'])
        validate(self, dataloader, current_iter, tb_logger, save_img)
