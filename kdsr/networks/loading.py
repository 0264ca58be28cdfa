"""A trained network from whatever names it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from kdsr import zoo
from kdsr.networks.weight_files import build, identify


def load_network(model: str, network: Mapping[str, Any] | None = None) -> nn.Module:
    """Load a trained super-resolution network with its weights.

    Args:
        model: A name of `kdsr zoo`, a checkpoint (of BasicSR or kdsr, of `kdsr convert`, an official one that `kdsr
            convert` knows, or one that spandrel knows), or a safetensors file of `kdsr export`.
        network: `type` and arguments of the network, if the file does not say them.

    Returns:
        The network on the CPU, frozen and in eval mode. It maps (N, C, h, w) to (N, C, S*h, S*w), both in [0, 1]; C is
        3 (RGB) or 1 (Y of BT.601).

    Raises:
        UserError: the file is missing or damaged, or its weights do not fit the network.

    Example:
        >>> import kdsr, torch
        >>> network = kdsr.load_network('rfdn_tiny_x2')
        >>> network(torch.rand(1, 3, 20, 24)).shape
        torch.Size([1, 3, 40, 48])
    """
    path = zoo.find_file(model)
    network_opt, weights = identify(path, network)
    return build(label=model, network_opt=network_opt, weights=weights, path=path)
