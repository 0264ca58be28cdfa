"""Tiny networks whose exports are compared, and what they give in colour."""

import torch
from basicsr.archs import build_network

from kdsr.deployment.pixel_network import PixelNetwork
from tests.conftest import NETWORKS
from tests.helpers.networks import LUMINANCE, TINY

SRVGG = {'type': 'SRVGGNetCompact', 'num_in_ch': 3, 'num_out_ch': 3, 'num_feat': 8, 'num_conv': 2}
ALL = {**TINY, **NETWORKS, 'SRVGG': SRVGG}


def photo(height, width):
    generator = torch.Generator().manual_seed(height)
    small = torch.rand((1, 3, height // 4 + 1, width // 4 + 1), generator=generator)
    return torch.nn.functional.interpolate(small, (height, width), mode='bilinear')


def built(name, scale):
    torch.manual_seed(0)
    network = build_network({**ALL[name], 'upscale': scale}).eval()
    for parameter in network.parameters():  # attention starts near zero, where no mistake would show
        if parameter.ndim == 2:
            parameter.data *= 10
    return network


def in_rgb(network, name, scale, image):
    if name not in LUMINANCE:
        return network(image).clamp(0, 1)
    pixels = PixelNetwork(network, scale, luminance=True, channels=3, eight_bit=False)
    return pixels(image.permute(0, 2, 3, 1))[0].permute(0, 3, 1, 2)
